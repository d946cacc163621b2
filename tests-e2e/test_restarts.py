"""Servers and workers killed in mid-broadcast: nobody is forgotten, nobody gets a text twice, the bill is right."""

import asyncio
from collections.abc import Sequence

import aio_pika
import asyncpg
import pytest

from koinonia.api.messages import Message, MessageProgress
from koinonia.bus.declare import dead_queue
from koinonia.db.roles import SERVICES
from koinonia.testing.fixtures import wait_until

from .church import Church
from .platform import QUEUES_TOLD_SECONDS, Platform

RECIPIENTS = 600
SEGMENTS = RECIPIENTS
LATENCIES = (0.5, 0.8, 1.1)
SLOW = (1.5, 2.0, 2.5)


@pytest.mark.containers  # without them the chaos suite kills each server, and looks closer
@pytest.mark.parametrize("server", ["redis", "rabbitmq", "postgres"])
async def test_a_server_killed_in_mid_broadcast_costs_nobody_a_text(church: Church, server: str) -> None:
    sent = await begin(church, "While a server is killed.")
    await church.platform.kill(server)
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    assert message.counts.delivered == RECIPIENTS
    await church.agrees(sent.id)
    await church.is_metered(SEGMENTS)
    await wait_until(lambda: is_drained(church.platform), seconds=120, what="empty outboxes and queues")
    assert await church.platform.dead_letters() == "no dead letters"


async def test_a_worker_killed_in_mid_broadcast_leaves_nobody_in_doubt(church: Church) -> None:
    """No receipt settles what the dead worker held: they come only after a call of its has been made again."""
    carrier = church.platform.carrier
    replayed = (await carrier.summary())["replayed"]
    sent = await begin(church, "While a worker is killed.", latencies=SLOW, receipts_held_back=True)

    async def is_made_again() -> bool:
        return bool((await carrier.summary())["replayed"] > replayed)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(church, sent))
        await church.platform.kill("delivery-worker-1")
        await wait_until(is_made_again, seconds=90, what="a call made again that the carrier had taken")
        await carrier.clear_faults()
        await carrier.deliver_pending()
    states = watching.result()
    assert max(state.counts.unknown for state in states) > 0
    assert states[-1].status == "completed"
    assert states[-1].counts.delivered == RECIPIENTS
    await church.agrees(sent.id)
    await church.is_metered(SEGMENTS)


async def test_an_event_in_a_consumers_hands_is_in_its_queue_still(platform: Platform) -> None:
    """What is counted as drained has been acknowledged, and not only handed out."""
    await wait_until(lambda: is_drained(platform), seconds=120, what="empty outboxes and queues")
    name = dead_queue("delivery.chunks")  # nobody else takes from it
    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), name)
        event = await (await channel.get_queue(name)).get(timeout=5)
        try:
            await wait_until(lambda: is_counted(platform, name), what="the broker's count")
            assert not await is_drained(platform)
        finally:
            await event.ack()
    await wait_until(lambda: is_drained(platform), seconds=120, what="empty outboxes and queues")


async def begin(
    church: Church,
    content: str,
    *,
    latencies: Sequence[float] = LATENCIES,
    receipts_held_back: bool = False,
) -> Message:
    """Send a broadcast that takes some seconds; return in its midst."""
    phones = [person.phone for person in await church.add(RECIPIENTS)]
    for part, seconds in enumerate(latencies):  # several, so that each worker has calls under way at any moment
        await church.platform.carrier.order("latency", phones[part :: len(latencies)], seconds=seconds)
    if receipts_held_back:
        await church.platform.carrier.order("receipt_late", phones)
    sent = await church.send(content)

    async def is_under_way() -> bool:
        message = await church.client.messages.get(sent.id)
        assert message.completed_at is None
        return message.counts.delivered + message.counts.sent >= 150

    await wait_until(is_under_way, seconds=60, what="the first texts")
    return sent


async def watch(church: Church, message: Message) -> list[MessageProgress]:
    """Every state until the last."""
    return [state async for state in church.client.messages.events(message.id)]


async def is_drained(platform: Platform) -> bool:
    """Whether every event has gone out and been applied, and none waits for a fact.

    It is said twice, so that what consumers had in hand the first time has been told.
    """
    for seconds in (0.0, QUEUES_TOLD_SECONDS):
        await asyncio.sleep(seconds)
        if await waiting_events(platform) or await platform.queued():
            return False
    return True


async def is_counted(platform: Platform, queue: str) -> bool:
    """Whether the broker tells of one event in a queue."""
    return (await platform.queued()).get(queue) == 1


async def waiting_events(platform: Platform) -> int:
    """How many events wait in outboxes, for a fact, or for their row."""
    tables = [f"{service}.{table}" for service in SERVICES for table in ("outbox", "parked")]
    tables.append("delivery.parked_receipts")
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        return sum([await database.fetchval(f"SELECT count(*) FROM {table}") for table in tables])
    finally:
        await database.close()
