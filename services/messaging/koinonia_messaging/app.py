"""Wiring: alone in knowing all parts."""

from koinonia.service import Parts, ServiceDefinition
from koinonia_messaging import events
from koinonia_messaging.http import branches
from koinonia_messaging.http.groups import Groups
from koinonia_messaging.http.members import Members
from koinonia_messaging.http.messages import Messages
from koinonia_messaging.http.progress import Progress
from koinonia_messaging.schedule import Bells, Schedule
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.watching import Watchers


def build(parts: Parts[MessagingSettings]) -> ServiceDefinition:
    """Put the service together."""
    bells = Bells()
    schedule = Schedule(parts.database, parts.life, bells)
    watchers = Watchers(parts.database, parts.life)
    return ServiceDefinition(
        handlers={
            **branches.handlers(),
            **Groups(parts.keys).handlers(),
            **Members(parts.keys).handlers(),
            **Messages(bells, parts.settings.segment_price_cents).handlers(),
            **Progress(parts.database, watchers).handlers(),
        },
        subscriptions=events.subscriptions(bells),
        loops={"due": schedule.ask_for_due, "stream": schedule.stream, "watch": watchers.run},
    )
