"""What Stripe tells, handed on to billing once."""

from datetime import UTC, datetime

from koinonia.bus import inbox, outbox
from koinonia.db import Transaction
from koinonia.events.gateway import PaymentReported
from koinonia.ids import derived_id
from koinonia.stripe import StripeEvent, StripeObject

INBOX = "gateway.stripe"  # a door, not a queue: Stripe repeats an event for three days


async def report(tx: Transaction, event: StripeEvent, about: StripeObject) -> bool:
    """Put out an event; False: it was before. The same one at another replica is waited for.

    ``tx`` is across churches: whose customer it is, billing knows.
    """
    occurred_at = datetime.fromtimestamp(event.created, UTC)
    reported = PaymentReported(
        stripe_event_id=event.id,
        stripe_type=event.type,
        object_id=about.id,
        customer_id=about.customer,
        occurred_at=occurred_at,
        live=event.livemode,
    )
    event_id = derived_id(occurred_at, b"stripe", event.id.encode())
    envelope = outbox.envelope(tx, reported, church_id=None, event_id=event_id)
    new = await inbox.note(tx, INBOX, [envelope])
    await outbox.add_envelopes(tx, *new)
    return bool(new)
