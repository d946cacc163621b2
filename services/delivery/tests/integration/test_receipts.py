"""Receipts, in any order and number, end in the same state and are metered once."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import permutations
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia import clock, metrics, telemetry
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events.carrier import StatusReceived
from koinonia.ids import derived_id, new_id
from koinonia_delivery.calls import attempt_of, idempotency_key
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import resolving

Count = Callable[[], AbstractContextManager[StatementLog]]

PARKED = statement("test.parked", "SELECT count(*) FROM parked_receipts")
AGE_PARKED = statement(
    "test.age_parked",
    "UPDATE parked_receipts SET parked_at = parked_at - make_interval(secs => $1), next_try_at = clock_timestamp()",
)
MOVE_PARKED = statement("test.move_parked", "UPDATE parked_receipts SET next_try_at = clock_timestamp()")


async def parked(world: World) -> int:
    async with world.database.across_churches() as tx:
        return int(await tx.fetch_value(PARKED))


async def sent(world: World) -> tuple[UUID, UUID]:
    """A sent recipient: its message and its id."""
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    await world.clear_events()
    return message_id, claimed.recipient_id


@pytest.mark.parametrize("order", list(permutations(["sent", "delivered", "delivery_unconfirmed"])))
async def test_any_order_of_receipts_ends_in_the_same_state(world: World, order: tuple[str, ...]) -> None:
    message_id, recipient_id = await sent(world)
    for status in order:
        await world.receive(receipt(recipient_id, status))
    assert await world.statuses(message_id) == ["delivered"]
    total: dict[str, int] = {}
    for update in await world.updates():
        for status, count in update.changes.items():
            total[status] = total.get(status, 0) + count
    assert {status: count for status, count in total.items() if count} == {"sent": -1, "delivered": 1}


async def test_a_batch_of_receipts_is_tied_to_the_trace_of_each_text_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    _, recipient_id = await sent(world)
    exporter.clear()
    traces = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]
    await world.receive(*(receipt(recipient_id, "sent", traceparent=each) for each in [*traces, None, traces[0]]))
    (span,) = [span for span in exporter.get_finished_spans() if span.name == "consume delivery.receipts"]
    assert {link.context.trace_id for link in span.links} == {1, 2}


async def test_a_receipt_delivered_twice_counts_once(world: World) -> None:
    _, recipient_id = await sent(world)
    once = receipt(recipient_id, "delivered")
    await world.receive(once)
    await world.receive(once)
    await world.receive(once, once)
    assert [update.changes for update in await world.updates()] == [{"sent": -1, "delivered": 1}]


async def test_a_receipt_before_the_answer_settles_the_call(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.receive(receipt(claimed.recipient_id, "sent"))
    assert await world.statuses(message_id) == ["sent"]
    assert await world.work() == []
    (update,) = await world.updates()
    assert (update.changes, update.accepted_recipients) == ({"queued": -1, "sent": 1}, 1)


async def test_a_receipt_settles_an_unknown_one(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(claimed), 0))
    await world.receive(receipt(claimed.recipient_id, "delivered", carrier_id="late"))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["carrier_id"]) == ("delivered", "late")
    assert not (await world.claim()).calls
    updates = await world.updates()
    assert updates[-1].changes == {"unknown": -1, "delivered": 1}
    assert sum(update.accepted_recipients for update in updates) == 1


async def test_a_failed_delivery_tells_the_church_why(world: World) -> None:
    message_id, recipient_id = await sent(world)
    await world.receive(receipt(recipient_id, "delivery_failed", error_code="40008"))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["error_code"]) == ("undelivered", "40008")
    assert "switched off" in row["error_message"]


async def test_a_receipt_of_what_we_closed_keeps_it_closed_and_meters_it(world: World) -> None:
    """A person asked for another copy of an unknown one, which was then cancelled; the first had been accepted."""
    message_id = await world.store()
    (row,) = await world.rows(message_id)
    await world.cancel(message_id)
    await world.clear_events()
    await world.receive(receipt(row["id"], "sent"))
    assert await world.statuses(message_id) == ["unconfirmed"]
    await world.receive(receipt(row["id"], "delivered"))
    assert await world.statuses(message_id) == ["delivered"]
    assert sum(update.accepted_recipients for update in await world.updates()) == 1


async def test_the_first_copys_receipt_settles_one_that_a_person_has_asked_to_be_sent_again(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(claimed), 60.0))
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, claimed.recipient_id)
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["delivered"]


async def test_a_copy_sent_again_by_a_person_has_another_key(world: World) -> None:
    await world.store()
    first = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(first), 60.0))
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, first.recipient_id)
    second = await world.claim_one()
    assert idempotency_key(second) != idempotency_key(first)
    assert second.attempt > first.attempt


async def resend(world: World, recipient_id: UUID) -> None:
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, recipient_id)


async def test_a_second_copy_that_the_carrier_accepts_is_metered_too(world: World) -> None:
    message_id, recipient_id = await sent(world)
    await world.receive(receipt(recipient_id, "delivery_unconfirmed"))
    await resend(world, recipient_id)
    second = await world.claim_one()
    (row,) = await world.rows(message_id)
    assert (row["accepted_at"], row["sent_at"], row["carrier_id"]) == (None, None, None)
    await world.clear_events()
    await world.settle(accepted(second, "c2"))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["carrier_id"]) == ("sent", "c2")
    (update,) = await world.updates()
    assert (update.accepted_recipients, update.accepted_segments) == (1, 1)


async def test_the_first_copys_receipt_is_not_metered_again_before_the_second_begins(world: World) -> None:
    message_id, recipient_id = await sent(world)
    await world.receive(receipt(recipient_id, "delivery_unconfirmed"))
    await resend(world, recipient_id)
    await world.clear_events()
    await world.receive(receipt(recipient_id, "delivered"))
    assert await world.statuses(message_id) == ["delivered"]
    assert sum(update.accepted_recipients for update in await world.updates()) == 0


@pytest.mark.parametrize("first_ends", ["unknown", "unconfirmed"])
async def test_a_second_copy_whose_receipt_is_lost_is_looked_up(world: World, first_ends: str) -> None:
    message_id = await world.store()
    first = await world.claim_one()
    if first_ends == "unknown":
        await world.settle(outcomes.unknown(attempt_of(first), 60.0))  # its work is still there
    else:
        await world.receive(receipt(first.recipient_id, "delivery_unconfirmed"))
    await resend(world, first.recipient_id)
    await world.settle(accepted(await world.claim_one(), "c2"))
    assert await world.statuses(message_id) == ["sent"]
    assert [row["state"] for row in await world.work()] == ["overdue"]


async def test_receipts_of_several_churches_in_one_batch_each_go_to_their_own(world: World) -> None:
    _, first = await sent(world)
    await world.store()
    second = await world.claim_one()
    await world.settle(accepted(second))
    await world.clear_events()
    await world.receive(receipt(second.recipient_id, "delivered"), receipt(first, "delivered"))
    assert len(await world.updates()) == 2


async def test_a_receipt_without_its_row_is_parked_and_applied_when_the_row_is_there(world: World) -> None:
    chunk = world.chunk([world.person()])
    early = receipt(chunk.recipients[0].recipient_id, "delivered")
    await world.receive(early)
    await world.receive(early)
    assert await parked(world) == 1
    await world.apply("delivery.chunks", chunk)
    async with world.database.across_churches() as tx:
        await tx.execute(MOVE_PARKED)
        assert await world.receipts.try_parked(tx) == 1
    assert await world.statuses(chunk.message_id) == ["delivered"]
    assert await parked(world) == 0


async def test_a_parked_receipt_is_dropped_after_a_day(world: World) -> None:
    await world.receive(receipt(new_id(), "delivered"))
    async with world.database.across_churches() as tx:
        await tx.execute(AGE_PARKED, 80_000.0)
        await world.receipts.try_parked(tx)
    assert await parked(world) == 1
    async with world.database.across_churches() as tx:
        await tx.execute(AGE_PARKED, 10_000.0)
        await world.receipts.try_parked(tx)
    assert await parked(world) == 0


class Counted:
    """What was counted, by effect."""

    def __init__(self) -> None:
        self.by_effect: dict[str, int] = {}

    def add(self, amount: int, attributes: dict[str, str]) -> None:
        self.by_effect[attributes["effect"]] = self.by_effect.get(attributes["effect"], 0) + amount


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(metrics, "receipts_total", counted)
    return counted


async def test_a_receipt_that_comes_days_late_is_applied(world: World, counted: Counted) -> None:
    message_id = await world.store(dispatched_at=clock.now() - timedelta(days=9))
    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    await world.receive(receipt(claimed.recipient_id, "delivered", occurred_at=clock.now() - timedelta(days=8)))
    assert await world.statuses(message_id) == ["delivered"]
    assert counted.by_effect["applied"] == 1


async def test_a_receipt_of_an_archived_month_is_counted_and_dropped(world: World, counted: Counted) -> None:
    message_id, recipient_id = await sent(world)
    archived = derived_id(clock.now() - timedelta(days=400), b"archived")
    await world.receive(receipt(archived, "delivered"), receipt(recipient_id, "delivered"))
    assert await world.statuses(message_id) == ["delivered"]
    assert await parked(world) == 0
    assert counted.by_effect["archived"] == 1
    # One of a month that is not there yet may be ahead of its row, by a clock that is fast.
    await world.receive(receipt(derived_id(clock.now() + timedelta(days=400), b"ahead"), "delivered"))
    assert await parked(world) == 1


async def test_a_receipt_that_postgres_refuses_holds_up_no_other(world: World) -> None:
    """A word of the carrier's may hold a character that no text of Postgres's can."""
    message_id = await world.store(3)
    calls = (await world.claim()).calls
    await world.settle(*(accepted(call.claimed) for call in calls))
    bad, *good = (call.claimed.recipient_id for call in calls)
    refused = receipt(bad, "delivery_failed", error_code="4\0")
    await world.receive(receipt(good[0], "delivered"), refused, receipt(good[1], "delivered"))
    assert sorted(await world.statuses(message_id)) == ["delivered", "delivered", "sent"]
    assert await parked(world) == 1
    # Nor does it among the parked ones, until it is dropped with a word.
    chunk = world.chunk([world.person(7)])
    await world.receive(receipt(chunk.recipients[0].recipient_id, "delivered"))
    await world.apply("delivery.chunks", chunk)
    async with world.database.across_churches() as tx:
        await tx.execute(AGE_PARKED, 90_000.0)
        assert await world.receipts.try_parked(tx) == 2
    assert await world.statuses(chunk.message_id) == ["delivered"]
    assert await parked(world) == 0


async def test_a_word_that_we_do_not_know_changes_nothing(world: World) -> None:
    message_id, recipient_id = await sent(world)
    await world.receive(receipt(recipient_id, "brand_new_word"))
    assert await world.statuses(message_id) == ["sent"]
    assert await parked(world) == 0


async def test_receipts_killed_before_their_commit_are_applied_once(world: World) -> None:
    message_id, recipient_id = await sent(world)
    event = world.envelope(StatusReceived(receipts=(receipt(recipient_id, "delivered"),)))
    with pytest.raises(RuntimeError):
        async with world.database.across_churches() as tx:
            await world.receipts.apply(tx, [event])
            raise RuntimeError("killed")
    assert await world.statuses(message_id) == ["sent"]
    await world.apply("delivery.receipts", event)
    assert await world.statuses(message_id) == ["delivered"]
    assert len(await world.updates()) == 1


async def test_a_batch_of_five_hundred_takes_at_most_three_statements(world: World, count_statements: Count) -> None:
    await world.store(500)
    claimed = await world.claim(500)
    calls = [call.claimed.recipient_id for call in claimed.calls]
    events = [
        world.envelope(
            StatusReceived(receipts=tuple(receipt(each, "delivered") for each in calls[start : start + 100]))
        )
        for start in range(0, 500, 100)
    ]
    with count_statements() as counted:
        await world.apply("delivery.receipts", *events)
    assert counted.count <= 3, counted.by_name
    (update,) = await world.updates()
    assert update.changes == {"queued": -500, "delivered": 500}
    assert (update.accepted_recipients, update.accepted_segments) == (500, 500)
