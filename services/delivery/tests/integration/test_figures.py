"""What is measured of sending: queues, rates, workers; and what is shown of it at /metrics."""

from datetime import timedelta

import msgspec
import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia import clock, metrics
from koinonia.db import Transaction, statement
from koinonia.events.conversation import ReplyRequested
from koinonia.ids import new_id
from koinonia_delivery import figures
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.figures import Queue, RateUse
from koinonia_delivery.store import figures as store

LATER = statement("test.later", "UPDATE work SET due_at = clock_timestamp() + interval '1 hour' WHERE source_id = $1")
OLDER = statement("test.older", "UPDATE work SET due_at = due_at - interval '90 seconds' WHERE source_id = $1")
BULK = statement(
    "test.bulk",
    """
    INSERT INTO work (
        recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at
    )
    SELECT
        gen_random_uuid(), $1, $2, ($3::uuid[])[1 + i % cardinality($3::uuid[])], '', 1, 1, 'ready', clock_timestamp()
    FROM generate_series(1, $4) AS i
    """,
)


async def queues(world: World, rows: int = figures.MOST_ROWS) -> dict[str, Queue]:
    async with world.database.across_churches() as tx:
        return {queue.name: queue for queue in await figures.measure(tx, rows)}


async def reply(world: World) -> None:
    person = world.person(7)
    await world.apply(
        "delivery.texts",
        ReplyRequested(
            conversation_id=new_id(),
            reply_id=new_id(),
            number_id=None,
            member_id=None,
            phone_index=person.phone_index,
            phone_ciphertext=person.phone_ciphertext,
            content="See you",
            media_urls=(),
            requested_at=clock.now(),
        ),
    )


async def test_each_class_is_counted_with_what_is_due_and_the_age_of_its_oldest(world: World) -> None:
    assert {name: (each.depth, each.oldest_seconds) for name, each in (await queues(world)).items()} == dict.fromkeys(
        ("transactional", "broadcast", "unknown", "overdue", "parked"), (0, None)
    )
    unknown = await world.store(2)
    for call in (await world.claim()).calls:
        await world.settle(outcomes.unknown(attempt_of(call.claimed), 60))
    put_off, waiting = await world.store(3), await world.store(4)
    async with world.database.across_churches() as tx:
        await tx.execute(LATER, put_off)
        await tx.execute(OLDER, waiting)
    await reply(world)
    await world.receive(receipt(new_id(), "delivered"))
    found = await queues(world)
    assert {name: (each.depth, each.due) for name, each in found.items()} == {
        "transactional": (1, 1),
        "broadcast": (7, 4),
        "unknown": (2, 0),
        "overdue": (0, 0),
        "parked": (1, 0),
    }
    ages = {name: each.oldest_seconds for name, each in found.items()}
    assert 90 <= (ages["broadcast"] or 0) < 150
    assert all(0 <= (ages[name] or 0) < 60 for name in ("transactional", "unknown", "parked"))
    assert set(await world.statuses(unknown)) == {"unknown"}


async def test_the_oldest_broadcast_is_found_whichever_number_has_it(world: World) -> None:
    second, third = new_id(), new_id()
    await world.add_number(second)
    await world.add_number(third)
    for number_id in (world.number_id, second, third):
        oldest = await world.store(1, number_id=number_id)
        async with world.database.across_churches() as tx:
            await tx.execute(OLDER, oldest)
            found = (await figures.measure(tx))[1]
            assert 90 <= (found.oldest_seconds or 0) < 150, number_id
            await tx.execute(LATER, oldest)


async def test_no_more_is_counted_than_is_asked_for(world: World) -> None:
    await world.store(30)
    assert (await queues(world, rows=10))["broadcast"].depth == 10


async def test_the_statement_reads_no_more_of_a_hundred_thousand_rows_than_its_bound(world: World) -> None:
    numbers = [new_id() for _ in range(50)]
    async with world.database.across_churches() as tx:
        await tx.execute(BULK, world.church_id, new_id(), numbers, 100_000)
        assert await buffers(tx, 1000) * 5 < await buffers(tx, 100_000)


async def buffers(tx: Transaction, rows: int) -> int:
    explain = statement("test.explain", f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {store._MEASURE.text}")
    plan = msgspec.json.decode(await tx.fetch_value(explain, rows, figures.MOST_NUMBERS))[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_what_a_number_uses_of_its_rate_is_the_difference_of_two_readings(world: World) -> None:
    slow, idle = new_id(), new_id()
    await world.add_number(slow, rate=100.0)
    await world.add_number(idle)
    rates = RateUse()
    async with world.database.across_churches() as tx:
        assert await rates.read(tx) == {}
    await world.store(5, number_id=slow, content="x" * 200)  # two segments each
    for call in (await world.claim()).calls:
        await world.settle(accepted(call.claimed))
    assert rates._read_at is not None
    rates._read_at -= timedelta(seconds=10)
    async with world.database.across_churches() as tx:
        shares = await rates.read(tx)
        assert set(shares) == {slow}
        assert shares[slow] == pytest.approx(10 / (100.0 * 10), rel=0.2)
        assert await rates.read(tx) == {}


async def test_the_busiest_numbers_and_no_others_have_a_label(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "BUSIEST", 2)
    numbers = [new_id() for _ in range(4)]
    for number_id in numbers:
        await world.add_number(number_id)
    reader = figures.Reader(world.database)
    await reader.read()
    for count, number_id in enumerate(numbers, 1):
        await world.store(count, number_id=number_id)
    while calls := (await world.claim()).calls:  # they are for the same people, one after another
        await world.settle(*(accepted(call.claimed) for call in calls))
    await reader.read()
    assert set(metrics.number_rate_use._values) == {str(numbers[3]), str(numbers[2])}
    await reader.read()
    assert metrics.number_rate_use._values == {}
    assert metrics.delivery_depth._values["broadcast"] == 0
