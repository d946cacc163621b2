"""The outbox and its relay on real servers: at least once each, whatever dies on the way."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from yarl import URL

from koinonia import metrics, telemetry
from koinonia.bus import BrokerUnavailable, Outgoing, Publisher, Unroutable, outbox
from koinonia.bus.link import Link
from koinonia.bus.publisher import EVENT_ID_HEADER
from koinonia.bus.relay import Relay
from koinonia.bus.topology import EXCHANGE
from koinonia.events import decode, encode, gateway
from koinonia.ids import new_id
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.testing.bus_world import COUNT_OUTBOX, QUEUE, World, apply
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers


async def _add(world: World, *names: str) -> None:
    async with world.database.tenant(world.church_id) as tx:
        await outbox.add(tx, *(world.event(name).data for name in names))


async def _queued(world: World) -> list[tuple[str, bytes]]:
    """Take out what lies in the queue: event id header and body of each."""
    channel = await world.link.channel()
    queue = await channel.declare_queue(QUEUE, passive=True)
    found = []
    while (message := await queue.get(fail=False)) is not None:
        found.append((str(message.headers[EVENT_ID_HEADER]), message.body))
        await message.ack()
    await channel.close()
    return found


async def test_an_event_is_published_once_its_transaction_has_committed(world: World) -> None:
    relay = Relay(world.database, world.publisher, clock_seconds=60)
    world.run(relay.run)
    world.listen({outbox.channel_of("messaging"): relay.woken})
    with suppress(LookupError):
        async with world.database.tenant(world.church_id) as tx:
            await outbox.add(tx, world.event("rolled back").data)
            raise LookupError
    await _add(world, "committed")
    await wait_until(lambda: _is_empty(world))
    ((header, body),) = await _queued(world)
    envelope = decode(body)
    assert envelope.data.name == "committed"
    assert envelope.church_id == world.church_id
    assert str(envelope.id) == header
    assert envelope.source == "/koinonia/messaging"


async def test_an_event_names_what_led_to_it_and_any_number_cost_one_statement(
    world: World, count_statements: Any
) -> None:
    with count_statements() as counted, telemetry.work("test", correlation="request-1", causation="event-1"):
        await _add(world, *(str(number) for number in range(50)))
    assert counted.count == 1
    assert await Relay(world.database, world.publisher).relay_batch() == 50
    envelopes = [decode(body) for _, body in await _queued(world)]
    assert len(envelopes) == 50
    assert {(each.correlation_id, each.causation_id) for each in envelopes} == {("request-1", "event-1")}


async def test_two_relays_publish_each_event_once(world: World) -> None:
    other_link = Link(world.amqp_url, "other relay")
    relays = [Relay(world.database, world.publisher), Relay(world.database, Publisher(other_link))]
    for _ in range(6):
        await _add(world, *(str(number) for number in range(100)))
    for relay in relays:
        world.run(relay.run)
    await wait_until(lambda: _is_empty(world))
    copies = Counter(event_id for event_id, _ in await _queued(world))
    assert len(copies) == 600
    assert set(copies.values()) == {1}
    await world.settled()
    await other_link.close()


class _Dies(Publisher):
    """A publisher whose process dies when the broker has confirmed, before it can say so."""

    async def publish_each(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        await super().publish_each(messages)
        raise KeyboardInterrupt


async def test_a_relay_killed_between_confirm_and_commit_publishes_again_and_the_consumer_applies_once(
    world: World,
) -> None:
    await _add(world, "a", "b")
    with pytest.raises(KeyboardInterrupt):
        await Relay(world.database, _Dies(world.publishing)).relay_batch()
    assert await world.count(COUNT_OUTBOX) == 2
    await Relay(world.database, world.publisher).relay_batch()
    assert await world.count(COUNT_OUTBOX) == 0
    assert await world.message_count(QUEUE) == 4
    world.run(world.consumer(apply).run)
    await wait_until(lambda: _drained(world))
    await world.settled()
    assert await world.effects() == ["a", "b"]


async def test_an_event_without_a_queue_stays_and_alarms_and_holds_up_no_other(world: World) -> None:
    suspended = gateway.BacklogReported(oldest_inbound_at=None)
    relay = Relay(world.database, world.publisher)
    async with world.database.tenant(world.church_id) as tx:
        await outbox.add(tx, *(suspended for _ in range(100)))
    await _add(world, "routable")
    with capture_logs() as logs:
        world.run(relay.run)
        await wait_until(lambda: _queue_has(world, 1))
    alarms = [entry for entry in logs if entry["event"] == "event_not_taken"]
    assert [(entry["log_level"], entry["type"]) for entry in alarms] == [("error", "gateway.backlog.reported")]
    assert await world.count(COUNT_OUTBOX) == 100


async def test_an_event_that_closes_the_channel_stays_and_alarms_and_holds_up_no_other(
    world: World, servers: TestServers
) -> None:
    vhost = URL(world.amqp_url).path.removeprefix("/")
    async with BrokerAdmin(servers.management_url) as admin:
        await admin.permit_topic(admin.user, vhost, exchange=EXCHANGE, write=r"^gateway\.church\.")
    await _add(world, "before")
    async with world.database.tenant(world.church_id) as tx:
        await outbox.add(tx, gateway.AdminChanged(admin_id=new_id(), version=1, role="owner", status="active"))
    await _add(world, *(f"after {number}" for number in range(20)))
    relay = Relay(world.database, world.publisher)
    with capture_logs() as logs:
        await relay.relay_batch()
    assert await world.count(COUNT_OUTBOX) == 1
    assert len({event_id for event_id, _ in await _queued(world)}) == 21
    (alarm,) = [entry for entry in logs if entry["event"] == "event_not_taken"]
    assert (alarm["log_level"], alarm["type"]) == ("error", "gateway.admin.changed")
    assert "ACCESS_REFUSED" in alarm["reason"]
    assert await relay.relay_batch() == 0  # it rests
    async with BrokerAdmin(servers.management_url) as admin:
        await admin.permit_topic(admin.user, vhost, exchange=EXCHANGE, write=".*")
    await Relay(world.database, world.publisher).relay_batch()
    assert await world.count(COUNT_OUTBOX) == 0


class _Recorder:
    """Takes the place of an instrument."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.values: list[float] = []

    def add(self, count: int, labels: dict[str, str]) -> None:
        self.counts[labels["type"]] += count

    def set(self, value: float) -> None:
        self.values.append(value)


