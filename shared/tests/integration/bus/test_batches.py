"""Events handled in batches: one transaction for many, and what each of them still is by itself."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from koinonia import telemetry
from koinonia.bus import Outgoing, dead_letters, outbox
from koinonia.bus.failures import ATTEMPT
from koinonia.db import Transaction
from koinonia.events import Envelope, Event, encode
from koinonia.testing.bus_world import QUEUE, World, apply
from koinonia.testing.fixtures import wait_until

LAST_ATTEMPT = {ATTEMPT: 4}  # so that the next failure is final


async def test_a_batch_is_applied_in_one_transaction_across_churches(world: World) -> None:
    batches = []

    async def handle(tx: Transaction, received: Sequence[Envelope[Any]]) -> None:
        batches.append((tx.church_id, len(received)))
        for each in received:
            await apply(tx, each)

    await world.publisher.publish_events(*(world.event(f"{number:02}") for number in range(20)))
    world.run(world.consumer(handle, batch=20, linger_seconds=5.0).run)
    await wait_until(lambda: _equals(world.effects, [f"{number:02}" for number in range(20)]))
    assert batches == [(None, 20)]
    await world.settled()
    assert await world.message_count(QUEUE) == 0


async def test_a_statement_that_runs_once_per_row_is_warned_of_and_one_per_event_is_not(world: World) -> None:
    async def handle(tx: Transaction, received: Sequence[Envelope[Any]]) -> None:
        for each in received:
            for _ in range(each.data.version):
                await apply(tx, each)

    def events(count: int, repeats: int) -> list[Envelope[Any]]:
        return [
            msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, version=repeats))
            for event in (world.event() for _ in range(count))
        ]

    applier = world.consumer(handle, batch=20).applier
    with capture_logs() as logs:
        await applier.apply(events(1, 10))
        await applier.apply(events(20, 2))
    assert logs == []
    with capture_logs() as logs:
        await applier.apply(events(1, 11))
        await applier.apply(events(7, 3))
    assert [(entry["event"], entry["queue"], entry["statements"], entry["events"]) for entry in logs] == [
        ("statements_repeated", QUEUE, ["effects.insert"], 1),
        ("statements_repeated", QUEUE, ["effects.insert"], 7),
    ]


async def test_what_follows_from_a_batch_names_no_single_cause_and_its_span_links_to_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    made: list[Envelope[Event]] = []

    async def handle(tx: Transaction, received: Sequence[Envelope[Any]]) -> None:
        made.append(outbox.envelope(tx, received[0].data))

    applier = world.consumer(handle, batch=2).applier
    events = [
        msgspec.structs.replace(
            world.event(), correlation_id=f"request-{number}", traceparent=f"00-{number:032x}-{number:016x}-01"
        )
        for number in (1, 2)
    ]
    await applier.apply(events)
    assert (made[0].correlation_id, made[0].causation_id) == (None, None)
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert [link.context.trace_id for link in span.links] == [1, 2]
    assert made[0].traceparent is not None
    assert made[0].traceparent.split("-")[1] == f"{span.context.trace_id:032x}"

    alone = msgspec.structs.replace(events[0], id=world.event().id)
    await applier.apply([alone])
    assert (made[1].correlation_id, made[1].causation_id) == ("request-1", str(alone.id))
    assert exporter.get_finished_spans()[1].context.trace_id == 1


async def test_a_batch_that_fails_is_applied_row_by_row(world: World) -> None:
    async def handle(tx: Transaction, received: Sequence[Envelope[Any]]) -> None:
        for each in received:
            if each.data.name == "bad":
                raise ValueError("bad")
            await apply(tx, each)

    bad = Outgoing(exchange="", routing_key=QUEUE, body=encode(world.event("bad")), headers=LAST_ATTEMPT)
    good = [Outgoing.event(world.event(name)) for name in ("a", "b", "c")]
    await world.publisher.publish([good[0], bad, *good[1:]])
    world.run(world.consumer(handle, batch=4, linger_seconds=0.5).run)
    await wait_until(lambda: _equals(world.effects, ["a", "b", "c"]))
    await wait_until(lambda: _has_letters(world, 1))


async def _equals(read: Any, wanted: list[str]) -> bool:
    return bool(await read() == wanted)


async def _has_letters(world: World, wanted: int) -> bool:
    return (await dead_letters.count(world.link, [QUEUE]))[QUEUE] == wanted
