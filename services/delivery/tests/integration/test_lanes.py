"""No text is forgotten: what can be claimed has a lane that wakes for it, whoever stores and claims at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal
from unittest.mock import ANY
from uuid import UUID

import asyncpg
import pytest
from services.delivery.tests.integration.conftest import LOCK_ROWS, World, accepted, settings_for

from koinonia import clock
from koinonia.carrier.contract import Refused, Rejected
from koinonia.db import statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionRemoved
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageCancelled
from koinonia.ids import new_id
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.claims import Call
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.choosing import LOOK_AGAIN_SECONDS, Choice
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.messages import sweep_cancelled
from koinonia_delivery.store import claims as store
from koinonia_delivery.store import doubts as doubt_store
from koinonia_delivery.store import resolving
from koinonia_delivery.store.claims import REPEAT_HOURS

WaitUntil = Callable[..., Awaitable[object]]

LANE = statement("test.lane", "SELECT wake_at, urgent_at FROM lanes WHERE church_id = $1")
LOCK_WORK = statement("test.lock_work", "SELECT FROM work WHERE recipient_id = $1 FOR UPDATE")
SLEEP = statement("test.sleep", "UPDATE lanes SET wake_at = NULL, urgent_at = NULL")
# What may be claimed and has no lane that wakes for it in time: each such row is a text that nobody would ever send.
FORGOTTEN = statement(
    "test.forgotten",
    """
    SELECT work.recipient_id, work.state, work.priority, work.due_at, numbers.next_free_at, lanes.*
    FROM work
    JOIN numbers ON numbers.id = work.number_id AND numbers.status = 'active'
    LEFT JOIN lanes ON lanes.church_id = work.church_id
    WHERE (
            work.state = 'ready'
            OR (
                work.state = 'unknown' AND work.resend
                AND work.group_started_at > clock_timestamp() - make_interval(hours => $1)
            )
        )
        AND (
            CASE work.priority WHEN 0 THEN least(lanes.wake_at, lanes.urgent_at) ELSE lanes.wake_at END
                <= greatest(work.due_at, numbers.next_free_at, clock_timestamp()) + make_interval(secs => $2)
        ) IS NOT TRUE
    """,
)


async def lane_of(world: World) -> tuple[bool, bool]:
    """Whether the church's lane is awake, or will wake by itself; and for urgent texts."""
    async with world.database.across_churches() as tx:
        row = await tx.fetch_row(LANE, world.church_id)
    return (False, False) if row is None else (row["wake_at"] is not None, row["urgent_at"] is not None)


async def test_a_lane_sleeps_once_nothing_is_left_and_wakes_for_a_chunk_and_a_reply(world: World) -> None:
    assert await lane_of(world) == (False, False)
    await world.store(2)
    assert await lane_of(world) == (True, False)
    await world.claim()
    assert await lane_of(world) == (False, False)
    await world.reply(5)
    assert await lane_of(world) == (True, True)
    await world.claim()
    assert await lane_of(world) == (False, False)


async def test_a_chunk_that_is_stored_while_a_claim_puts_the_lane_to_sleep_wakes_it(world: World) -> None:
    await world.store(1)
    async with world.database.across_churches() as tx:
        church_ids = await store.lock_lanes(tx, 5)
        picked = await store.pick(tx, church_ids, 5, resend=True)
        storing = asyncio.create_task(world.store(1))
        await world.until_waiting(storing, 1, "the chunk did not wait for the claim")
        assert len(picked.candidates) == 1
        await tx.execute(SLEEP)  # as the claim does, which has not seen the chunk
    await storing
    assert await lane_of(world) == (True, False)


async def test_a_claim_passes_over_the_lane_that_a_chunk_is_waking(world: World) -> None:
    await world.store(1)
    async with world.database.tenant(world.church_id) as tx:
        await tx.execute(SLEEP)  # holds the lane, as whoever wakes it
        async with asyncio.timeout(5):
            claimed = await world.claim_as_it_is()
    assert not claimed.calls
    assert claimed.wake_seconds is not None
    assert claimed.wake_seconds < 0  # awake, and locked: the worker looks again at once


async def test_two_settlements_of_several_churches_wake_their_lanes_without_a_deadlock(world: World) -> None:
    others = [await another_church(world) for _ in range(3)]
    for each in (world, *others):
        await each.store(40)
    calls = (await world.claim(160)).calls
    assert len(calls) == 160
    refused = [outcomes.failed(attempt_of(each.claimed), Refused("later"), 30) for each in calls]
    halves = [refused[::2], refused[1::2][::-1]]
    await asyncio.gather(*(world.settle(*half) for half in halves))
    for each in (world, *others):
        assert await lane_of(each) == (True, False)


async def test_a_lane_wakes_for_the_repeat_of_an_unknown_one(world: World) -> None:
    await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 30))
    assert await lane_of(world) == (True, False)
    assert not (await world.claim()).calls
    assert await lane_of(world) == (True, False)


