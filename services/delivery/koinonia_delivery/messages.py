"""What messaging says of a whole broadcast: that there is one, that it was dispatched, or that it shall not go."""

from koinonia.db import Database, Transaction
from koinonia.events import Envelope
from koinonia.events.messaging import MessageAccepted, MessageCancelled, MessageDispatched
from koinonia_delivery.announcing import announce
from koinonia_delivery.store import broadcasts

CANCEL_ROWS = 5000
"""Rows cancelled in one transaction: more would hold locks for too long."""


async def note_accepted(tx: Transaction, received: Envelope[MessageAccepted]) -> None:
    """Know the broadcast, so that the list of its recipients is empty rather than not found."""
    await broadcasts.note_accepted(tx, received.data.message_id)


async def note_dispatched(tx: Transaction, received: Envelope[MessageDispatched]) -> None:
    """The whole audience was published."""
    message = received.data
    await broadcasts.note_dispatched(tx, message.message_id, message.dispatched_at, message.recipient_count)


async def cancel(tx: Transaction, received: Envelope[MessageCancelled]) -> None:
    """Set the tombstone, which later chunks and every claim meet, and cancel what waits; the sweep does the rest."""
    message_id = received.data.message_id
    dispatched_at = await broadcasts.cancel(tx, message_id, received.data.cancelled_at)
    if dispatched_at is not None:
        await announce(tx, await broadcasts.cancel_rows(tx, tx.tenant, message_id, dispatched_at, CANCEL_ROWS))


async def sweep_cancelled(database: Database) -> int:
    """Cancel what still waits of cancelled broadcasts, page by page; answers how many rows."""
    async with database.across_churches() as tx:
        unswept = await broadcasts.list_unswept(tx)
    return sum([await _sweep(database, broadcast) for broadcast in unswept])


async def _sweep(database: Database, broadcast: broadcasts.Cancelled) -> int:
    total = 0
    while True:
        async with database.tenant(broadcast.church_id) as tx:
            changes = await broadcasts.cancel_rows(
                tx, broadcast.church_id, broadcast.message_id, broadcast.dispatched_at, CANCEL_ROWS
            )
            await announce(tx, changes)
            if not changes:
                await broadcasts.note_swept(tx, broadcast.message_id)
                return total
        total += sum(change.rows for change in changes)
