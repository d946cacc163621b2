"""Servers that are killed and come back: the bus goes on by itself, and nothing is lost."""

import pytest
from structlog.testing import capture_logs

from koinonia.bus import BrokerUnavailable, Bus, Publisher, Subscription, outbox
from koinonia.bus.relay import Relay
from koinonia.errors import is_transient
from koinonia.events import gateway
from koinonia.life import Life
from koinonia.testing.bus_world import COUNT_OUTBOX, QUEUE, World, apply
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import OwnServers

_COUNT = 80


@pytest.fixture
def servers(own_servers: OwnServers) -> OwnServers:
    """Servers of this module's own: they are killed."""
    return own_servers


async def test_a_broker_restarted_then_killed_and_a_killed_database_lose_no_event_and_repeat_none(
    world: World, servers: OwnServers
) -> None:
    life = Life()
    bus = Bus.open(world.amqp_url, "messaging")
    bus.consume(world.database, [Subscription(QUEUE, {gateway.ChurchChanged: apply})], life)
    await _add(world, range(20))
    await wait_until(lambda: _applied(world, 20))

    # First in order: a broker of version 3.10 that is killed within seconds of the making of a quorum queue has half
    # forgotten that queue, and a clean stop is what makes sure of it.
    with capture_logs() as logs:
        await servers.rabbitmq.stop()
        await _add(world, range(20, 40))
        assert await world.count(COUNT_OUTBOX) == 20
        tries = {"consumer_waits", "relay_waits"}
        await wait_until(lambda: {line["event"] for line in logs if line.get("tries", 0) > 2} == tries)
        await servers.rabbitmq.start()
        await wait_until(lambda: _applied(world, 40), seconds=60)
    told = [line["event"] for line in logs if line["log_level"] in {"warning", "error"}]
    assert [event for event in told if event != "statement_slow"] == ["broker_away"]

    await servers.rabbitmq.kill()
    await _add(world, range(40, 60))
    await servers.rabbitmq.start()
    await wait_until(lambda: _applied(world, 60), seconds=60)

    await servers.postgres.kill()
    await servers.postgres.start()
    await _add(world, range(60, _COUNT))
    await wait_until(lambda: _applied(world, _COUNT), seconds=60)

    assert await world.effects() == [f"{number:03}" for number in range(_COUNT)]
    await wait_until(lambda: _is_sent(world))
    life.stop("the test is over")
    await life.finish(10)
    assert not life.failed
    await bus.close()


async def _is_sent(world: World) -> bool:
    return await world.count(COUNT_OUTBOX) == 0


async def _add(world: World, numbers: range) -> None:
    """Add events, whatever connections the pool has lost."""

    async def added() -> bool:
        try:
            async with world.database.tenant(world.church_id) as tx:
                await outbox.add(tx, *(world.event(f"{number:03}").data for number in numbers))
        except Exception as error:
            if not is_transient(error):
                raise
            return False
        return True

    await wait_until(added)


async def _applied(world: World, count: int) -> bool:
    try:
        return len(await world.effects()) == count
    except Exception as error:
        if not is_transient(error):
            raise
        return False


async def test_a_broker_short_of_memory_gets_each_event_once_however_often_the_relay_tried(
    world: World, servers: OwnServers
) -> None:
    relay = Relay(world.database, Publisher(world.publishing, timeout_seconds=0.3))
    await _add(world, range(1))
    await relay.relay_batch()  # the connection is made: only one that publishes is told that it is blocked
    await servers.rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        await _add(world, range(1, 6))
        for _ in range(5):
            with pytest.raises(BrokerUnavailable):
                await relay.relay_batch()
        assert await world.publishing.is_blocked()
        assert await world.count(COUNT_OUTBOX) == 5
        world.run(world.consumer(apply).run)  # consumers go on, on their own connection
        await wait_until(lambda: _applied(world, 1))
        await world.settled()
    finally:
        await servers.rabbitmq.control("set_vm_memory_high_watermark", "absolute", "2GB")
    await wait_until(lambda: _unblocked(world))
    await relay.relay_batch()
    assert await world.count(COUNT_OUTBOX) == 0
    # What was written before the block became known arrives too: one more copy of each, whatever the number of tries.
    assert 5 <= await world.message_count(QUEUE) <= 10


async def _unblocked(world: World) -> bool:
    return not await world.publishing.is_blocked()
