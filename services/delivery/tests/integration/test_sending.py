"""Workers against the simulated carrier: every recipient gets its text once, whatever goes wrong on the way."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from services.delivery.tests.integration.conftest import StartWorker, World, accepted, all_are, receipt

from koinonia.carrier.simulated import Fault, SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia_delivery.calls import Caller, carrier_breaker
from koinonia_delivery.settling import settle

WaitUntil = Callable[..., Awaitable[object]]


async def test_a_broadcast_reaches_everybody_once(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    message_id = await world.store(120)
    workers = [start_worker() for _ in range(2)]
    await wait_until(all_are(world, message_id, "sent"))
    for worker in workers:
        await worker.stop()
    assert len(carrier.record.texts) == 120
    assert not carrier.record.duplicates
    assert {text.text for text in carrier.record.texts} == {f"Hi Anna{number}" for number in range(120)}
    assert sum(update.accepted_recipients for update in await world.updates()) == 120
    assert await world.work() == []


async def test_lost_answers_are_asked_for_again_and_nobody_gets_it_twice(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.order(Fault(kind="answer_lost", next=3), Fault(kind="answer_garbled", next=2))
    message_id = await world.store(30)
    worker = start_worker()
    await wait_until(all_are(world, message_id, "sent"), seconds=40)
    await worker.stop()
    assert len(carrier.record.texts) == 30
    assert carrier.record.replayed == 5
    assert sum(update.accepted_recipients for update in await world.updates()) == 30


async def test_what_the_carrier_refuses_for_now_is_tried_again(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.order(
        Fault(kind="rate_limited", seconds=1, next=2),
        Fault(kind="error", status=400, code="40310", title="Invalid", recipients=frozenset({"+12055560001"})),
    )
    message_id = await world.store(3)
    worker = start_worker()
    await wait_until(all_are(world, message_id, "sent", "failed"), seconds=40)
    await worker.stop()
    assert sorted(await world.statuses(message_id)) == ["failed", "sent", "sent"]
    assert len(carrier.record.texts) == 2


async def test_without_keys_at_the_carrier_its_records_settle_an_unknown_one(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.behaviour.idempotency = False
    carrier.order(Fault(kind="answer_lost", next=1, recipients=frozenset({"+12055560000"})))
    carrier.order(Fault(kind="reset", next=1, recipients=frozenset({"+12055560001"})))
    message_id = await world.store(3)
    worker = start_worker(telnyx_idempotency=False)
    await wait_until(all_are(world, message_id, "sent", "unknown"))
    await world.let_pass(seconds=5)
    await worker.doubts.look_up()
    assert sorted(await world.statuses(message_id)) == ["delivered", "sent", "unknown"]
    await world.let_pass(hours=3)
    await worker.doubts.look_up()
    assert sorted(await world.statuses(message_id)) == [
        "delivered",
        "sent",
        "unknown",
    ]  # it may still be in their queue
    await world.let_pass(hours=2)
    await worker.doubts.look_up()
    assert sorted(await world.statuses(message_id)) == ["delivered", "sent", "unconfirmed"]
    await worker.stop()
    assert len(carrier.record.texts) == 2
    assert await world.work() == []


async def test_a_killed_workers_recipients_become_unknown_and_are_sent_once(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.order(Fault(kind="answer_slow", seconds=1.5, next=10))
    message_id = await world.store(10)
    worker = start_worker()
    await wait_until(lambda: len(carrier.record.texts) == 10)
    await worker.kill()
    assert set(await world.statuses(message_id)) == {"sending"}
    await world.be_due()
    assert await worker.doubts.reap_leases() == 10
    assert (await world.updates())[-1].changes == {"queued": -10, "unknown": 10}
    heir = start_worker()
    await wait_until(all_are(world, message_id, "sent"))
    await heir.stop()
    assert len(carrier.record.texts) == 10


async def test_a_worker_that_is_told_to_stop_finishes_its_calls_and_leaves_no_lease(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.behaviour.latency_seconds = 0.5
    message_id = await world.store(40)
    worker = start_worker(delivery_concurrency=10)

    async def under_way() -> bool:
        return "sending" in await world.statuses(message_id)

    await wait_until(under_way)
    await worker.stop()
    statuses = await world.statuses(message_id)
    assert set(statuses) == {"sent", "queued"}
    assert {row["state"] for row in await world.work()} == {"ready"}
    assert len(carrier.record.texts) == statuses.count("sent")


async def test_a_call_cut_off_at_the_end_of_the_drain_is_unknown(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.behaviour.latency_seconds = 10
    message_id = await world.store(1)
    worker = start_worker(drain_seconds=3.1)
    await wait_until(all_are(world, message_id, "sending"))
    await worker.stop()
    assert await world.statuses(message_id) == ["unknown"]


async def test_sending_pauses_while_the_carrier_is_away_and_resumes_by_itself(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.order(Fault(kind="error", status=503, next=5))
    message_id = await world.store(20)
    worker = start_worker(delivery_concurrency=5)
    await wait_until(lambda: worker.caller.breaker.openings == 1)
    await wait_until(all_are(world, message_id, "sent"), seconds=40)
    await worker.stop()
    assert len(carrier.record.texts) == 20
    assert not carrier.record.duplicates


async def test_one_call_alone_tries_whether_the_carrier_is_back(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    """Of all that a worker does; the others wait for what it learns."""
    carrier.order(Fault(kind="error", status=503, next=5))
    message_id = await world.store(20)
    worker = start_worker(delivery_concurrency=5)
    await wait_until(lambda: worker.caller.breaker.openings == 1)
    carrier.order(Fault(kind="latency", seconds=1.0, next=1))
    await wait_until(lambda: worker.caller.breaker.state == "half_open" and worker.sending._calls, seconds=40)
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        assert len(worker.sending._calls) + len(worker.sending._claimed) == 1
        await asyncio.sleep(0.01)
    await wait_until(all_are(world, message_id, "sent"), seconds=40)


async def test_a_call_whose_time_has_passed_is_not_begun(world: World, carrier: SimulatedCarrier) -> None:
    message_id = await world.store(1)
    claimed = await world.claim()
    async with TelnyxCarrier(carrier.url, "key") as client:
        caller = Caller(client, world.keys, world.settings, carrier_breaker())
        outcome = await caller.call(msgspec.structs.replace(claimed.calls[0], latest_at=time.monotonic() - 0.01))
    await world.settle(outcome)
    assert outcome.result == "returned"
    assert await world.statuses(message_id) == ["queued"]
    assert carrier.record.texts == []


async def test_a_text_without_its_last_receipt_is_looked_up_after_the_deadline(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    message_id = await world.store(2)
    worker = start_worker(receipt_deadline=0.2)
    await wait_until(all_are(world, message_id, "sent"))

    async def closed() -> bool:
        await worker.doubts.scan_overdue()
        await worker.doubts.look_up()
        return "sent" not in await world.statuses(message_id)

    await wait_until(closed)
    assert set(await world.statuses(message_id)) == {"delivered"}  # the carrier knew, though its receipts were lost
    await worker.stop()
    assert await world.work() == []


async def test_a_text_that_the_carrier_knows_nothing_of_is_unconfirmed_and_a_late_receipt_still_counts(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    message_id = await world.store(1)
    claimed = await world.claim_one()
    await world.settle(accepted(claimed, "unheard-of"))
    worker = start_worker(receipt_deadline=0.1)

    async def closed() -> bool:
        await worker.doubts.scan_overdue()
        await worker.doubts.look_up()
        return await world.statuses(message_id) == ["unconfirmed"]

    await wait_until(closed)
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    assert await world.statuses(message_id) == ["delivered"]
    await worker.stop()


async def test_one_that_was_still_waiting_when_the_scan_passed_is_overdue_later(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    message_id = await world.store(1)
    claimed = await world.claim_one()
    worker = start_worker(receipt_deadline=0.1)

    async def scanned() -> bool:
        await worker.doubts.scan_overdue()
        return bool((await world.work())[0]["is_late"])

    await wait_until(scanned)
    await settle(world.database, [accepted(claimed, "unheard-of")], worker.settings)
    assert [row["state"] for row in await world.work()] == ["overdue"]

    async def closed() -> bool:
        await worker.doubts.look_up()
        return await world.statuses(message_id) == ["unconfirmed"]

    await wait_until(closed)
    await worker.stop()
