"""What each service's broker user may do, tried against a real broker: all that the contract gives it, and no more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

import aio_pika
import aiohttp
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import PublishError
from aiormq.exceptions import AMQPError, ChannelAccessRefused
from yarl import URL

from koinonia.bus.declare import dead_queue
from koinonia.bus.link import connect
from koinonia.bus.topology import EXCHANGE, QUEUES, queues_of, service_of, types_of
from koinonia.cli import broker_users, prepare
from koinonia.cli.broker_users import GIVEN_BACK
from koinonia.cli.environment import as_user
from koinonia.db.roles import SERVICES
from koinonia.events import ALL, audit, publisher_of
from koinonia.events.delivery import EmailRequested, TextRequested
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.testing.servers import TestServers

PASSWORDS = {service: f"{service[0]}-secret" for service in SERVICES}  # users are the whole broker's: as test_prepare's
TYPES = tuple(each.TYPE for each in ALL)
Act = Callable[[AbstractChannel], Awaitable[object]]


@dataclass(frozen=True)
class Broker:
    """A virtual host as a migration leaves it, and a connection of each service's user."""

    url: str
    management_url: str
    connections: dict[str, AbstractConnection]

    async def tried(self, service: str, act: Act) -> str:
        """How it went, on a channel of its own: a refusal closes it."""
        channel = await self.connections[service].channel(publisher_confirms=True)
        try:
            async with asyncio.timeout(30):
                await act(channel)
        except ChannelAccessRefused:
            return "refused"
        except PublishError:
            return "allowed"  # nobody is bound for it, which is the next question after the right
        await channel.close()
        return "allowed"


@pytest.fixture
async def broker(servers: TestServers, empty_vhost: str) -> AsyncIterator[Broker]:
    await prepare.prepare_broker(empty_vhost, servers.management_url, PASSWORDS)
    connections: dict[str, AbstractConnection] = {}
    for service in SERVICES:
        own = as_user(empty_vhost, broker_users.user_of(service), PASSWORDS[service])
        connections[service] = await connect(own)
    yield Broker(empty_vhost, servers.management_url, connections)
    for connection in connections.values():
        await connection.close()


def publishing(exchange: str, key: str) -> Act:
    async def act(channel: AbstractChannel) -> object:
        message = aio_pika.Message(b"{}")
        place = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        return await place.publish(message, key)

    return act


def reading(queue: str) -> Act:
    async def act(channel: AbstractChannel) -> object:
        return await (await channel.get_queue(queue, ensure=False)).consume(_take)

    return act


async def _take(_message: object) -> None:
    """Nothing was published to it."""


async def wrong(broker: Broker, cells: dict[str, tuple[str, Act, bool]]) -> list[str]:
    """The cells that went otherwise than they should: what, who, and whether it may."""
    faults = []
    for what, (service, act, may) in cells.items():
        outcome = await broker.tried(service, act)
        if outcome != ("allowed" if may else "refused"):
            faults.append(f"koinonia_{service} {what}: {outcome}")
    return faults


async def test_each_service_publishes_its_own_event_types_and_no_others(broker: Broker) -> None:
    cells = {
        f"{service} publishes {name}": (service, publishing(EXCHANGE, name), name in types_of(service))
        for service in SERVICES
        for name in (
            *TYPES,
            f"{service}.thing.made",
            f"{types_of(service)[0]}.too",
            f"{types_of(service)[0]}\n",
            "",
            "#",
        )
    }
    assert await wrong(broker, cells) == []


def test_each_event_type_has_one_publisher_but_audit_has_all_and_wishes_have_those_who_may_ask() -> None:
    several = {
        audit.ActionRecorded: set(SERVICES),
        EmailRequested: {"delivery", "gateway"},
        TextRequested: {"delivery", "gateway", "messaging"},
    }
    for each in ALL:
        publishers = {service for service in SERVICES if each.TYPE in types_of(service)}
        assert publishers == several.get(each, {publisher_of(each)})


async def test_each_service_gives_back_what_failed_to_its_own_queues_only(broker: Broker) -> None:
    cells = {
        f"{service} gives to {exchange} for {queue}": (
            service,
            publishing(exchange, queue),
            queue in queues_of(service),
        )
        for service in SERVICES
        for exchange in GIVEN_BACK
        for queue in (*QUEUES, f"{service}.another", dead_queue(queues_of(service)[0]))
    }
    assert await wrong(broker, cells) == []


async def test_each_service_reads_its_own_queues_only(broker: Broker) -> None:
    queues = [*QUEUES, *map(dead_queue, QUEUES), *GIVEN_BACK[1:]]
    reads = {
        f"{service} reads {queue}": (service, reading(queue), queue in queues_of(service))
        for service in SERVICES
        for queue in queues
    }
    assert await wrong(broker, reads) == []


