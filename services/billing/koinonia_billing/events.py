"""What billing reacts to."""

from functools import partial

from koinonia.bus import Subscription
from koinonia.events.delivery import BroadcastStopped, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged, PaymentReported
from koinonia.events.messaging import MessageAccepted, MessageCompleted, MessageDue
from koinonia_billing import authorizations, payments, subscriptions, usage
from koinonia_billing.settings import BillingSettings


def listing(settings: BillingSettings) -> list[Subscription]:
    """Queues, and who handles their events."""
    return [
        Subscription("billing.churches", {ChurchChanged: partial(subscriptions.follow_church, settings=settings)}),
        Subscription(
            "billing.messages",
            {
                MessageAccepted: authorizations.expect,
                MessageDue: authorizations.authorize,
                MessageCompleted: authorizations.settle,
                BroadcastStopped: authorizations.credit,
            },
        ),
        Subscription("billing.usage", {RecipientsUpdated: usage.meter}, batch=200, linger_seconds=0.2),
        Subscription("billing.payments", {PaymentReported: payments.keep}, across=True),
    ]
