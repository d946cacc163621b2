"""Live progress over real HTTP: one reader behind many watchers, taken up again where it broke."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest
from aiohttp import web

from koinonia.api.messages import MessageProgress
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.errors import AuthenticationFailed
from koinonia.ids import new_id
from koinonia.security import Keys, verify_identity
from koinonia.security.identity import HEADER
from koinonia.testing.fixtures import wait_until
from koinonia_gateway import churches
from koinonia_gateway.audit import Actor
from koinonia_gateway.http.progress import STREAMS_PER_PRINCIPAL

from .conftest import Behind, Browser, NewBrowser, Service, StartGateway

REQUIRE_MFA = statement("test.require_mfa", "UPDATE churches SET require_mfa = true")


class Messaging:
    """Messaging's internal stream, told by a test what to say."""

    def __init__(self, keys: Keys, church_id: str) -> None:
        self.keys = keys
        self.church_id = church_id
        self.message_id = new_id()
        self.streams: list[web.StreamResponse] = []
        self.seen: list[str | None] = []
        self.version = 1
        self.status = "sending"
        self.cut = asyncio.Event()

    async def act(self, request: web.Request) -> web.StreamResponse:
        try:
            caller = verify_identity(self.keys, request.headers[HEADER], method="GET", path=request.path)
        except AuthenticationFailed:
            return web.Response(status=401)
        if request.path != f"/internal/messages/{self.message_id}/progress" or str(caller.church_id) != self.church_id:
            return web.Response(status=404)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.streams.append(response)
        self.seen.append(request.headers.get("Last-Event-ID"))
        await response.write(self.state())
        await self.cut.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    def state(self) -> bytes:
        example = MessageProgress.example()
        changed = msgspec.structs.replace(example, id=self.message_id, version=self.version, status=self.status)
        return b"id: %d\nevent: progress\ndata: %s\n\n" % (self.version, msgspec.json.encode(changed))

    async def tell(self, version: int, status: str = "sending") -> None:
        self.version, self.status = version, status
        await self.streams[-1].write(self.state())

    def break_off(self) -> None:
        self.cut.set()
        self.cut = asyncio.Event()


@pytest.fixture
async def messaging(owner: Browser, behind: Behind, keys: Keys) -> AsyncIterator[Messaging]:
    stub = Messaging(keys, owner.church_id)
    behind.act = stub.act
    yield stub
    stub.break_off()