async def test_a_claim_that_is_rolled_back_leaves_its_lanes_awake(world: World) -> None:
    await world.store()
    with pytest.raises(RuntimeError):
        async with world.database.across_churches() as tx:
            church_ids = await store.lock_lanes(tx, 5)
            picked = await store.pick(tx, church_ids, 5, resend=True)
            await store.take(tx, [], Choice(), picked.now, 30.0)
            await tx.execute(SLEEP)
            raise RuntimeError("killed")
    await world.claim_one()


async def test_a_suspended_church_sleeps_and_wakes_with_its_numbers(world: World) -> None:
    await world.apply("delivery.churches", changed(world, 1, "suspended"))
    await world.store()
    assert not (await world.claim()).calls
    assert await lane_of(world) == (False, False)
    await world.apply("delivery.churches", changed(world, 2, "active"))
    await world.claim_one()


async def test_a_resent_one_wakes_its_lane_as_urgent(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    world.settings = settings_for(telnyx_idempotency=False)
    await world.settle(outcomes.unknown(attempt_of(claimed), 30))
    assert not (await world.claim()).calls
    assert await lane_of(world) == (False, False)
    await resend(world, message_id, claimed.recipient_id)
    assert await lane_of(world) == (True, True)


async def test_what_others_have_locked_keeps_the_lane_awake(world: World) -> None:
    await world.store(1)
    (work,) = await world.work()
    async with world.database.across_churches() as tx:
        await tx.fetch(LOCK_WORK, work["recipient_id"])
        assert not (await world.claim()).calls
    assert await lane_of(world) == (True, False)
    await world.claim_one()


async def test_a_text_that_was_held_goes_before_one_that_was_accepted_later(world: World) -> None:
    await world.apply("delivery.holds", held := world.envelope(inbound(world)))
    first = await world.store(1)
    assert not (await world.claim()).calls
    await world.apply("delivery.holds", no_opt_out(held))
    second = await world.store(1)
    assert not (await world.claim()).calls  # the first is not looked at again yet; the second waits for it
    await world.be_due()
    claimed = await world.claim_one()
    assert (await world.statuses(first), await world.statuses(second)) == (["sending"], ["queued"])
    await world.settle(accepted(claimed))
    await world.be_due()
    await world.claim_one()
    assert await world.statuses(second) == ["sending"]


async def test_a_place_given_back_keeps_its_turn_before_what_was_accepted_later(world: World) -> None:
    first, second = await world.store(1), await world.store(1)
    await world.settle(outcomes.returned(attempt_of(await world.claim_one())))
    await world.claim_one()
    assert (await world.statuses(first), await world.statuses(second)) == (["sending"], ["queued"])


async def test_a_pause_is_not_taken_back_by_a_claim_under_way(world: World) -> None:
    """The clock that the claim has read is older than the pause."""
    await world.store(2)
    claimed = (await world.claim(1)).calls[0].claimed
    paused = outcomes.failed(attempt_of(claimed), Refused("slower", retry_after_seconds=40), 30)
    message_id = claimed.source_id
    async with world.database.across_churches() as tx:
        await tx.fetch(LOCK_ROWS, message_id)
        claiming = asyncio.create_task(world.claim())
        await world.until_waiting(claiming, 1, "the claim wrote over a row that is locked")
        settling = asyncio.create_task(world.settle(paused))
        await world.until_waiting(settling, 2, "the pause did not wait for the claim")
    await claiming
    await settling
    assert await world.next_free_at() > clock.now() + timedelta(seconds=35)


async def another_church(world: World) -> World:
    """A second church beside the first."""
    other = World(world.database, world.keys, new_id())
    await other.begin()
    return other


async def resend(world: World, message_id: UUID, recipient_id: UUID) -> None:
    """A person wants it sent again, if its outcome is not known."""
    async with world.database.tenant(world.church_id) as tx:
        locked = await resolving.lock(tx, recipient_id, message_id)
        if locked is not None and locked.status in ("unknown", "unconfirmed") and not locked.is_under_way:
            await resolving.resend(tx, recipient_id)


def changed(world: World, version: int, status: Literal["active", "suspended"]) -> ChurchChanged:
    """The gateway's word on the church."""
    return ChurchChanged(church_id=world.church_id, version=version, name="A", timezone="UTC", status=status)


def inbound(world: World, number: int = 0, text: str = "stop") -> MessageReceived:
    """A text from a person."""
    person = world.person(number)
    return MessageReceived(
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text=text,
        media_urls=(),
        carrier_id="in1",
        occurred_at=clock.now(),
    )


def no_opt_out(held: Envelope[MessageReceived]) -> SuppressionRemoved:
    """Compliance's answer that a text was no opt-out."""
    text = held.data
    return SuppressionRemoved(
        phone_index=text.phone_index,
        version=1,
        occurred_at=text.occurred_at,
        reason="admin",
        inbound_event_id=held.id,
    )


class Play:
    """Two churches, three numbers, and everything that may happen to their texts, at once and in any order."""

    def __init__(self, world: World, other: World, seed: int) -> None:
        self.chance = random.Random(seed)
        self.worlds = [world, other]
        self.database = world.database
        self.calls: list[Call] = []
        self.messages: list[tuple[World, UUID]] = []
        self.holds: list[tuple[World, Envelope[MessageReceived]]] = []
        self.versions = 0

    async def step(self) -> None:
        """One to three things at once."""
        deeds = [self.store, self.reply, self.claim, self.claim, self.settle, self.settle, self.reap, self.let_pass]
        deeds += [self.hold, self.answer, self.suspend, self.resend, self.cancel, self.look_up]
        await asyncio.gather(*(deed() for deed in self.chance.sample(deeds, self.chance.randint(1, 3))))

    async def store(self) -> None:
        world = self.chance.choice(self.worlds)
        people = [world.person(each) for each in self.chance.sample(range(6), self.chance.randint(1, 4))]
        chunk = world.chunk(people)
        await world.apply("delivery.chunks", chunk)
        self.messages.append((world, chunk.message_id))

    async def reply(self) -> None:
        await self.chance.choice(self.worlds).reply(self.chance.randrange(6))

    async def claim(self) -> None:
        claimed = await self.worlds[0].claim_as_it_is(self.chance.randint(1, 4))
        self.calls += claimed.calls

    async def settle(self) -> None:
        ended, self.calls = self.calls[:4], self.calls[4:]
        lost = self.chance.random() < 0.2
        if ended and not lost:  # else the worker is killed: the leases end
            await self.worlds[0].settle(*(self.outcome(each) for each in ended))

    def outcome(self, call: Call) -> Outcome:
        attempt, wait = attempt_of(call.claimed), self.chance.choice([0.0, 0.05, 30.0])
        pause = self.chance.choice([None, 0, 1])
        return self.chance.choice(
            [
                accepted(call.claimed),
                outcomes.returned(attempt),
                outcomes.unknown(attempt, wait),
                outcomes.failed(attempt, Refused("later", retry_after_seconds=pause), wait),
                outcomes.failed(attempt, Rejected("no", carrier_code="40310"), wait),
            ]
        )

    async def reap(self) -> None:
        await self.doubts().reap_leases()

    async def look_up(self) -> None:
        async with self.database.across_churches() as tx:
            await doubt_store.take(tx, 3, 60.0, resend=self.chance.random() < 0.9)

    async def let_pass(self) -> None:
        await self.worlds[0].let_pass(seconds=self.chance.choice([1, 40, 3600]))

    async def hold(self) -> None:
        world = self.chance.choice(self.worlds)
        envelope = world.envelope(inbound(world, self.chance.randrange(6)))
        self.holds.append((world, envelope))
        await world.apply("delivery.holds", envelope)

    async def answer(self) -> None:
        if self.holds:
            world, held = self.holds.pop()
            await world.apply("delivery.holds", no_opt_out(held))

    async def suspend(self) -> None:
        self.versions += 1
        status: Literal["active", "suspended"] = "active" if self.chance.random() < 0.7 else "suspended"
        await self.worlds[1].apply("delivery.churches", changed(self.worlds[1], self.versions, status))

    async def resend(self) -> None:
        if self.messages:
            world, message_id = self.chance.choice(self.messages)
            for row in await world.rows(message_id):
                await resend(world, message_id, row["id"])

    async def cancel(self) -> None:
        if self.messages and self.chance.random() < 0.3:
            world, message_id = self.chance.choice(self.messages)
            await world.apply(
                "delivery.messages",
                MessageCancelled(message_id=message_id, cancelled_at=clock.now()),
            )
            await sweep_cancelled(self.database)

    def doubts(self) -> Doubts:
        """What ends leases; it does not come to ask a carrier."""
        world = self.worlds[0]
        return Doubts(self.database, ANY, world.keys, world.receipts, world.settings)

    async def forgotten(self) -> list[asyncpg.Record]:
        async with self.database.across_churches() as tx:
            return await tx.fetch(FORGOTTEN, int(REPEAT_HOURS), 2 * LOOK_AGAIN_SECONDS)

    async def finish(self) -> None:
        """From here on the carrier takes everything: nobody may be left."""
        while self.holds:
            await self.answer()
        await self.worlds[1].apply("delivery.churches", changed(self.worlds[1], self.versions + 1, "active"))
        if self.calls:
            await self.worlds[0].settle(*(accepted(each.claimed) for each in self.calls))
        states: set[str] = set()
        for _ in range(40):
            await self.worlds[0].let_pass(seconds=40)
            await self.reap()
            while calls := (await self.worlds[0].claim_as_it_is(20)).calls:
                await self.worlds[0].settle(*(accepted(each.claimed) for each in calls))
            states = {row["state"] for row in await self.worlds[0].work() if row["state"] != "unknown" or row["resend"]}
            if states <= {"overdue"}:  # those are with the carrier
                return
            await asyncio.sleep(0.05)
        raise AssertionError(states)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_can_be_claimed_has_a_lane_that_wakes_for_it(world: World, seed: int) -> None:
    await world.add_number(new_id(), rate=2.0)
    play = Play(world, await another_church(world), seed)
    for _ in range(50):
        await play.step()
        assert await play.forgotten() == []
    await play.finish()
