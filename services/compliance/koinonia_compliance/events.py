"""What compliance reacts to."""

from functools import partial

from koinonia.bus import Subscription
from koinonia.events.audit import ActionRecorded
from koinonia.events.carrier import MessageReceived
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import AdminChanged, ChurchChanged
from koinonia.events.messaging import ConsentsGiven
from koinonia.security.keys import Keys
from koinonia_compliance import audit_log, churches, consents, inbound


def listing(keys: Keys) -> list[Subscription]:
    """Queues, and who handles their events."""
    return [
        Subscription(
            "compliance.churches",
            {
                ChurchChanged: churches.follow_church,
                AdminChanged: churches.follow_admin,
                NumberChanged: partial(churches.follow_number, keys=keys),
            },
        ),
        Subscription("compliance.inbound", {MessageReceived: partial(inbound.judge, keys=keys)}),
        Subscription("compliance.consents", {ConsentsGiven: consents.record}),
        # The log's own ids make a repeated event harmless.
        Subscription("compliance.audit", {ActionRecorded: audit_log.keep}, batch=200, linger_seconds=0.05, inbox=False),
    ]
