"""What Stripe tells is kept as it comes; what its ids stand for is asked there."""

from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.gateway import PaymentReported
from koinonia_billing.store import payments as store


async def keep(tx: Transaction, received: Envelope[PaymentReported]) -> None:
    """Keep a report, once."""
    await store.insert(tx, received.data)
