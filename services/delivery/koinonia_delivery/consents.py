"""Withdrawn consent stops what is queued already: no claim of the church passes a withdrawal by."""

from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.messaging import MembersChanged
from koinonia_delivery.store import consents, suppressions


async def follow(tx: Transaction, received: Envelope[MembersChanged]) -> None:
    """Take over who consents. Whether a phone nobody told us of may be texted, messaging decided when streaming."""
    await suppressions.lock_claims(tx, tx.tenant)
    await consents.upsert(tx, received.data.members)
