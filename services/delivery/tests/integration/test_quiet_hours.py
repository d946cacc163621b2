"""Quiet hours: broadcasts wait for their end, all else goes, and at their end sending goes on by itself."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest
from services.delivery.tests.integration.conftest import StartWorker, World, accepted, all_are

from koinonia import clock
from koinonia.carrier.contract import Refused
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events.gateway import ChurchChanged
from koinonia.quiet_hours import QuietHours, QuietTime
from koinonia.testing.fixtures import wait_until
from koinonia_delivery import trail
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import claims as store

LANE = statement("test.lane", "SELECT wake_at, urgent_at FROM lanes WHERE church_id = $1")
NIGHT = ("America/Chicago", "21:00", "08:00")

Count = Callable[[], AbstractContextManager[StatementLog]]
MoveClock = Callable[[datetime], None]


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> MoveClock:
    """``move_clock(moment)``: for quiet hours it is ``moment`` now; all else goes by Postgres' clock."""
    original = QuietHours.next

    def move(moment: datetime) -> None:
        ahead = moment - clock.now()

        def shifted(hours: QuietHours, now: datetime) -> QuietTime:
            found = original(hours, now + ahead)
            return QuietTime(found.begins_at - ahead, found.ends_at - ahead)

        monkeypatch.setattr(QuietHours, "next", shifted)

    return move


def told(world: World, version: int, hours: tuple[str, str, str] | None = NIGHT) -> ChurchChanged:
    """The church says that these are its hours."""
    zone, start, until = hours or ("America/Chicago", None, None)
    return ChurchChanged(
        church_id=world.church_id,
        version=version,
        name="Grace",
        timezone=zone,
        status="active",
        quiet_from=start,
        quiet_until=until,
    )


async def be_told(world: World, version: int = 1, hours: tuple[str, str, str] | None = NIGHT) -> None:
    await world.apply("delivery.churches", told(world, version, hours))


async def wakes_in(world: World) -> float | None:
    """In how many seconds the church's lane wakes."""
    async with world.database.tenant(world.church_id) as tx:
        row = await tx.fetch_row(LANE, world.church_id)
    assert row is not None
    return None if row["wake_at"] is None else (row["wake_at"] - clock.now()).total_seconds()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


# Each at the quarter of an hour before it ends and after: in summer, in winter, over midnight, and in the two nights in
# which clocks change.
@pytest.mark.parametrize(
    ("quiet", "loud"),
    [
        (utc(2026, 7, 1, 12, 45), utc(2026, 7, 1, 13, 15)),
        (utc(2026, 12, 1, 13, 45), utc(2026, 12, 1, 14, 15)),
        (utc(2026, 12, 1, 5, 59), utc(2026, 12, 1, 2, 59)),
        (utc(2026, 3, 8, 12, 45), utc(2026, 3, 8, 13, 15)),
        (utc(2026, 11, 1, 13, 45), utc(2026, 11, 1, 14, 15)),
    ],
    ids=["summer", "winter", "midnight", "clocks set ahead", "clocks set back"],
)
async def test_a_broadcast_goes_by_the_clocks_of_its_church(
    world: World, move_clock: MoveClock, quiet: datetime, loud: datetime
) -> None:
    await be_told(world)
    move_clock(quiet)
    message_id = await world.store(2)
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["queued", "queued"]
    move_clock(loud)
    await be_told(world, 2)  # wakes the lane, which sleeps by the clock that was moved
    assert len((await world.claim()).calls) == 2


async def test_the_lane_sleeps_until_the_hours_end(world: World, move_clock: MoveClock) -> None:
    """As long as they last: eleven hours and, in the night in which clocks are set back, one more."""
    await be_told(world)
    move_clock(utc(2026, 11, 1, 2, 0, 1))
    await world.store(2)
    claimed = await world.claim()
    assert not claimed.calls
    assert await wakes_in(world) == pytest.approx(12 * 3600, abs=30)
    assert not (await world.claim_as_it_is()).progressed  # and nobody looks at it before
    await world.reply(8)
    await world.claim_one()
    assert await wakes_in(world) == pytest.approx(12 * 3600, abs=30)  # a reply between has not made it forget the rest
    chunk = world.chunk([world.person(9)])
    await world.apply("delivery.chunks", chunk)  # wakes it for a look
    assert not (await world.claim()).calls
    assert await wakes_in(world) == pytest.approx(12 * 3600, abs=30)


