"""Opt-outs: held at once, settled by compliance alone, whatever the order in which its answers come."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from services.delivery.tests.integration.conftest import World

from koinonia import clock
from koinonia.db import statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import MarkerSent
from koinonia.events.gateway import BacklogReported
from koinonia.ids import new_id
from koinonia_delivery import holds
from koinonia_delivery.schedule import send_marker
from koinonia_delivery.store import suppressions

OPEN = statement("test.open_holds", "SELECT count(*) FROM holds WHERE settled_at IS NULL")
SUPPRESSED = statement("test.suppressed", "SELECT suppressed FROM suppressions")
FRESHNESS = statement("test.freshness", "SELECT marker_sent_at, backlog_oldest_at FROM freshness")

NOON = datetime.fromisoformat("2026-11-20T12:00:00+00:00")


def inbound(world: World, text: str, at: datetime = NOON, **fields: object) -> Envelope[MessageReceived]:
    person = world.person(0)
    received = MessageReceived(
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text=text,
        media_urls=(),
        carrier_id="in1",
        occurred_at=at,
        **fields,  # type: ignore[arg-type]
    )
    return world.envelope(received)


def added(world: World, at: datetime = NOON, inbound_id: UUID | None = None) -> SuppressionAdded:
    return SuppressionAdded(
        phone_index=world.person(0).phone_index,
        version=1,
        occurred_at=at,
        reason="stop" if inbound_id else "admin",
        inbound_event_id=inbound_id,
    )


def removed(world: World, at: datetime = NOON, inbound_id: UUID | None = None) -> SuppressionRemoved:
    return SuppressionRemoved(
        phone_index=world.person(0).phone_index,
        version=2,
        occurred_at=at,
        reason="start" if inbound_id else "admin",
        inbound_event_id=inbound_id,
    )


async def open_holds(world: World) -> int:
    async with world.database.across_churches() as tx:
        return int(await tx.fetch_value(OPEN))


async def is_suppressed(world: World) -> bool:
    async with world.database.across_churches() as tx:
        return bool(await tx.fetch_value(SUPPRESSED))


@pytest.mark.parametrize(
    ("text", "by_carrier", "held"),
    [
        ("STOP", None, 1),
        ("please stop, thank you!", None, 1),
        ("ok", "STOP", 1),
        ("START", "START", 0),
        ("Don't stop praying", None, 0),
        ("", None, 0),
    ],
)
async def test_a_text_that_looks_like_an_opt_out_is_held(
    world: World, text: str, by_carrier: str | None, held: int
) -> None:
    await world.apply("delivery.holds", inbound(world, text, answered_by_carrier=by_carrier))
    assert await open_holds(world) == held


async def test_the_answer_settles_the_hold_that_it_names(world: World) -> None:
    text = inbound(world, "stop")
    await world.apply("delivery.holds", text)
    await world.apply("delivery.holds", text)  # the same event again is the same hold
    assert await open_holds(world) == 1
    await world.apply("delivery.holds", added(world, inbound_id=text.id))
    assert (await open_holds(world), await is_suppressed(world)) == (0, True)


async def test_an_answer_to_another_text_settles_only_older_holds(world: World) -> None:
    await world.apply("delivery.holds", inbound(world, "stop"))
    earlier = removed(world, NOON - timedelta(seconds=1), inbound_id=new_id())
    await world.apply("delivery.holds", earlier)
    assert await open_holds(world) == 1
    same_time = removed(world, NOON, inbound_id=new_id())
    await world.apply("delivery.holds", same_time)
    assert await open_holds(world) == 1
    await world.apply("delivery.holds", removed(world, NOON + timedelta(seconds=1), inbound_id=new_id()))
    assert await open_holds(world) == 0


async def test_an_admin_settles_no_hold(world: World) -> None:
    await world.apply("delivery.holds", inbound(world, "stop"))
    await world.apply("delivery.holds", removed(world, NOON + timedelta(hours=1)))
    assert await open_holds(world) == 1


async def test_a_text_that_comes_after_its_answer_is_not_held_again(world: World) -> None:
    text = inbound(world, "stop")
    await world.apply("delivery.holds", added(world, inbound_id=text.id))
    await world.apply("delivery.holds", text)
    assert await open_holds(world) == 0


async def test_a_text_that_comes_after_the_answer_to_a_later_one_is_not_held(world: World) -> None:
    await world.apply("delivery.holds", added(world, NOON + timedelta(seconds=1), inbound_id=new_id()))
    await world.apply("delivery.holds", inbound(world, "stop"))
    assert await open_holds(world) == 0


async def test_the_later_act_wins_and_an_opt_out_on_a_tie(world: World) -> None:
    await world.apply("delivery.holds", removed(world, NOON + timedelta(seconds=2)))
    await world.apply("delivery.holds", added(world, NOON + timedelta(seconds=1)))
    assert not await is_suppressed(world)
    await world.apply("delivery.holds", added(world, NOON + timedelta(seconds=2)))
    assert await is_suppressed(world)
    await world.apply("delivery.holds", removed(world, NOON + timedelta(seconds=2)))
    assert await is_suppressed(world)
    await world.apply("delivery.holds", removed(world, NOON + timedelta(seconds=3)))
    assert not await is_suppressed(world)


async def test_a_hold_killed_before_its_commit_is_held_when_it_comes_again(world: World) -> None:
    text = inbound(world, "stop")
    with pytest.raises(RuntimeError):
        async with world.database.across_churches() as tx:
            await holds.hold(tx, text)
            raise RuntimeError("killed")
    assert await open_holds(world) == 0
    await world.apply("delivery.holds", text)
    assert await open_holds(world) == 1


async def test_a_marker_tells_when_it_was_sent_and_an_older_one_changes_nothing(world: World) -> None:
    await send_marker(world.database)
    (marker,) = await world.events(MarkerSent)
    assert marker.church_id is None
    await world.apply("delivery.holds", marker)
    await world.apply("delivery.holds", world.envelope(MarkerSent(sent_at=NOON)))
    async with world.database.across_churches() as tx:
        row = await tx.fetch_row(FRESHNESS)
    assert row is not None
    assert row["marker_sent_at"] == marker.data.sent_at


async def test_an_older_report_of_a_backlog_changes_nothing(world: World) -> None:
    newer = world.envelope(BacklogReported(oldest_inbound_at=None))
    older = world.envelope(BacklogReported(oldest_inbound_at=NOON))
    with clock.shifted(-60):
        older = world.envelope(BacklogReported(oldest_inbound_at=NOON))
    await world.apply("delivery.holds", newer)
    await world.apply("delivery.holds", older)
    async with world.database.across_churches() as tx:
        row = await tx.fetch_row(FRESHNESS)
    assert row is not None
    assert row["backlog_oldest_at"] is None


async def test_tombstones_go_when_nobody_can_replay_their_text(world: World) -> None:
    text = inbound(world, "stop")
    await world.apply("delivery.holds", added(world, inbound_id=text.id))
    async with world.database.across_churches() as tx:
        assert await suppressions.forget_settled(tx, 90) == 0
        assert await suppressions.forget_settled(tx, -1) == 1
