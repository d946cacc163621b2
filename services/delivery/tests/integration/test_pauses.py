"""Pauses: of a broadcast, whose rows stand aside and come back in their order; of a number; of a whole church."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt, settings_for

from koinonia import clock
from koinonia.carrier.contract import Refused, Rejected
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessagePaused, MessageResumed, SendingPaused, SendingResumed
from koinonia.ids import new_id
from koinonia_delivery import messages
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.choosing import HORIZON_SECONDS
from koinonia_delivery.domain.priorities import BROADCAST, IN_TURN
from koinonia_delivery.store import broadcasts, resolving
from koinonia_delivery.store import claims as claim_store
from koinonia_delivery.store import numbers as number_store

Count = Callable[[], AbstractContextManager[StatementLog]]

MANY_PAUSED = statement(
    "test.many_paused",
    """
    INSERT INTO work (
        recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at
    )
    SELECT gen_random_uuid(), $1, $2, $3, '\\x00', 1, 1, 'paused', clock_timestamp() - interval '1 hour'
    FROM generate_series(1, $4)
    """,
)
BUFFERS = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "


def paused(message_id: Any, version: int = 1) -> MessagePaused:
    return MessagePaused(message_id=message_id, version=version, paused_at=clock.now())


async def states(world: World) -> list[str]:
    return [row["state"] for row in await world.work()]


async def test_a_paused_broadcast_stands_aside_and_comes_back_in_its_order(world: World) -> None:
    first, other, second = [await world.store(2, content=text) for text in ("one", "two", "three")]
    before = [(row["recipient_id"], row["due_at"]) for row in await world.work()]
    await world.pause(first)
    assert sorted(await states(world)) == ["paused"] * 2 + ["ready"] * 4
    calls = [call.claimed for call in (await world.claim()).calls]
    assert {each.source_id for each in calls} == {other}
    await world.settle(*(accepted(each) for each in calls))
    await world.resume(first)
    after = {(row["recipient_id"], row["due_at"]) for row in await world.work() if row["state"] == "ready"}
    assert after <= set(before)
    assert {call.claimed.source_id for call in (await world.claim()).calls} == {first}
    assert await world.statuses(second) == ["queued", "queued"]


async def test_what_the_sweep_has_not_reached_is_set_aside_by_the_claim(world: World) -> None:
    message_id = await world.store(3)
    async with world.database.tenant(world.church_id) as tx:
        await broadcasts.pause(tx, message_id, 1, clock.now())  # the mark alone
    claimed = await world.claim()
    assert (claimed.calls, claimed.progressed) == ([], True)
    assert await states(world) == ["paused"] * 3
    assert await world.statuses(message_id) == ["queued"] * 3
    assert await world.updates() == []


async def test_what_comes_back_while_its_broadcast_rests_is_set_aside_too(world: World) -> None:
    message_id = await world.store(1)
    claimed = await world.claim_one()
    await world.pause(message_id)
    await world.settle(outcomes.returned(attempt_of(claimed)))
    assert not (await world.claim()).calls
    assert await states(world) == ["paused"]
    await world.resume(message_id)
    assert (await world.claim_one()).recipient_id == claimed.recipient_id


async def test_an_unknown_one_of_a_paused_broadcast_is_not_sent_again_until_it_goes_on(world: World) -> None:
    message_id = await world.store(1)
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0.0))
    await world.pause(message_id)
    assert not (await world.claim()).calls
    (row,) = await world.work()
    assert (row["state"], row["resend"]) == ("unknown", True)
    await world.resume(message_id)
    await world.be_due()
    await world.claim_one()


async def test_a_chunk_that_comes_while_its_broadcast_rests_stands_aside(world: World) -> None:
    chunk = world.chunk([world.person(number) for number in range(3)])
    await world.pause(chunk.message_id)
    await world.apply("delivery.chunks", chunk)
    assert await states(world) == ["paused"] * 3
    await world.resume(chunk.message_id)
    assert len((await world.claim()).calls) == 3


async def test_one_that_a_person_sends_again_passes_the_pause_of_its_broadcast(world: World) -> None:
    message_id = await world.store(1)
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 60.0))
    await world.pause(message_id)
    (row,) = await world.rows(message_id)
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, row["id"])
    await world.sweep()
    assert (await world.claim_one()).recipient_id == row["id"]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (1, 3, 2), (3, 3, 1)])
async def test_of_pauses_and_resumptions_in_any_order_the_latest_version_holds(
    world: World, order: tuple[int, ...]
) -> None:
    message_id = await world.store(2)
    said = {1: paused(message_id, 1), 2: MessageResumed(message_id=message_id, version=2), 3: paused(message_id, 3)}
    for version in order:
        await world.apply("delivery.messages", said[version])
        await world.sweep()
    assert await states(world) == ["paused"] * 2


@pytest.mark.parametrize("kind", ["paused", "resumed"])
async def test_a_pause_is_applied_once_though_killed_and_delivered_twice(world: World, kind: str) -> None:
    message_id = await world.store(2)
    if kind == "resumed":
        await world.pause(message_id)
    event = paused(message_id) if kind == "paused" else MessageResumed(message_id=message_id, version=2)
    envelope = world.envelope(event)

    async def die(_tx: Any) -> None:
        raise InterruptedError

    before = await states(world)
    with pytest.raises(InterruptedError):
        await world.apply("delivery.messages", envelope, also=die)
    await world.sweep()
    assert await states(world) == before
    for _ in range(2):
        await world.apply("delivery.messages", envelope)
        await world.sweep()
    assert await states(world) == (["paused"] * 2 if kind == "paused" else ["ready"] * 2)


async def test_a_resumption_waits_for_the_claim_that_sets_rows_aside(world: World) -> None:
    """Else the claim would set aside what the resumption has passed, and nobody would put it back."""
    message_id = await world.store(1)
    async with world.database.tenant(world.church_id) as tx:
        await broadcasts.pause(tx, message_id, 1, clock.now())
    async with world.database.across_churches() as tx:
        candidates = (await claim_store.pick(tx, await claim_store.lock_lanes(tx, 5), 5, resend=True)).candidates
        assert [each.obstacle for each in candidates] == ["paused"]
        resumed = MessageResumed(message_id=message_id, version=2)
        resuming = asyncio.create_task(world.apply("delivery.messages", resumed))
        await world.until_waiting(resuming, 1, "the resumption did not wait for the claim under way")
        await claim_store.put_aside(tx, [], [], 1.0, [], paused=[each.recipient_id for each in candidates])
    await resuming
    await world.sweep()
    assert len((await world.claim()).calls) == 1


async def test_a_broadcast_of_many_pages_is_moved_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "SWEEP_ROWS", 4)
    message_id = await world.store(10)
    await world.pause(message_id)
    assert await states(world) == ["paused"] * 10
    await world.resume(message_id)
    assert await states(world) == ["ready"] * 10
    assert await world.sweep() == 0


async def test_a_hundred_thousand_paused_rows_do_not_burden_a_claim(world: World, count_statements: Count) -> None:
    message_id = await world.store(100)

    async def cost() -> tuple[int, int]:
        """Statements of a claim, and the buffers of its look for candidates."""
        async with world.database.across_churches() as tx:
            values = (100, HORIZON_SECONDS, claim_store.OBSTACLES_ROOM, 23, True)
            plan = await tx._connection.fetchval(
                BUFFERS + claim_store._PICK.text, [world.church_id], *values, [], [], [], IN_TURN, BROADCAST
            )
        with count_statements() as counted:
            claimed = await world.claim(20)
        assert len(claimed.calls) == 20
        await world.settle(*(accepted(call.claimed) for call in claimed.calls))
        return counted.count, int(json.loads(plan)[0]["Plan"]["Shared Hit Blocks"])

    statements, buffers = await cost()
    async with world.database.across_churches() as tx:
        await tx.execute(MANY_PAUSED, world.church_id, new_id(), world.number_id, 100_000)
    more_statements, more_buffers = await cost()
    assert statements == more_statements <= 6
    assert more_buffers <= buffers * 1.2
    assert len(await world.statuses(message_id)) == 100


async def number(world: World) -> number_store.Number:
    async with world.database.tenant(world.church_id) as tx:
        found = await number_store.find(tx, world.number_id)
    assert found is not None
    return found


async def changes(world: World) -> list[tuple[int, str, str | None]]:
    """What was said of numbers, since this was asked last: version, status, reason."""
    said = [each.data for each in await world.events(NumberChanged)]
    await world.clear_events()
    return [(each.version, each.status, each.hold_reason) for each in said]


async def test_a_paused_church_sends_nothing_until_it_resumes(world: World) -> None:
    await world.store(2)
    at = clock.now()
    event = world.envelope(SendingPaused(version=1, paused_at=at))
    for _ in range(2):
        await world.apply("delivery.churches", event)
    assert not (await world.claim()).calls
    assert await changes(world) == [(2, "held", "church_paused")]
    # A number that it gets meanwhile rests too; its own state, told later, does not look like an end of the pause.
    await world.add_number(new_id())
    church = ChurchChanged(church_id=world.church_id, version=1, name="Grace", timezone="UTC", status="active")
    await world.apply("delivery.churches", church)
    assert not (await world.claim()).calls
    await world.apply("delivery.churches", SendingResumed(version=2))
    await world.apply("delivery.churches", SendingPaused(version=1, paused_at=at))  # late
    assert {each[1:] for each in await changes(world)} == {("active", None)}
    assert len((await world.claim()).calls) == 2


async def test_a_churchs_pause_is_applied_once_though_killed_before_its_commit(world: World) -> None:
    async def die(_tx: Any) -> None:
        raise InterruptedError

    event = world.envelope(SendingPaused(version=1, paused_at=clock.now()))
    with pytest.raises(InterruptedError):
        await world.apply("delivery.churches", event, also=die)
    assert (await number(world)).hold_reason is None
    for _ in range(2):
        await world.apply("delivery.churches", event)
    assert await changes(world) == [(2, "held", "church_paused")]


async def test_a_pause_of_a_church_that_is_not_known_yet_is_kept(new_world: World) -> None:
    await new_world.apply("delivery.churches", SendingPaused(version=1, paused_at=clock.now()))
    church = ChurchChanged(church_id=new_world.church_id, version=1, name="Grace", timezone="UTC", status="active")
    await new_world.apply("delivery.churches", church)
    await new_world.begin()
    await new_world.store(1)
    assert not (await new_world.claim()).calls


async def test_a_pause_does_not_end_with_a_suspension_nor_a_suspension_with_a_pause(world: World) -> None:
    church: dict[str, Any] = {"church_id": world.church_id, "name": "Grace", "timezone": "UTC"}
    await world.apply("delivery.churches", SendingPaused(version=1, paused_at=clock.now()))
    await world.apply("delivery.churches", ChurchChanged(version=1, status="suspended", **church))
    assert (await number(world)).hold_reason == "suspended"
    await world.apply("delivery.churches", ChurchChanged(version=2, status="active", **church))
    assert (await number(world)).hold_reason == "church_paused"
    await world.apply("delivery.churches", ChurchChanged(version=3, status="suspended", **church))
    await world.apply("delivery.churches", SendingResumed(version=2))
    assert (await number(world)).shown_status == "held"
    assert (await number(world)).hold_reason == "suspended"


def refused(claimed: Any, scope: Any = "number", code: str = "40305") -> outcomes.Outcome:
    return outcomes.failed(attempt_of(claimed), Refused("It waits.", carrier_code=code, scope=scope), 30)


AGE_REFUSALS = statement(
    "test.age_refusals",
    """
    WITH account AS (UPDATE carrier_account SET refused_at = refused_at - interval '1 minute')
    UPDATE numbers SET refused_at = refused_at - interval '1 minute', next_free_at = clock_timestamp()
    """,
)


async def a_minute_later(world: World) -> None:
    async with world.database.across_churches() as tx:
        await tx.execute(AGE_REFUSALS)
    await world.be_due()


@pytest.mark.parametrize("scope", ["number", "church"])
async def test_a_refused_number_shows_why_alarms_once_and_is_tried_again_by_itself(world: World, scope: str) -> None:
    message_id = await world.store(3)
    calls = [call.claimed for call in (await world.claim(2)).calls]
    await world.settle(*(refused(each, scope) for each in calls))
    assert (await number(world)).refusal_reason == "It waits."
    assert await changes(world) == [(2, "held", "carrier")]
    assert not (await world.claim()).calls
    await a_minute_later(world)
    again = await world.claim(1)
    await world.settle(refused(again.calls[0].claimed, scope))
    assert await changes(world) == []
    await a_minute_later(world)
    await world.settle(accepted((await world.claim(1)).calls[0].claimed))
    assert await changes(world) == [(3, "active", None)]
    assert (await number(world)).hold_reason is None
    assert sorted(await world.statuses(message_id)) == ["queued", "queued", "sent"]


async def test_a_call_that_began_before_the_refusal_does_not_end_it(world: World) -> None:
    await world.store(2)
    calls = [call.claimed for call in (await world.claim(2)).calls]
    await world.settle(refused(calls[0]))
    await world.settle(accepted(calls[1]))
    assert (await number(world)).hold_reason == "carrier"


async def test_a_refused_account_shows_at_every_number_and_ends_with_what_is_accepted(world: World) -> None:
    await world.store(2)
    await world.settle(refused((await world.claim(1)).calls[0].claimed, "account", "402"))
    assert ((await number(world)).shown_status, (await number(world)).hold_reason) == ("held", "carrier")
    await a_minute_later(world)
    await world.settle(accepted((await world.claim(1)).calls[0].claimed))
    assert (await number(world)).shown_status == "active"


async def test_a_church_that_resumes_has_what_the_carrier_refused_tried_at_once(world: World) -> None:
    await world.store(1)
    await world.settle(refused(await world.claim_one()))
    await world.apply("delivery.churches", SendingResumed(version=1))
    assert (await changes(world))[-1][1:] == ("active", None)
    await world.be_due()
    await world.claim_one()


async def test_a_hold_never_makes_a_text_expire_and_refusals_do_at_their_limit(world: World) -> None:
    message_id = await world.store(1)
    for _ in range(3):
        await world.settle(refused((await world.claim(1)).calls[0].claimed))
        await a_minute_later(world)
    busy = Refused("Busy; it is tried again.", carrier_code="40318")
    world.settings = settings_for(refusal_limit=2)
    for expected in ("queued", "expired"):
        await world.settle(outcomes.failed(attempt_of((await world.claim(1)).calls[0].claimed), busy, 30))
        await a_minute_later(world)
        assert await world.statuses(message_id) == [expected]
    (row,) = await world.rows(message_id)
    assert (row["error_code"], row["error_message"]) == ("40318", outcomes.SPENT_SENTENCE)
    assert await world.work() == []
    assert [each.changes for each in await world.updates()] == [{"queued": -1, "expired": 1}]


async def test_a_refused_text_expires_when_its_next_try_would_be_too_late(world: World) -> None:
    message_id = await world.store(1, do_not_send_after=clock.now() + timedelta(seconds=5))
    busy = Refused("Busy; it is tried again.", carrier_code="40318", retry_after_seconds=60)
    await world.settle(outcomes.failed(attempt_of(await world.claim_one()), busy, 30))
    assert await world.statuses(message_id) == ["expired"]


async def test_a_carrier_that_cannot_be_reached_makes_nothing_expire(world: World) -> None:
    message_id = await world.store(1)
    for _ in range(3):
        claimed = (await world.claim(1)).calls[0].claimed
        await world.settle(outcomes.failed(attempt_of(claimed), Refused("Away."), 30))
        await a_minute_later(world)
    assert await world.statuses(message_id) == ["queued"]
    assert (await world.work())[0]["refusals"] == 0


async def test_one_refused_while_it_is_sent_again_stays_unknown(world: World) -> None:
    message_id = await world.store(1, do_not_send_after=clock.now() + timedelta(hours=1))
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0.0))
    busy = Refused("Busy; it is tried again.", carrier_code="40318", retry_after_seconds=7200)
    await world.settle(outcomes.failed(attempt_of(await world.claim_one()), busy, 30))
    assert await world.statuses(message_id) == ["unknown"]


async def test_failures_are_told_by_their_codes(world: World) -> None:
    await world.store(2)
    calls = [call.claimed for call in (await world.claim(2)).calls]
    await world.settle(
        outcomes.failed(attempt_of(calls[0]), Rejected("No.", carrier_code="40310"), 30), accepted(calls[1])
    )
    late = receipt(calls[1].recipient_id, "delivery_failed", error_code="40008")
    await world.receive(late)
    await world.receive(late)
    assert [each.errors for each in await world.updates()] == [{"40310": 1}, {"40008": 1}]
