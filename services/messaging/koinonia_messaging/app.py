"""Wiring: alone in knowing all parts."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.trail import answering
from koinonia_messaging import events, trail
from koinonia_messaging.domain.brake import Brake
from koinonia_messaging.domain.plans import Tariff
from koinonia_messaging.http import analytics, branches, templates
from koinonia_messaging.http.exports import Exports
from koinonia_messaging.http.groups import Groups
from koinonia_messaging.http.imports import Imports
from koinonia_messaging.http.members import Members
from koinonia_messaging.http.messages import Messages
from koinonia_messaging.http.progress import Progress
from koinonia_messaging.http.recurring import RecurringMessages
from koinonia_messaging.http.sending import ChurchSending
from koinonia_messaging.http.stops import Stops
from koinonia_messaging.importing import Importing
from koinonia_messaging.schedule import Bells, Schedule
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import weekly
from koinonia_messaging.watching import Watchers


def build(parts: Parts[MessagingSettings]) -> ServiceDefinition:
    """Put the service together."""
    bells = Bells()
    brake = Brake(sample=parts.settings.brake_sample, share=parts.settings.brake_share)
    schedule = Schedule(parts.database, parts.life, bells)
    importing = Importing(parts.database, parts.life, parts.keys)
    tariff = Tariff(
        segment_price_cents=parts.settings.segment_price_cents,
        rates={
            "long_code": parts.settings.long_code_rate,
            "toll_free": parts.settings.toll_free_rate,
            "short_code": parts.settings.short_code_rate,
        },
    )
    watchers = Watchers(parts.database, parts.life)
    return ServiceDefinition(
        handlers={
            **analytics.handlers(),
            **branches.handlers(),
            **templates.handlers(),
            **Groups(parts.keys).handlers(),
            **Exports(parts.database, parts.keys).handlers(),
            **Imports(parts.database, parts.keys, importing.bell).handlers(),
            **Members(parts.keys).handlers(),
            **Messages(bells, tariff).handlers(),
            **RecurringMessages().handlers(),
            **Stops(parts.database, parts.life).handlers(),
            **ChurchSending().handlers(),
            **Progress(parts.database, watchers).handlers(),
            **answering(trail.tell),
        },
        subscriptions=events.subscriptions(bells, brake),
        loops={
            "recur": schedule.recur,
            "due": schedule.ask_for_due,
            "stream": schedule.stream,
            "import": importing.run,
            "watch": watchers.run,
        },
        forgetting=(weekly.forget,),
    )