async def test_replies_and_urgent_broadcasts_go_in_quiet_hours(world: World, move_clock: MoveClock) -> None:
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    waiting = await world.store(3)
    urgent = world.chunk([world.person(7)], urgent=True)
    await world.apply("delivery.chunks", urgent)
    reply_id = await world.reply(8)
    sources = {call.claimed.source_id for call in (await world.claim()).calls}
    assert sources == {urgent.message_id, reply_id}
    assert set(await world.statuses(waiting)) == {"queued"}


async def test_an_urgent_broadcast_can_be_paused_cancelled_and_stopped_by_an_opt_out(
    world: World, move_clock: MoveClock
) -> None:
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    chunks = [world.chunk([world.person(each), world.person(each + 5)], urgent=True) for each in range(3)]
    for chunk in chunks:
        await world.apply("delivery.chunks", chunk)
    paused, cancelled, opted_out = (chunk.message_id for chunk in chunks)
    await world.pause(paused)
    await world.cancel(cancelled)
    await world.suppress(2)
    await world.suppress(7)
    assert not (await world.claim()).calls
    assert set(await world.statuses(paused)) == {"queued"}
    assert set(await world.statuses(cancelled)) == {"cancelled"}
    assert set(await world.statuses(opted_out)) == {"suppressed"}
    await world.resume(paused)
    assert len((await world.claim()).calls) == 2


async def test_an_urgent_broadcast_that_is_paused_while_it_is_claimed_stands_aside(world: World) -> None:
    chunk = world.chunk([world.person()], urgent=True)
    await world.apply("delivery.chunks", chunk)
    async with world.database.tenant(world.church_id) as tx:  # the sweep has not come to its rows
        await tx.execute(
            statement("test.pause", "UPDATE broadcasts SET paused_at = clock_timestamp() WHERE message_id = $1"),
            chunk.message_id,
        )
    assert not (await world.claim()).calls
    assert [row["state"] for row in await world.work()] == ["paused"]


async def test_another_church_does_not_wait(world: World, move_clock: MoveClock) -> None:
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    await world.store(3)
    other = World(world.database, world.keys, type(world.church_id)(int=world.church_id.int + 1))
    await other.add_number(other.number_id)
    message_id = await other.store(2)
    assert {call.claimed.source_id for call in (await world.claim()).calls} == {message_id}


async def test_what_was_claimed_before_they_began_may_finish(world: World, move_clock: MoveClock) -> None:
    await be_told(world)
    move_clock(utc(2026, 12, 1, 2, 59))
    message_id = await world.store(2)
    calls = (await world.claim()).calls
    move_clock(utc(2026, 12, 1, 3, 1))
    await world.settle(*(accepted(call.claimed) for call in calls))
    assert await world.statuses(message_id) == ["sent", "sent"]


async def test_what_was_refused_or_lost_before_they_began_waits_for_their_end(
    world: World, move_clock: MoveClock
) -> None:
    """A repeat under its key may be the first that the carrier sees: it, too, would reach somebody at night."""
    await be_told(world)
    move_clock(utc(2026, 12, 1, 2, 59))
    await world.store(3)
    refused, unknown, back = (await world.claim()).calls
    await world.settle(
        outcomes.failed(attempt_of(refused.claimed), Refused("later"), 1.0),
        outcomes.unknown(attempt_of(unknown.claimed), 1.0),
        outcomes.returned(attempt_of(back.claimed)),
    )
    await world.be_due()
    move_clock(utc(2026, 12, 1, 3, 1))
    await be_told(world, 2)
    assert not (await world.claim()).calls
    move_clock(utc(2026, 12, 1, 14))
    await be_told(world, 3)
    assert len((await world.claim()).calls) == 3


