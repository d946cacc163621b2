"""Consents that a church says were given, kept as proof. They lift no opt-out: what a person texted holds."""

from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.messaging import ConsentsGiven
from koinonia_compliance.store import consents as store


async def record(tx: Transaction, received: Envelope[ConsentsGiven]) -> None:
    """Keep them, each once; one statement."""
    await store.insert_stated(tx, received.data)
