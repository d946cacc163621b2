"""The simulated carrier of test keys: it answers in place of the real one, in our own database, and calls nobody.

A test's recipients stand in ``test_work`` instead of ``work``, so that no worker can claim one. Each step is one
transaction: a process that dies in it has done nothing, and two replicas never have the same row.

1. due rows are locked, as many of each church; those that another replica has are passed over;
2. the advisory locks of their churches are taken shared, as a claim does: an opt-out, cancel or pause that is being
   stored is waited for;
3. by a younger snapshot, the rows are read with what stands in their way, and the recipients locked in their order;
4. each is moved on or closed, and that is announced.
"""

import asyncio

import structlog

from koinonia.db import Database, Transaction
from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.keys import Keys
from koinonia_delivery.announcing import announce
from koinonia_delivery.claims import CLOSINGS
from koinonia_delivery.domain.simulating import Step, course_of, next_step, rest
from koinonia_delivery.store import simulating as store
from koinonia_delivery.store.simulating import Pending

log = structlog.get_logger()

BATCH = 500


async def simulate(database: Database, keys: Keys, stopping: asyncio.Event, batch: int = BATCH) -> int:
    """Answer test texts until none is due, or the process stops; how many steps that took."""
    total = 0
    while not stopping.is_set():
        async with database.across_churches() as tx:
            count = await _round(tx, keys, batch)
        if count == 0:
            break
        total += count
    return total


async def _round(tx: Transaction, keys: Keys, batch: int) -> int:
    taken = await store.take(tx, batch)
    if not taken:
        return 0
    await store.lock_churches(tx, {church_id for _, church_id in taken})
    pending = await store.read(tx, [recipient_id for recipient_id, _ in taken])
    steps = {each.recipient_id: _step(keys, each) for each in pending}
    changes = await store.apply(tx, steps, [each for each, _ in taken if each not in steps])
    await announce(
        tx,
        changes,
        {each.source_id: each.traceparent for each in pending},
        {each.source_id: each.correlation_id for each in pending},
    )
    return len(taken)


def _step(keys: Keys, each: Pending) -> Step:
    if each.obstacle == "held":
        return rest(each.status, each.held_seconds)
    if each.obstacle is not None:
        status, sentence = CLOSINGS[each.obstacle]
        code = None if each.obstacle == "cancelled" else each.obstacle
        return Step(was=each.status, became=status, error_code=code, error_message=sentence)
    try:
        phone = keys.decrypt(each.phone_ciphertext, each.church_id, "phone")
    except CiphertextInvalid:
        log.error("recipient_unreadable", recipient_id=str(each.recipient_id))  # a process with the key can read it
        return rest(each.status, each.held_seconds)
    return next_step(each.status, course_of(phone))
