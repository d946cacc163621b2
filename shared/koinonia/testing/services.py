"""A whole service in the test's own process, over real HTTP, queues and tables, and the bus beside it.

``start_service("billing", build, BillingSettings)`` runs one on the test's own database and virtual host; ``bus``
publishes to it and sees what it publishes; ``caller`` calls it as the gateway would.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import aio_pika
import aiohttp
import msgspec
import pytest
from aio_pika.abc import AbstractQueue, AbstractRobustConnection
from aio_pika.exceptions import QueueEmpty

from koinonia import clock
from koinonia.api import Endpoint
from koinonia.bus import Bus
from koinonia.bus.topology import EXCHANGE, QUEUES, queues_of
from koinonia.events import Envelope, Event, decode
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia.security.identity import HEADER, Identity, Role, sign_identity
from koinonia.security.keys import Keys
from koinonia.service import Build, Running, running
from koinonia.settings import ServiceSettings
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import declare_queues, wait_until
from koinonia.testing.servers import TestServers

S = TypeVar("S", bound=ServiceSettings)
E = TypeVar("E", bound=Event)

PRINCIPAL_ID = UUID(int=7)
StartService = Callable[..., Awaitable[Running[Any]]]

_KEY = base64.b64encode(bytes(range(32))).decode()
KEY_SETTINGS: dict[str, Any] = {
    "encryption_keys": f"test:{_KEY}",
    "token_keys": f"test:{_KEY}",
    "blind_index_key": _KEY,
}


@pytest.fixture(scope="session")
def keys() -> Keys:
    """The keys of every service under test."""
    return Keys.parse(**KEY_SETTINGS)


@pytest.fixture
async def start_service(
    database_urls: DatabaseUrls, service_vhost: str, servers: TestServers, keys: Keys
) -> AsyncIterator[StartService]:
    """``await start_service("billing", build, BillingSettings, trial_segments=10)``: it runs until the test ends.

    Its queues are there from then on: a test that publishes to them before asks for `vhost` too.
    """
    async with AsyncExitStack() as stack:

        async def start(service: str, build: Build[S], shape: type[S], **settings: Any) -> Running[S]:
            await declare_queues(service_vhost, {queue: QUEUES[queue] for queue in queues_of(service)})
            values = {
                "database_url": await database_urls(service),
                "amqp_url": service_vhost,
                "redis_url": servers.redis_url,
                "drain_seconds": 5.0,
                "database_pool_size": 5,
                **KEY_SETTINGS,
                **settings,
            }
            life = Life()
            started = await stack.enter_async_context(running(service, build, shape(**values), keys, life))
            stack.callback(_assert_no_task_failed, life)
            return started

        yield start


def _assert_no_task_failed(life: Life) -> None:
    assert not life.failed, "a task of the service failed; see the log"


class BusProbe:
    """The test's ear and mouth on the bus."""

    def __init__(self, bus: Bus, heard: AbstractQueue) -> None:
        self._bus = bus
        self._queue = heard
        self.seen: list[Envelope[Any]] = []

    async def publish(self, event: Event, church_id: UUID | None, *, event_id: UUID | None = None) -> Envelope[Any]:
        """Publish an event, as its service would; answers its envelope."""
        envelope = Envelope(id=event_id or new_id(), time=clock.now(), data=event, church_id=church_id)
        await self.publish_envelope(envelope)
        return envelope

    async def publish_envelope(self, envelope: Envelope[Any]) -> None:
        """Publish an event again, or one with everything given."""
        await self._bus.publisher.publish_events(envelope)

    async def all(self, kind: type[E]) -> list[Envelope[E]]:
        """The events of a type seen so far."""
        while True:
            try:
                message = await self._queue.get(no_ack=True, timeout=5)
            except QueueEmpty:
                break
            self.seen.append(decode(message.body))
        return [each for each in self.seen if isinstance(each.data, kind)]

    async def next(
        self, kind: type[E], where: Callable[[E], bool] = lambda _: True, *, seconds: float = 20.0
    ) -> Envelope[E]:
        """Wait for the first event of a type that ``where`` holds for, and forget it."""

        async def found() -> Envelope[E] | None:
            return next((each for each in await self.all(kind) if where(each.data)), None)

        envelope = await wait_until(found, seconds=seconds, what=f"an event {kind.TYPE}")
        assert isinstance(envelope, Envelope)
        self.seen.remove(envelope)
        return envelope


@pytest.fixture
async def bus(service_vhost: str) -> AsyncIterator[BusProbe]:
    """Publish to the services under test, and see every event that they publish from now on."""
    connection: AbstractRobustConnection = await aio_pika.connect_robust(service_vhost)
    own = Bus.open(service_vhost, "test")
    try:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, routing_key="#")
        yield BusProbe(own, queue)
    finally:
        await own.close()
        await connection.close()


class Caller:
    """Calls a service's endpoints as somebody of a church, with the gateway's signed word."""

    def __init__(self, session: aiohttp.ClientSession, keys: Keys) -> None:
        self._session = session
        self._keys = keys

    async def __call__(
        self,
        service: Running[Any],
        endpoint: Endpoint,
        *,
        church_id: UUID,
        ids: Mapping[str, UUID] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        role: Role = "owner",
        principal_id: UUID = PRINCIPAL_ID,
        test: bool = False,
        own_phone: str | None = None,
    ) -> tuple[int, Any]:
        """Answers the status and the decoded body (None when there is none).

        ``test``: by a test key. ``own_phone``: the one that the caller has confirmed.
        """
        path = endpoint.url(**(ids or {}))
        identity = self.headers(
            endpoint, church_id, ids, role=role, principal_id=principal_id, test=test, own_phone=own_phone
        )
        content = {"Content-Type": "application/json"} if body is not None else {}
        async with self._session.request(
            endpoint.method,
            service.url + path,
            params=dict(query or {}),
            data=msgspec.json.encode(body) if body is not None else data,
            headers={**identity, **content, **(headers or {})},
        ) as response:
            raw = await response.read()
            return response.status, msgspec.json.decode(raw) if raw else None

    def headers(
        self,
        endpoint: Endpoint,
        church_id: UUID,
        ids: Mapping[str, UUID] | None = None,
        *,
        role: Role = "owner",
        principal_id: UUID = PRINCIPAL_ID,
        test: bool = False,
        own_phone: str | None = None,
    ) -> dict[str, str]:
        """The gateway's signed word, for a request whose answer is not JSON."""
        identity = Identity(
            church_id=church_id,
            principal_id=principal_id,
            principal_kind="api_key" if test else "session",
            role=role,
            mfa_verified=False,
            address="127.0.0.1",
            request_id="test",
            expires_at=clock.now() + timedelta(seconds=30),
            method=endpoint.method,
            path=endpoint.url(**(ids or {})),
            test=test,
            own_phone_index=self._keys.index(own_phone, church_id, "phone") if own_phone else None,
            own_phone_ciphertext=self._keys.encrypt(own_phone, church_id, "phone") if own_phone else None,
        )
        return {HEADER: sign_identity(self._keys, identity)}


@pytest.fixture
async def caller(keys: Keys) -> AsyncIterator[Caller]:
    """``status, answer = await caller(service, endpoint, church_id=…, body=…)``."""
    async with aiohttp.ClientSession() as session:
        yield Caller(session, keys)