async def test_what_comes_too_late_by_their_end_expires(world: World, move_clock: MoveClock) -> None:
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    message_id = await world.store(2, do_not_send_after=clock.now() + timedelta(seconds=0.2))
    assert not (await world.claim()).calls
    await asyncio.sleep(0.2)
    move_clock(utc(2026, 12, 1, 14))
    await be_told(world, 2)
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["expired", "expired"]


@pytest.mark.parametrize("hours", [None, ("Asia/Tokyo", "21:00", "08:00")], ids=["switched off", "another zone"])
async def test_other_settings_hold_at_once(
    world: World, move_clock: MoveClock, hours: tuple[str, str, str] | None
) -> None:
    """The lane sleeps until the hours end, which are none any more."""
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    await world.store(2)
    assert not (await world.claim()).calls
    await be_told(world, 2, hours)
    assert len((await world.claim()).calls) == 2


async def test_an_older_change_that_comes_late_changes_nothing(world: World, move_clock: MoveClock) -> None:
    move_clock(utc(2026, 12, 1, 6))
    await be_told(world, 2, None)
    await be_told(world, 1, NIGHT)
    await world.store(2)
    assert len((await world.claim()).calls) == 2


async def test_hours_that_are_switched_off_while_a_claim_looks_are_not_slept_through(
    world: World, move_clock: MoveClock
) -> None:
    """The change waits for the claim, which has the lane, and wakes it after the claim has put it to sleep."""
    await be_told(world)
    move_clock(utc(2026, 12, 1, 6))
    await world.store(1)
    async with world.database.across_churches() as tx:
        lanes = await store.lock_lanes(tx, 5)
        assert (await store.pick(tx, lanes, 5, resend=True)).candidates == []
        changing = asyncio.create_task(be_told(world, 2, None))
        await world.until_waiting(changing, 1, "the change did not wait for the claim")
        await tx.execute(statement("test.sleep", "UPDATE lanes SET wake_at = clock_timestamp() + interval '8 hours'"))
    await changing
    await world.claim_one()


async def test_at_their_end_sending_goes_on_by_itself(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, move_clock: MoveClock
) -> None:
    """In the night in which clocks are set back, two seconds before 8 o'clock; nobody wakes anybody."""
    await be_told(world)
    now = clock.now()
    move_clock(utc(2026, 11, 1, 13, 59, 58))
    start_worker()
    message_id = await world.store(3)
    reply_id = await world.reply(8)
    await wait_until(all_are(world, reply_id, "sent"), what="the reply to be sent")
    assert set(await world.statuses(message_id)) == {"queued"}
    await wait_until(all_are(world, message_id, "sent"), what="the broadcast to be sent")
    for row in await world.rows(message_id):
        assert timedelta(seconds=2) <= row["sent_at"] - now < timedelta(seconds=4)


async def test_a_claim_takes_as_many_statements_with_quiet_hours(
    world: World, move_clock: MoveClock, count_statements: Count
) -> None:
    move_clock(utc(2026, 12, 1, 12))
    await world.store(20)
    with count_statements() as without:
        await world.claim(5)
    await be_told(world)
    with count_statements() as with_hours:
        await world.claim(5)
    assert with_hours.count == without.count


async def test_the_trail_tells_what_it_waits_for(world: World, move_clock: MoveClock) -> None:
    now = clock.now()
    zone, start = "UTC", (now - timedelta(hours=1)).strftime("%H:%M")
    await be_told(world, 1, (zone, start, (now + timedelta(hours=2)).strftime("%H:%M")))
    (row,) = await world.rows(await world.store(1))
    async with world.database.tenant(world.church_id) as tx:
        *_, last = (await trail.begin(tx, row["id"])).part.entries
    assert last.sentence == "It waits for the end of the church's quiet hours."
    assert last.until is not None
    assert timedelta(minutes=118) < last.until - now < timedelta(minutes=121)