async def test_no_service_publishes_past_the_exchanges_of_the_contract(broker: Broker) -> None:
    exchanges = ("amq.topic", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace")
    cells = {
        f"{service} publishes to {exchange or 'the default exchange'} for {queue}": (
            service,
            publishing(exchange, queue),
            False,
        )
        for service in SERVICES
        for exchange in ("", *exchanges)
        for queue in (queues_of(service)[0], "delivery.holds")
    }
    assert await wrong(broker, cells) == []


async def test_no_service_makes_alters_or_deletes_anything(broker: Broker) -> None:
    def acts(service: str) -> dict[str, Act]:
        other = next(queue for queue in QUEUES if service_of(queue) != service)
        own = queues_of(service)[0]
        return {
            "declares a queue of its own name": lambda channel: channel.declare_queue(f"{service}.more", durable=True),
            "declares a queue that the broker names": lambda channel: channel.declare_queue("", exclusive=True),
            "declares an exchange": lambda channel: channel.declare_exchange(f"{service}.more"),
            "deletes its queue": lambda channel: channel.queue_delete(own),
            "deletes another's queue": lambda channel: channel.queue_delete(other),
            "deletes the exchange": lambda channel: channel.exchange_delete(EXCHANGE),
            "binds its queue to more": lambda channel: bind(channel, own, EXCHANGE, "#"),
            "binds another's queue to more": lambda channel: bind(channel, other, EXCHANGE, "#"),
            "unbinds its queue": lambda channel: unbind(channel, own, EXCHANGE, QUEUES[own][0].TYPE),
            "binds an exchange": lambda channel: join(channel, GIVEN_BACK[1], EXCHANGE, "#"),
            "empties another's queue": lambda channel: purge(channel, other),
            "empties its dead letters": lambda channel: purge(channel, dead_queue(own)),
        }

    cells = {f"{service} {what}": (service, act, False) for service in SERVICES for what, act in acts(service).items()}
    assert await wrong(broker, cells) == []


async def bind(channel: AbstractChannel, queue: str, exchange: str, key: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).bind(exchange, key)


async def unbind(channel: AbstractChannel, queue: str, exchange: str, key: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).unbind(exchange, key)


async def join(channel: AbstractChannel, destination: str, source: str, key: str) -> None:
    await (await channel.get_exchange(destination, ensure=False)).bind(source, key)


async def purge(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).purge()


async def test_each_service_sees_how_long_its_queues_are(broker: Broker) -> None:
    for service in SERVICES:
        for queue in queues_of(service):
            channel = await broker.connections[service].channel()
            for name in (queue, dead_queue(queue)):
                assert (await channel.declare_queue(name, passive=True)).declaration_result.message_count == 0
            await channel.close()


async def test_no_service_enters_another_virtual_host_or_the_management(broker: Broker, servers: TestServers) -> None:
    name = servers.new_name()
    other = await servers.create_vhost(name)
    try:
        for service in SERVICES:
            user, password = broker_users.user_of(service), PASSWORDS[service]
            for url in (other, str(URL(broker.url).with_path("/"))):
                with pytest.raises(AMQPError):
                    await connect(as_user(url, user, password), timeout=20)
            with pytest.raises(AMQPError):
                await connect(as_user(broker.url, user, "wrong"), timeout=20)
            management = URL(broker.management_url).with_user(None)
            vhost = quote(broker_users.vhost_of(broker.url), safe="")
            credentials = {"Authorization": aiohttp.encode_basic_auth(user, password)}
            async with aiohttp.ClientSession(headers=credentials) as session:
                for path in ("/api/overview", "/api/users", f"/api/queues/{vhost}", "/api/definitions"):
                    async with session.get(f"{str(management).rstrip('/')}{path}") as answer:
                        assert (user, path, answer.status) == (user, path, 401)
    finally:
        await servers.drop_vhost(name)


async def test_rights_that_were_wider_once_are_taken_back(broker: Broker) -> None:
    user, vhost = broker_users.user_of("billing"), broker_users.vhost_of(broker.url)
    async with BrokerAdmin(broker.management_url) as admin:
        await admin.permit(user, vhost)
        await admin.permit_topic(user, vhost, exchange=EXCHANGE, write=".*")
    await broker_users.ensure(broker.url, broker.management_url, PASSWORDS)
    own = await connect(as_user(broker.url, user, PASSWORDS["billing"]))
    async with own:
        broker.connections["later"] = own
        assert await broker.tried("later", publishing(EXCHANGE, "messaging.message.accepted")) == "refused"
        assert await broker.tried("later", reading("messaging.billing")) == "refused"
        del broker.connections["later"]
