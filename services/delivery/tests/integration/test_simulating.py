"""Test messages: the simulated carrier answers them, and the real one never hears of any."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from services.delivery.tests.integration.conftest import StartWorker, World, all_are, receipt

from koinonia import api, clock
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.db import statement
from koinonia.errors import Conflict
from koinonia.events.carrier import MessageReceived
from koinonia.events.conversation import ReplyRequestedForTest
from koinonia.events.delivery import BroadcastStopped
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import (
    MembersChanged,
    MemberState,
    MessageCancelled,
    MessagePaused,
    MessageResumed,
    SendingPaused,
    SendingResumed,
)
from koinonia.ids import new_id
from koinonia.security.identity import Identity
from koinonia.security.keys import Keys
from koinonia.testing.plans import explained
from koinonia.testing.services import KEY_SETTINGS
from koinonia_delivery import churches, recipients, trail
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.simulating import SOON_SECONDS
from koinonia_delivery.simulating import simulate
from koinonia_delivery.store import doubts

WaitUntil = Callable[..., Awaitable[object]]

TEST_WORK = statement("test.test_work", "SELECT * FROM test_work ORDER BY recipient_id")
HELD_FOR = statement(
    "test.held_for", "UPDATE test_work SET held_at = held_at - $1::interval, due_at = clock_timestamp()"
)
WAITS = statement(
    "test.waits", "SELECT coalesce(max(extract(epoch FROM due_at - clock_timestamp())), 0)::float8 FROM test_work"
)
HOLD_MANY = statement(
    "test.hold_many",
    """
    INSERT INTO test_work (recipient_id, church_id, due_at, held_at)
    SELECT gen_random_uuid(), $1, clock_timestamp() + interval '1 hour', clock_timestamp()
    FROM generate_series(1, 1000)
    """,
)
PARKED = statement("test.parked", "SELECT count(*) FROM parked_receipts")
TOO_LATE = statement(
    "test.too_late",
    "UPDATE test_work SET (due_at, do_not_send_after) = (clock_timestamp(), clock_timestamp() - interval '1 minute')",
)
BE_DUE = statement("test.test_be_due", "UPDATE test_work SET due_at = clock_timestamp() - interval '1 second'")
SUPPRESSED = statement("test.suppressed", "SELECT count(*) FROM suppressions")
SCANNED_TO = statement("test.scanned_to", "SELECT scanned_to FROM overdue_scan")


async def pending(world: World) -> int:
    async with world.database.across_churches() as tx:
        return len(await tx.fetch(TEST_WORK))


async def simulated(world: World) -> None:
    """Let the simulated carrier have done what is due, and whatever waits be due next."""
    await simulate(world.database, world.keys, asyncio.Event())
    async with world.database.across_churches() as tx:
        await tx.execute(BE_DUE)


async def waits(world: World) -> float:
    """Until the last one is looked at."""
    async with world.database.across_churches() as tx:
        seconds: float = await tx.fetch_value(WAITS)
        return seconds


async def held_for(world: World, duration: timedelta) -> None:
    """Let what is held have been so for this much longer, and be looked at."""
    async with world.database.across_churches() as tx:
        await tx.execute(HELD_FOR, duration)


def ending(stopping: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """Announces as ever, and then the process is told to stop."""

    async def announce_and_stop(*args: Any) -> None:
        await announce(*args)
        stopping.set()

    return announce_and_stop


async def to_the_end(world: World) -> None:
    for _ in range(3):
        await simulated(world)


async def counters(world: World, source_id: UUID) -> dict[str, int]:
    """As messaging adds them up; every event has the mark."""
    total: dict[str, int] = {}
    for update in await world.updates():
        if update.source_id == source_id:
            assert update.test
            for status, count in update.changes.items():
                total[status] = total.get(status, 0) + count
    return {status: count for status, count in total.items() if count}


async def test_the_carriers_record_holds_nothing_of_a_test_while_live_texts_flow(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    workers = [start_worker() for _ in range(2)]
    kinds = {}
    for number in range(6):
        test = number % 2 == 0
        kinds[await world.store(40, content=f"{'Test' if test else 'Live'} {number}", test=test)] = test

    async def all_done() -> bool:
        await simulated(world)
        statuses: dict[bool, set[str]] = {False: set(), True: set()}
        for message_id, test in kinds.items():
            statuses[test] |= set(await world.statuses(message_id))
        return statuses == {False: {"sent"}, True: {"delivered"}}

    await wait_until(all_done)
    for worker in workers:
        await worker.stop()
    texts = [each.text or "" for each in carrier.record.texts]
    assert len(texts) == 120
    assert all(text.startswith("Live") for text in texts)
    updates = await world.updates()
    assert {each.source_id: each.test for each in updates} == kinds
    assert sum(each.accepted_segments for each in updates if each.test) == 0
    assert sum(each.accepted_segments for each in updates if not each.test) == 120
    assert (await world.work(), await pending(world)) == ([], 0)


async def test_a_mark_in_the_first_version_counts_as_well(world: World) -> None:
    """As a process published it that knew tests and not the second version."""
    live = world.chunk([world.person(0)])
    await world.apply("delivery.chunks", msgspec.structs.replace(live, test=True))
    await to_the_end(world)
    assert await world.statuses(live.message_id) == ["delivered"]
    assert await world.work() == []


async def test_no_claim_sees_a_test(world: World) -> None:
    message_id = await world.store(5, test=True)
    assert await world.work() == []
    assert (await world.claim()).calls == []
    assert set(await world.statuses(message_id)) == {"queued"}


async def test_the_last_digits_decide_and_nobody_is_blocked(world: World) -> None:
    chunk = world.chunk([world.person(number) for number in (1, 9001, 9002, 9003, 9004, 9005, 9006, 9007)], test=True)
    await world.apply("delivery.chunks", chunk)
    await to_the_end(world)
    by_index = {row["phone_index"]: row for row in await world.rows(chunk.message_id)}
    found = [by_index[person.phone_index] for person in chunk.recipients]
    assert [(row["status"], row["error_code"]) for row in found] == [
        ("delivered", None),
        ("failed", "40310"),
        ("failed", "40300"),
        ("undelivered", "40008"),
        ("undelivered", "40006"),
        ("undelivered", "40002"),
        ("unconfirmed", None),
        ("delivered", None),
    ]
    assert await counters(world, chunk.message_id) == {"delivered": 2, "failed": 2, "undelivered": 3, "unconfirmed": 1}
    errors = [code for update in await world.updates() for code in update.errors]
    assert sorted(errors) == ["40002", "40006", "40008", "40300", "40310"]
    async with world.database.across_churches() as tx:
        assert await tx.fetch_value(SUPPRESSED) == 0  # what is told of a test is true of nobody


async def test_a_chunk_delivered_twice_or_by_two_streamers_counts_once(world: World) -> None:
    chunk = world.chunk([world.person(number) for number in range(20)], test=True)
    envelope = world.envelope(chunk)
    for each in (envelope, envelope, world.envelope(chunk)):
        await world.apply("delivery.chunks", each)
        await simulated(world)
    for _ in range(3):
        await world.apply("delivery.chunks", world.envelope(chunk))
        await simulated(world)
    assert await counters(world, chunk.message_id) == {"delivered": 20}
    assert await pending(world) == 0


async def test_two_replicas_at_once_do_each_step_once(world: World) -> None:
    message_id = await world.store(300, test=True)
    for _ in range(3):
        await asyncio.gather(*(simulate(world.database, world.keys, asyncio.Event(), batch=40) for _ in range(2)))
        async with world.database.across_churches() as tx:
            await tx.execute(BE_DUE)
    # What it was stored with, `world.store` has forgotten.
    assert await counters(world, message_id) == {"queued": -300, "delivered": 300}
    assert set(await world.statuses(message_id)) == {"delivered"}


async def test_a_process_that_dies_in_a_step_has_done_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = await world.store(10, test=True)

    async def die(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("koinonia_delivery.simulating.announce", die)
        with pytest.raises(RuntimeError):
            await simulate(world.database, world.keys, asyncio.Event())
    assert set(await world.statuses(message_id)) == {"queued"}
    assert await world.updates() == []
    await to_the_end(world)
    assert await counters(world, message_id) == {"queued": -10, "delivered": 10}


async def test_opt_outs_hold_for_tests_too(world: World) -> None:
    await world.suppress(0)
    chunk = world.chunk([world.person(0), world.person(1), world.person(2, left_out="no_consent")], test=True)
    await world.apply("delivery.chunks", chunk)
    await world.suppress(1)
    await to_the_end(world)
    assert await world.statuses(chunk.message_id) == ["suppressed"] * 3
    assert await counters(world, chunk.message_id) == {"suppressed": 3}
    assert await pending(world) == 0


async def test_withdrawn_consent_holds_for_tests_too(world: World) -> None:
    message_id = await world.store(1, test=True)
    person = world.person(0)
    withdrawn = MemberState(
        member_id=person.member_ids[0],
        version=2,
        first_name="Anna",
        last_name="",
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        branch_id=new_id(),
        opted_in=False,
    )
    await world.apply("delivery.consents", MembersChanged(members=(withdrawn,), source="admin"))
    await to_the_end(world)
    (row,) = await world.rows(message_id)
    assert (row["status"], row["error_code"]) == ("suppressed", "withdrawn")


async def test_a_text_that_looks_like_a_stop_holds_a_test_until_it_is_judged(world: World) -> None:
    message_id = await world.store(1, test=True)
    person = world.person(0)
    stop = MessageReceived(
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text="STOP",
        media_urls=(),
        carrier_id="c",
        occurred_at=clock.now(),
    )
    await world.apply("delivery.holds", stop)
    await to_the_end(world)
    assert await world.statuses(message_id) == ["queued"]
    await world.suppress(0)
    await to_the_end(world)
    assert await world.statuses(message_id) == ["suppressed"]


async def test_a_cancelled_test_goes_no_further_and_says_so(world: World) -> None:
    message_id = await world.store(4, test=True)
    await world.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now(), test=True))
    await world.sweep()
    (stopped,) = [each.data for each in await world.events(BroadcastStopped)]
    assert (stopped.test, stopped.sent_recipients) == (True, 0)
    await to_the_end(world)
    assert await world.statuses(message_id) == ["cancelled"] * 4
    assert await counters(world, message_id) == {"queued": -4, "cancelled": 4}
    late = world.chunk([world.person(7)], message_id=message_id, test=True)
    await world.apply("delivery.chunks", late)
    assert set(await world.statuses(message_id)) == {"cancelled"}


async def test_what_was_accepted_before_a_cancel_comes_to_its_end(world: World) -> None:
    message_id = await world.store(2, test=True)
    await simulate(world.database, world.keys, asyncio.Event())
    await world.cancel(message_id)
    await to_the_end(world)
    assert await world.statuses(message_id) == ["delivered"] * 2


async def test_a_paused_test_rests_and_goes_on(world: World) -> None:
    message_id = await world.store(3, test=True)
    paused = MessagePaused(message_id=message_id, version=1, paused_at=clock.now(), test=True)
    await world.apply("delivery.messages", paused)
    await to_the_end(world)
    assert set(await world.statuses(message_id)) == {"queued"}
    await world.apply("delivery.messages", MessageResumed(message_id=message_id, version=2, test=True))
    await to_the_end(world)
    assert set(await world.statuses(message_id)) == {"delivered"}


async def test_pauses_and_resumptions_cross_rounds_and_nothing_is_left_held(world: World) -> None:
    message_id = await world.store(200, test=True)

    async def turn() -> None:
        for version in range(1, 21, 2):
            paused = MessagePaused(message_id=message_id, version=version, paused_at=clock.now(), test=True)
            await world.apply("delivery.messages", paused)
            await world.apply(
                "delivery.messages", MessageResumed(message_id=message_id, version=version + 1, test=True)
            )

    async def rest() -> None:
        for version in range(1, 11, 2):
            await world.apply("delivery.churches", SendingPaused(version=version, paused_at=clock.now()))
            await world.apply("delivery.churches", SendingResumed(version=version + 1))

    async def answer() -> None:
        for _ in range(20):
            await simulate(world.database, world.keys, asyncio.Event(), batch=20)

    await asyncio.gather(turn(), rest(), answer(), answer())
    await to_the_end(world)
    assert set(await world.statuses(message_id)) == {"delivered"}


async def test_a_resumption_amid_rounds_wakes_all_that_was_held_for_long(world: World) -> None:
    message_id, stopping = await world.store(200, test=True), asyncio.Event()

    async def answer() -> None:
        for _ in range(20):
            await simulate(world.database, world.keys, asyncio.Event(), batch=20)

    await world.apply("delivery.churches", SendingPaused(version=1, paused_at=clock.now()))
    await simulate(world.database, world.keys, asyncio.Event())
    await held_for(world, timedelta(hours=1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("koinonia_delivery.simulating.announce", ending(stopping))
        assert await simulate(world.database, world.keys, stopping, batch=20) == 20
    assert await waits(world) > 1700
    await asyncio.gather(world.apply("delivery.churches", SendingResumed(version=2)), answer(), answer())
    assert await waits(world) <= SOON_SECONDS  # the receipts of those that were sent
    await to_the_end(world)
    assert set(await world.statuses(message_id)) == {"delivered"}


async def test_tests_of_a_church_that_rests_rest_too(world: World) -> None:
    church = ChurchChanged(church_id=world.church_id, version=1, name="Grace", timezone="UTC", status="active")
    await world.apply("delivery.churches", church, SendingPaused(version=1, paused_at=clock.now()))
    message_id = await world.store(1, test=True)
    await to_the_end(world)
    assert await world.statuses(message_id) == ["queued"]
    await world.apply("delivery.churches", SendingResumed(version=2))
    await to_the_end(world)
    assert await world.statuses(message_id) == ["delivered"]


async def test_a_held_test_is_looked_at_ever_more_seldom_until_it_is_freed(world: World) -> None:
    message_id = await world.store(3, test=True)
    await world.apply(
        "delivery.messages", MessagePaused(message_id=message_id, version=1, paused_at=clock.now(), test=True)
    )
    assert await simulate(world.database, world.keys, asyncio.Event()) == 3
    assert 4 < await waits(world) <= 5
    assert await simulate(world.database, world.keys, asyncio.Event()) == 0
    for held, longest in ((timedelta(minutes=20), 600), (timedelta(days=30), 3600)):
        await held_for(world, held)
        assert await simulate(world.database, world.keys, asyncio.Event()) == 3
        assert longest - 1 < await waits(world) < longest + 5
    assert await simulate(world.database, world.keys, asyncio.Event()) == 0
    await world.apply("delivery.messages", MessageResumed(message_id=message_id, version=2, test=True))
    await simulate(world.database, world.keys, asyncio.Event())
    assert await world.statuses(message_id) == ["sent"] * 3


async def test_a_cancel_ends_what_was_held_for_long(world: World) -> None:
    message_id = await world.store(1, test=True)
    await world.apply(
        "delivery.messages", MessagePaused(message_id=message_id, version=1, paused_at=clock.now(), test=True)
    )
    await simulate(world.database, world.keys, asyncio.Event())
    await world.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now(), test=True))
    await simulate(world.database, world.keys, asyncio.Event())
    assert await world.statuses(message_id) == ["cancelled"]


@pytest.mark.parametrize("resting", ["church", "number"])
async def test_what_waits_for_a_number_goes_on_with_it(world: World, resting: str) -> None:
    async def rest(version: int) -> None:
        if resting == "church":
            said = SendingPaused(version=1, paused_at=clock.now()) if version == 1 else SendingResumed(version=2)
            await world.apply("delivery.churches", said)
        else:
            async with world.database.tenant(world.church_id) as tx:
                await churches.pause_number(tx, _owner(world), world.number_id, paused=version == 1)

    await rest(1)
    message_id = await world.store(1, test=True)
    await simulate(world.database, world.keys, asyncio.Event())
    assert await world.statuses(message_id) == ["queued"]
    await rest(2)
    await simulate(world.database, world.keys, asyncio.Event())
    assert await world.statuses(message_id) == ["sent"]


async def test_a_held_test_is_looked_at_when_it_expires(world: World) -> None:
    message_id = await world.store(1, test=True, do_not_send_after=clock.now() + timedelta(minutes=10))
    await world.apply(
        "delivery.messages", MessagePaused(message_id=message_id, version=1, paused_at=clock.now(), test=True)
    )
    await simulate(world.database, world.keys, asyncio.Event())
    await held_for(world, timedelta(days=1))
    await simulate(world.database, world.keys, asyncio.Event())
    assert 590 < await waits(world) < 600


async def test_a_sent_test_that_nobody_can_read_rests_after_its_time_to_send_has_passed(world: World) -> None:
    message_id = await world.store(1, test=True, do_not_send_after=clock.now() + timedelta(minutes=10))
    await simulate(world.database, world.keys, asyncio.Event())
    async with world.database.across_churches() as tx:
        await tx.execute(TOO_LATE)
    foreign = Keys.parse(
        **{**KEY_SETTINGS, "encryption_keys": KEY_SETTINGS["encryption_keys"].replace("test", "other")}
    )
    async with asyncio.timeout(20):
        assert await simulate(world.database, foreign, asyncio.Event()) == 1
    await to_the_end(world)
    assert await world.statuses(message_id) == ["delivered"]


async def test_held_tests_cost_the_others_nothing(world: World) -> None:
    for church_id in (world.church_id, *(new_id() for _ in range(19))):
        async with world.database.tenant(church_id) as tx:
            await tx.execute(HOLD_MANY, church_id)
    message_id = await world.store(5, test=True)
    with explained() as plans:
        await simulate(world.database, world.keys, asyncio.Event())
    assert await world.statuses(message_id) == ["sent"] * 5
    taking, nothing = plans.by_name["test_work.take"]
    assert (taking.rows, nothing.rows) == (5, 0)
    assert taking.buffers < 20 * 10  # a few for each church
    assert nothing.buffers < 10


async def test_one_churchs_tests_do_not_keep_another_waiting(world: World) -> None:
    small = World(world.database, world.keys, new_id())
    await small.begin()
    many = await world.store(300, test=True)
    few = await small.store(4, test=True)
    stopping = asyncio.Event()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("koinonia_delivery.simulating.announce", ending(stopping))
        assert await simulate(world.database, world.keys, stopping, batch=100) == 54
    assert await small.statuses(few) == ["sent"] * 4
    assert (await world.statuses(many)).count("sent") == 50
    assert await simulate(world.database, world.keys, asyncio.Event(), batch=100) == 250


async def test_a_process_that_stops_begins_no_other_round(world: World) -> None:
    message_id = await world.store(30, test=True)
    stopping = asyncio.Event()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("koinonia_delivery.simulating.announce", ending(stopping))
        assert await simulate(world.database, world.keys, stopping, batch=10) == 10
    assert await simulate(world.database, world.keys, stopping) == 0
    assert (await world.statuses(message_id)).count("queued") == 20


async def test_a_receipt_of_the_real_carrier_changes_no_test(world: World) -> None:
    message_id = await world.store(1, test=True)
    (row,) = await world.rows(message_id)
    await world.receive(receipt(row["id"], "delivered"))
    assert await world.rows(message_id) == [row]
    assert await world.updates() == []
    async with world.database.across_churches() as tx:
        assert await tx.fetch_value(PARKED) == 0


async def test_one_that_came_too_late_expires(world: World) -> None:
    message_id = await world.store(1, test=True, do_not_send_after=clock.now() - timedelta(seconds=1))
    await to_the_end(world)
    assert await world.statuses(message_id) == ["expired"]


async def test_a_test_reply_is_simulated_beside_live_ones(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    person = world.person(3)
    wanted = ReplyRequestedForTest(
        conversation_id=new_id(),
        reply_id=new_id(),
        number_id=world.number_id,
        member_id=None,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        content="A test",
        media_urls=(),
        requested_at=clock.now(),
    )
    envelope = world.envelope(wanted)
    await world.apply("delivery.texts", envelope)
    await world.apply("delivery.texts", envelope)
    live_id = await world.reply(4)
    worker = start_worker()
    await wait_until(all_are(world, live_id, "sent"))
    await to_the_end(world)
    await worker.stop()
    assert await world.statuses(wanted.reply_id) == ["delivered"]
    assert await counters(world, wanted.reply_id) == {"delivered": 1}
    assert [each.text for each in carrier.record.texts] == ["On my way"]


async def test_the_search_for_lost_receipts_passes_tests_by(world: World) -> None:
    old = clock.now() - timedelta(days=5)
    sent = await world.store(1, test=True, dispatched_at=old)
    await simulate(world.database, world.keys, asyncio.Event())
    paused = world.chunk([world.person(1)], test=True, dispatched_at=old + timedelta(seconds=1))
    await world.apply("delivery.messages", MessagePaused(message_id=paused.message_id, version=1, paused_at=old))
    await world.apply("delivery.chunks", paused)
    async with world.database.across_churches() as tx:
        assert await doubts.scan_overdue(tx, clock.now() - timedelta(days=4), 100, 60.0)
    async with world.database.across_churches() as tx:
        (last,) = await world.rows(paused.message_id)
        assert await tx.fetch_value(SCANNED_TO) == last["id"]
    assert await world.work() == []
    assert await world.statuses(sent) == ["sent"]


async def test_a_test_is_sent_again_by_nobody(world: World) -> None:
    chunk = world.chunk([world.person(9006)], test=True)
    await world.apply("delivery.chunks", chunk)
    await to_the_end(world)
    (row,) = await world.rows(chunk.message_id)
    assert row["status"] == "unconfirmed"
    async with world.database.tenant(world.church_id) as tx:
        with pytest.raises(Conflict):
            await recipients.resolve(tx, chunk.message_id, row["id"], "resend", identity=_owner(world))
    assert await world.work() == []


async def test_a_members_list_holds_tests_or_the_rest(world: World) -> None:
    person = world.person(0)
    member = MemberState(
        member_id=person.member_ids[0],
        version=1,
        first_name="Anna",
        last_name="",
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        branch_id=new_id(),
        opted_in=True,
    )
    await world.apply("delivery.consents", MembersChanged(members=(member,), source="admin"))
    for test in (False, True, False, True):
        await world.apply("delivery.chunks", world.chunk([person], content=f"Test: {test}", test=test))
    async with world.database.tenant(world.church_id) as tx:
        for test in (False, True):
            page = await recipients.list_of_member(tx, world.keys, member.member_id, api.PageQuery(), test=test)
            assert [(each.content, each.test) for each in page.data] == [(f"Test: {test}", test)] * 2


async def test_the_trail_says_that_it_is_a_test(world: World) -> None:
    message_id = await world.store(1, test=True)
    (row,) = await world.rows(message_id)
    sentences = []
    for _ in range(2):
        async with world.database.tenant(world.church_id) as tx:
            sentences += [each.sentence for each in (await trail.begin(tx, row["id"])).part.entries]
        await simulated(world)
    assert all("test" in sentence for sentence in sentences)
    assert len(sentences) == 3


def _owner(world: World) -> Identity:
    return Identity(
        church_id=world.church_id,
        principal_id=new_id(),
        principal_kind="session",
        role="owner",
        mfa_verified=False,
        address="127.0.0.1",
        request_id="test",
        expires_at=clock.now() + timedelta(minutes=1),
        method="POST",
        path="/",
    )
