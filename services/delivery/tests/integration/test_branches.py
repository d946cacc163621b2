"""Each change of a broadcast's rows is told with its part by branch: added up, it is what the rows are."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia import clock
from koinonia.carrier.contract import Rejected
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_delivery import recipients
from koinonia_delivery.announcing import announce
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.states import counted
from koinonia_delivery.simulating import simulate
from koinonia_delivery.store import doubts

Told = dict[UUID | None, Counter[str]]


async def told(world: World, message_id: UUID) -> Told:
    """What all events about a message come to, by branch; each says as much of branches as of the message."""
    branches: Told = {}
    for update in await world.updates():
        assert update.source_id == message_id
        total: Counter[str] = Counter()
        for part in update.branches:
            total.update(part.changes)
            branches.setdefault(part.branch_id, Counter()).update(part.changes)
        assert {status: count for status, count in total.items() if count} == update.changes
    return {place: +counts for place, counts in branches.items()}


async def standing(world: World, message_id: UUID) -> Told:
    branches: Told = {}
    for row in await world.rows(message_id):
        branches.setdefault(row["branch_id"], Counter())[counted(row["status"])] += 1
    return branches


def owner(world: World) -> Identity:
    return Identity(
        church_id=world.church_id,
        principal_id=new_id(),
        principal_kind="session",
        role="owner",
        mfa_verified=False,
        address="127.0.0.1",
        request_id="test",
        expires_at=clock.now() + timedelta(hours=1),
        method="POST",
        path="/",
    )


async def check(world: World, message_id: UUID) -> None:
    assert await told(world, message_id) == await standing(world, message_id)


async def test_what_becomes_of_a_broadcasts_rows_is_told_by_branch(world: World) -> None:
    north, south = new_id(), new_id()
    people = [world.person(number, branch_id=(north, south)[number % 2]) for number in range(12)]
    people.append(world.person(12, branch_id=south, left_out="no_consent"))
    chunk = world.chunk(people)
    message_id = chunk.message_id
    for _ in range(2):
        await world.apply("delivery.chunks", chunk)
    await check(world, message_id)
    assert {place: counts.total() for place, counts in (await told(world, message_id)).items()} == {north: 6, south: 7}
    calls = [call.claimed for call in (await world.claim(8)).calls]
    await world.settle(
        *(accepted(each, f"c{number}") for number, each in enumerate(calls[:3])),
        outcomes.unknown(attempt_of(calls[3]), 0.0),
        outcomes.failed(attempt_of(calls[4]), Rejected("No.", carrier_code="40310"), 30),
    )
    await check(world, message_id)
    for _ in range(2):
        await world.receive(*(receipt(each.recipient_id, "delivered") for each in calls[:2]))
    await check(world, message_id)
    await world.let_pass(minutes=5)  # leases end
    async with world.database.across_churches() as tx:
        lost = await doubts.reap(tx, 100, "Lost.", 0.0, resend=False)
        await announce(tx, lost)
    await check(world, message_id)
    async with world.database.across_churches() as tx:
        found = await doubts.take(tx, 2, 60.0, resend=False)
        await announce(tx, await doubts.give_up(tx, found, "Nobody knows."))
    await check(world, message_id)
    unknown = next(row["id"] for row in await world.rows(message_id) if row["status"] == "unknown")
    async with world.database.tenant(world.church_id) as tx:
        await recipients.resolve(tx, message_id, unknown, "close", identity=owner(world))
    await check(world, message_id)
    waiting = {row["phone_index"] for row in await world.rows(message_id) if row["status"] == "queued"}
    await world.suppress(next(number for number in range(12) if people[number].phone_index in waiting))
    await world.claim()
    await check(world, message_id)
    final = await standing(world, message_id)
    met = {status for counts in final.values() for status in counts}
    assert met >= {"delivered", "sent", "failed", "unconfirmed", "suppressed"}


async def test_what_waits_of_a_cancelled_broadcast_is_told_by_branch(world: World) -> None:
    north, south = new_id(), new_id()
    chunk = world.chunk([world.person(number, branch_id=(north, south)[number % 2]) for number in range(5)])
    await world.apply("delivery.chunks", chunk)
    await world.cancel(chunk.message_id)
    assert await told(world, chunk.message_id) == await standing(world, chunk.message_id)
    assert await standing(world, chunk.message_id) == {north: {"cancelled": 3}, south: {"cancelled": 2}}


async def test_a_test_is_told_by_branch(world: World) -> None:
    north = new_id()
    chunk = world.chunk([world.person(number, branch_id=north) for number in range(3)], test=True)
    await world.apply("delivery.chunks", chunk)
    await simulate(world.database, world.keys, asyncio.Event())
    assert await standing(world, chunk.message_id) == {north: {"sent": 3}}
    await check(world, chunk.message_id)


async def test_rows_that_were_stored_without_a_branch_are_in_none(world: World) -> None:
    message_id = await world.store(2)
    (call,) = (await world.claim(1)).calls
    await world.settle(accepted(call.claimed))
    assert [(update.changes, update.branches) for update in await world.updates()] == [({"queued": -1, "sent": 1}, ())]
    assert await standing(world, message_id) == {None: {"queued": 1, "sent": 1}}
