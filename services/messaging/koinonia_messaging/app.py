"""Wiring: alone in knowing all parts."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.trail import answering
from koinonia_messaging import events, trail
from koinonia_messaging.domain.brake import Brake
from koinonia_messaging.http import branches
from koinonia_messaging.http.groups import Groups
from koinonia_messaging.http.members import Members
from koinonia_messaging.http.messages import Messages
from koinonia_messaging.http.progress import Progress
from koinonia_messaging.http.sending import ChurchSending
from koinonia_messaging.http.stops import Stops
from koinonia_messaging.schedule import Bells, Schedule
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.watching import Watchers


def build(parts: Parts[MessagingSettings]) -> ServiceDefinition:
    """Put the service together."""
    bells = Bells()
    brake = Brake(sample=parts.settings.brake_sample, share=parts.settings.brake_share)
    schedule = Schedule(parts.database, parts.life, bells)
    watchers = Watchers(parts.database, parts.life)
    return ServiceDefinition(
        handlers={
            **branches.handlers(),
            **Groups(parts.keys).handlers(),
            **Members(parts.keys).handlers(),
            **Messages(bells, parts.settings.segment_price_cents).handlers(),
            **Stops(parts.database, parts.life).handlers(),
            **ChurchSending().handlers(),
            **Progress(parts.database, watchers).handlers(),
            **answering(trail.tell),
        },
        subscriptions=events.subscriptions(bells, brake),
        loops={"due": schedule.ask_for_due, "stream": schedule.stream, "watch": watchers.run},
    )
