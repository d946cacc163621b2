"""What messaging says of a whole broadcast: that there is one, that it was dispatched, rests, goes on, or shall not go.

A cancel, a pause and a resumption take their church's lock as a hold does: claims under way end before, and each later
one sees it. They only set a mark; the rows follow in pages, by sweeps that a bell wakes: no claim waits for them. A
sweep takes a page of each broadcast in turn, so that no church's stop waits for another's hundred thousand.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import msgspec

from koinonia.bus import Subscription, outbox
from koinonia.db import Database, Transaction
from koinonia.events import Envelope
from koinonia.events.delivery import BroadcastStopped
from koinonia.events.messaging import (
    MessageAccepted,
    MessageCancelled,
    MessageDispatched,
    MessagePaused,
    MessageResumed,
)
from koinonia_delivery.announcing import announce
from koinonia_delivery.store import broadcasts, simulating, suppressions

SWEEP_ROWS = 5000
"""Rows cancelled or moved in one transaction: more would hold locks for too long."""


@dataclass(frozen=True, slots=True)
class Bells:
    """What wakes the sweeps of this process."""

    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    moving: asyncio.Event = field(default_factory=asyncio.Event)


def subscription(bells: Bells) -> Subscription:
    """The queue of these events."""
    return Subscription(
        "delivery.messages",
        {
            MessageAccepted: note_accepted,
            MessageDispatched: note_dispatched,
            MessageCancelled: partial(cancel, bells=bells),
            MessagePaused: partial(pause, bells=bells),
            MessageResumed: partial(pause, bells=bells),
        },
    )


async def note_accepted(tx: Transaction, received: Envelope[MessageAccepted]) -> None:
    """Know the broadcast, so that the list of its recipients is empty rather than not found."""
    await broadcasts.note_accepted(tx, received.data.message_id)


async def note_dispatched(tx: Transaction, received: Envelope[MessageDispatched]) -> None:
    """The whole audience was published."""
    message = received.data
    await broadcasts.note_dispatched(tx, message.message_id, message.dispatched_at, message.recipient_count)


async def cancel(tx: Transaction, received: Envelope[MessageCancelled], bells: Bells) -> None:
    """Set the tombstone, which later chunks and every claim meet; the sweep cancels what waits."""
    said = received.data
    if said.test:
        await simulating.wake(tx)
    await suppressions.lock_claims(tx, tx.tenant)
    await broadcasts.cancel(tx, said.message_id, said.cancelled_at, test=said.test)
    tx.after_commit(bells.cancelled.set)


async def pause(tx: Transaction, received: Envelope[MessagePaused] | Envelope[MessageResumed], bells: Bells) -> None:
    """Note that a broadcast rests or goes on, unless a newer state is known; the sweep moves what waits.

    The lock also keeps a claim under way from setting a row aside that a resumption has passed.
    """
    said = received.data
    if said.test and isinstance(said, MessageResumed):
        await simulating.wake(tx)
    await suppressions.lock_claims(tx, tx.tenant)
    paused_at = said.paused_at if isinstance(said, MessagePaused) else None
    if await broadcasts.pause(tx, said.message_id, said.version, paused_at):
        tx.after_commit(bells.moving.set)


async def sweep_cancelled(database: Database) -> int:
    """Cancel what waits of cancelled broadcasts; answers how many rows."""
    total = 0
    while True:
        async with database.across_churches() as tx:
            unswept = await broadcasts.list_unswept(tx)
        if not unswept:
            return total + await _cancel_put_back(database)
        total += sum([await _cancel_page(database, each) for each in unswept])


async def _cancel_put_back(database: Database) -> int:
    """Cancel what workers have put back since the sweep: where the church or number rests, no claim will meet it."""
    total = 0
    async with database.across_churches() as tx:
        ending = await broadcasts.list_ending(tx)
    for each in ending:
        async with database.tenant(each.church_id) as tx:
            changes = await broadcasts.cancel_rows(tx, each, SWEEP_ROWS)
            await announce(tx, changes)
            await broadcasts.note_ended(tx, each)
        total += sum(change.rows for change in changes)
    return total


async def _cancel_page(database: Database, broadcast: broadcasts.Cancelled) -> int:
    """Cancel a page of what waits; after the last, nothing can be claimed any more, and the figures are told, once."""
    async with database.tenant(broadcast.church_id) as tx:
        changes = await broadcasts.cancel_rows(tx, broadcast, SWEEP_ROWS)
        await announce(tx, changes)
        if not changes and await broadcasts.note_swept(tx, broadcast.message_id):
            gone = await broadcasts.count_gone(tx, broadcast)
            figures = msgspec.structs.asdict(gone)
            await outbox.add(tx, BroadcastStopped(message_id=broadcast.message_id, **figures, test=broadcast.test))
    return sum(change.rows for change in changes)


async def move_rows(database: Database) -> int:
    """Let the rows of paused broadcasts stand aside, and those of resumed ones come back; answers how many rows."""
    total = 0
    reached: dict[tuple[UUID, int], UUID | None] = {}
    while True:
        async with database.across_churches() as tx:
            moving = await broadcasts.list_moving(tx)
        if not moving:
            return total
        for each in moving:
            place = (each.message_id, each.version)
            async with database.tenant(each.church_id) as tx:
                count, reached[place] = await broadcasts.move(tx, each, reached.get(place), SWEEP_ROWS)
            total += count