async def test_each_event_that_the_broker_confirmed_is_counted_whoever_published_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = _Recorder()
    monkeypatch.setattr(metrics, "published_total", counted)
    event = world.event()
    await world.publisher.publish_events(event, event)
    lost = Outgoing(routing_key="nobody.wants.this", body=b"{}")
    back = Outgoing(exchange="", routing_key=QUEUE, body=encode(event))
    await world.publisher.publish_each([lost, back])
    await _add(world, "by the relay")
    await Relay(world.database, world.publisher).relay_batch()
    assert counted.counts == {"gateway.church.changed": 3}


async def test_the_time_since_the_last_confirm_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, rows = _Recorder(), _Recorder()
    monkeypatch.setattr(metrics, "last_confirm_age_seconds", shown)
    monkeypatch.setattr(metrics, "outbox_rows", rows)
    silent = Relay(world.database, Publisher(world.publishing))
    world.run(silent.watch_lag)
    await wait_until(lambda: rows.values)
    assert shown.values == []  # it has published nothing yet
    await world.publisher.publish_events(world.event())
    world.run(Relay(world.database, world.publisher).watch_lag)
    await wait_until(lambda: shown.values)
    assert 0 <= shown.values[0] < 5


async def test_the_publisher_tells_what_has_no_queue_from_what_arrived(world: World) -> None:
    lost = Outgoing(routing_key="nobody.wants.this", body=b"{}")
    found = Outgoing(routing_key=gateway.ChurchChanged.TYPE, body=encode(world.event()))
    outcomes = await world.publisher.publish_each([lost, found, lost, lost, found, lost])
    assert [type(outcome) for outcome in outcomes] == [
        Unroutable, type(None), Unroutable, Unroutable, type(None), Unroutable,
    ]  # fmt: skip
    with pytest.raises(Unroutable):
        await world.publisher.publish([found, lost])


async def test_a_broker_that_is_away_is_told_at_once_and_its_events_stay(world: World) -> None:
    nobody_there = Link("amqp://127.0.0.1:1", "nobody")
    await _add(world, "a")
    with pytest.raises(BrokerUnavailable):
        await Relay(world.database, Publisher(nobody_there)).relay_batch()
    assert await world.count(COUNT_OUTBOX) == 1
    await nobody_there.close()


async def _is_empty(world: World) -> bool:
    return await world.count(COUNT_OUTBOX) == 0


async def _drained(world: World) -> bool:
    return len(await world.effects()) >= 2 and await world.message_count(QUEUE) == 0


async def _queue_has(world: World, count: int) -> bool:
    return await world.message_count(QUEUE) == count