class Watcher:
    """One stream, read in the background."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.versions: list[int] = []
        self.ids: list[str] = []
        self._reading = asyncio.create_task(self._read(response))

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if line.startswith(b"data: "):
                self.versions.append(msgspec.json.decode(line[6:], type=MessageProgress).version)
            if line.startswith(b"id: "):
                self.ids.append(line[4:].decode().strip())

    @property
    def ended(self) -> bool:
        return self._reading.done()

    def stop(self) -> None:
        self._reading.cancel()


@asynccontextmanager
async def watching(browser: Browser, message_id: UUID, seen: int | None = None) -> AsyncIterator[Watcher]:
    headers = {} if seen is None else {"Last-Event-ID": str(seen)}
    async with browser.session.get(f"{browser.url}/api/messages/{message_id}/events", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        watcher = Watcher(response)
        yield watcher
        watcher.stop()


async def test_many_watch_through_one_reader_until_the_end(owner: Browser, messaging: Messaging) -> None:
    async with watching(owner, messaging.message_id) as one, watching(owner, messaging.message_id) as two:
        await wait_until(lambda: one.versions == two.versions == [1])
        await messaging.tell(2)
        await wait_until(lambda: one.versions == two.versions == [1, 2])
        assert len(messaging.streams) == 1
        await messaging.tell(3, "completed")
        await wait_until(lambda: one.ended and two.ended)
        assert (one.ids, two.versions) == (["1", "2", "3"], [1, 2, 3])


async def test_what_a_watcher_may_not_ask_is_refused_by_name(owner: Browser, messaging: Messaging) -> None:
    path = f"/api/messages/{messaging.message_id}/events"
    for query, headers, field in (("", {"Last-Event-ID": "x"}, "Last-Event-ID"), ("?a=1", {}, "a")):
        status, answer = await owner.call("GET", path + query, headers=headers)
        assert (status, [detail["field"] for detail in answer["error"]["details"]]) == (400, [field])
    assert messaging.streams == []


async def test_a_watcher_that_comes_again_gets_what_it_lacks(owner: Browser, messaging: Messaging) -> None:
    async with watching(owner, messaging.message_id) as other:
        await messaging.tell(5)
        await wait_until(lambda: other.versions[-1:] == [5])
        async with (
            watching(owner, messaging.message_id, seen=5) as same,
            watching(owner, messaging.message_id, seen=4) as behind,
        ):
            await wait_until(lambda: behind.versions == [5])
            await messaging.tell(6)
            await wait_until(lambda: same.versions == [6] and behind.versions == [5, 6])


async def test_a_broken_reader_goes_on_and_the_watchers_do_not_notice(owner: Browser, messaging: Messaging) -> None:
    async with watching(owner, messaging.message_id) as watcher:
        await wait_until(lambda: watcher.versions == [1])
        messaging.version = 7
        messaging.break_off()
        await wait_until(lambda: watcher.versions == [1, 7])
        assert messaging.seen == [None, "1"]
        assert not watcher.ended


async def test_another_churchs_message_is_not_there(owner: Browser, browsers: NewBrowser, messaging: Messaging) -> None:
    stranger = browsers()
    await stranger.register(email="eve@other.example")
    path = f"/api/messages/{messaging.message_id}/events"
    async with watching(owner, messaging.message_id):
        assert (await stranger.call("GET", path))[0] == 404
    assert (await owner.call("GET", f"/api/messages/{new_id()}/events"))[0] == 404
    assert (await owner.call("GET", "/api/messages/nonsense/events"))[0] == 404
    assert (await browsers().call("GET", path))[0] == 401


async def test_a_principal_has_so_many_streams_and_gets_a_place_back(
    owner: Browser, browsers: NewBrowser, messaging: Messaging
) -> None:
    path = f"/api/messages/{messaging.message_id}/events"
    other = browsers()
    _, made = await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": "viewer"})
    key = {"Authorization": f"Bearer {made['key']}"}
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(watching(owner, messaging.message_id)) for _ in range(STREAMS_PER_PRINCIPAL)
        ]
        async with asyncio.timeout(10):  # a stream would not end
            status, answer = await owner.call("GET", path)
        assert (status, answer["error"]["code"]) == (429, "RATE_LIMITED")
        async with other.session.get(other.url + path, headers=key) as anothers:
            assert anothers.status == 200
        await wait_until(lambda: all(each.versions == [1] for each in streams))
        await messaging.tell(2, "completed")
        await wait_until(lambda: all(each.ended for each in streams))
    assert {(await owner.call("GET", path))[0] for _ in range(STREAMS_PER_PRINCIPAL + 1)} == {200}


async def test_a_principal_whose_connections_were_lost_may_come_again_at_once(
    owner: Browser, messaging: Messaging
) -> None:
    for _ in range(2):
        async with AsyncExitStack() as stack:
            for _ in range(STREAMS_PER_PRINCIPAL):
                await stack.enter_async_context(watching(owner, messaging.message_id))
    assert len(messaging.streams) == 1  # nothing was told meanwhile: the gateway's streams have not noticed


async def test_messaging_away_is_said_at_once(owner: Browser, behind: Behind) -> None:
    async def fail(_request: web.Request) -> Any:
        return web.Response(status=500)

    behind.act = fail
    status, answer = await owner.call("GET", f"/api/messages/{new_id()}/events")
    assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")


async def test_a_stream_ends_with_the_session(owner: Browser, messaging: Messaging) -> None:
    async with watching(owner, messaging.message_id) as watcher:
        await wait_until(lambda: watcher.versions == [1])
        assert (await owner.call("POST", "/api/auth/logout"))[0] == 204
        await messaging.tell(2)
        await wait_until(lambda: watcher.ended)
        assert watcher.versions == [1]


async def test_a_stream_ends_when_the_church_is_suspended(
    gateway: Service, owner: Browser, messaging: Messaging
) -> None:
    async with watching(owner, messaging.message_id) as watcher:
        await wait_until(lambda: watcher.versions == [1])
        async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
            assert await churches.set_status(tx, "suspended", Actor.operator(), operator="root")

        async def is_refused() -> bool:
            return (await owner.call("GET", "/api/auth/me"))[0] == 403

        await wait_until(is_refused, seconds=1.5)
        await messaging.tell(2)
        await wait_until(lambda: watcher.ended)
        assert watcher.versions == [1]


async def test_a_stream_ends_when_the_second_factor_becomes_required(
    gateway: Service, owner: Browser, messaging: Messaging
) -> None:
    async with watching(owner, messaging.message_id) as watcher:
        await wait_until(lambda: watcher.versions == [1])
        async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
            await tx.execute(REQUIRE_MFA)

        async def is_asked() -> bool:
            return (await owner.call("GET", "/api/admin/api-keys"))[0] == 403

        await wait_until(is_asked, seconds=1.5)
        await messaging.tell(2)
        await wait_until(lambda: watcher.ended)
        assert watcher.versions == [1]


PRINCIPALS = 100


class Crowd:
    """Watchers of one message by the thousand, of so many principals, each on a connection of its own."""

    def __init__(self, url: str, path: str, keys: list[str]) -> None:
        self.path = path
        self.keys = keys
        self.session = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))
        self.watchers: list[Watcher] = []
        self._streams: list[aiohttp.ClientResponse] = []

    async def come(self, count: int, seen: int | None = None) -> None:
        for start in range(0, count, PRINCIPALS):  # not more at once than a listener's queue takes
            await asyncio.gather(*(self._come(self.keys[at % PRINCIPALS], seen) for at in range(start, start + 100)))

    async def _come(self, key: str, seen: int | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} | ({} if seen is None else {"Last-Event-ID": str(seen)})
        stream = await self.session.get(self.path, headers=headers, timeout=aiohttp.ClientTimeout(total=None))
        assert stream.status == 200
        self._streams.append(stream)
        self.watchers.append(Watcher(stream))

    def part(self, count: int) -> None:
        """Let the first ones lose their connections."""
        for _ in range(count):
            self.watchers.pop(0).stop()
            self._streams.pop(0).close()

    def have(self, versions: list[int]) -> bool:
        return all(each.versions == versions for each in self.watchers)


async def test_two_thousand_watch_one_message_through_one_reader_and_come_again(
    start_gateway: StartGateway,
    owner: Browser,
    messaging: Messaging,
    count_statements: Callable[[], AbstractContextManager[StatementLog]],
) -> None:
    patient = await start_gateway(database_acquire_timeout=60.0)  # a busy machine is slow to let so many in
    made = [
        await owner.call("POST", "/api/admin/api-keys", {"name": f"Site {number}", "role": "viewer"})
        for number in range(PRINCIPALS)
    ]
    crowd = Crowd(patient.url, f"/api/messages/{messaging.message_id}/events", [answer["key"] for _, answer in made])
    loop = asyncio.get_running_loop()
    async with crowd.session:
        await crowd.come(PRINCIPALS * STREAMS_PER_PRINCIPAL)
        assert len(crowd.watchers) == 2000
        await wait_until(lambda: crowd.have([1]), seconds=60)
        began = loop.time()
        with count_statements() as counted:
            for version in (2, 3):
                await messaging.tell(version)
                await wait_until(lambda: crowd.have([1, 2, 3][:version]), seconds=60)  # noqa: B023
        # Whether its key still holds is asked once a second of each principal, however many watch for it; the rest is
        # what the gateways ask by the clock.
        keys = sum(count for name, count in counted.by_name.items() if name.startswith("api_keys."))
        assert keys <= 2 * PRINCIPALS * (2 + loop.time() - began)
        assert counted.count - keys < PRINCIPALS
        crowd.part(1000)
        messaging.version = 4
        messaging.break_off()  # and the one reader loses its stream too
        await wait_until(lambda: crowd.have([1, 2, 3, 4]), seconds=60)
        stayed = list(crowd.watchers)
        await crowd.come(1000, seen=3)
        await wait_until(lambda: all(each.versions == [4] for each in crowd.watchers[1000:]), seconds=60)
        await messaging.tell(5, "completed")
        await wait_until(lambda: all(each.ended for each in crowd.watchers), seconds=60)
    assert all(each.versions == [1, 2, 3, 4, 5] for each in stayed)
    assert all(each.ids == ["4", "5"] for each in crowd.watchers[1000:])
    assert messaging.seen == [None, "3"]
