"""Limits over a real Redis that stays, goes and comes back empty, for gateways that count together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio as redis
from yarl import URL

from koinonia import clock
from koinonia.db.statistics import StatementLog
from koinonia.events.billing import SubscriptionChanged
from koinonia.service import _open_redis
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import BusProbe
from koinonia_gateway import budgets, limits
from koinonia_gateway.domain.rates import BLOCKS, Rate
from koinonia_gateway.limits import Limiter

from .conftest import Browser, StartGateway

NOON = datetime(2026, 11, 21, 12, 0, 10, tzinfo=UTC)
LIMIT = Rate(1000, 60)


class Line:
    """A line to Redis that can be cut."""

    def __init__(self, to: URL) -> None:
        self.to = to
        self.trips = 0  # pieces that went to Redis
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def lay(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self.to.host, self.to.port)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer, 1), self._pass(far_reader, writer, 0))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trip: int) -> None:
        try:
            while piece := await reader.read(65536):
                self.trips += trip
                writer.write(piece)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def line(servers: TestServers) -> AsyncIterator[Line]:
    laid = Line(URL(servers.redis_url))
    yield laid
    await laid.cut()


@asynccontextmanager
async def limiter(url: str, prefix: str) -> AsyncIterator[Limiter]:
    client = _open_redis(url)
    yield Limiter(client, prefix)
    await client.aclose()


async def let_through(gateway: Limiter, tries: int, rate: Rate = LIMIT) -> int:
    """How many of so many tries, thirty at once, are within the limit."""
    granted = 0

    async def call_on() -> None:
        nonlocal granted
        for _ in range(tries // 30):
            standing = await gateway.hit_leased(rate, "principal:1")
            granted += not standing.exceeded

    await asyncio.gather(*(call_on() for _ in range(30)))
    return granted


@pytest.mark.asvs("v5.0.0-2.4.1")
async def test_gateways_together_let_the_limit_through_and_no_more(
    servers: TestServers, redis_prefix: str, line: Line
) -> None:
    url = str(URL(servers.redis_url).with_port(await line.lay()))
    with clock.frozen(NOON):
        async with limiter(url, redis_prefix) as one, limiter(url, redis_prefix) as two:
            granted = await asyncio.gather(let_through(one, 1500), let_through(two, 1500))
    assert sum(granted) == LIMIT.amount
    assert line.trips < 200  # of 3,000 requests


async def test_a_gateway_that_rests_keeps_no_more_than_its_block_from_the_others(
    servers: TestServers, redis_prefix: str
) -> None:
    url = servers.redis_url
    with clock.frozen(NOON):
        async with limiter(url, redis_prefix) as early, limiter(url, redis_prefix) as busy:
            assert not (await early.hit_leased(LIMIT, "principal:1")).exceeded
            granted = await let_through(busy, 1500)
    assert granted == LIMIT.amount - LIMIT.amount // BLOCKS


async def test_the_next_window_begins_anew(servers: TestServers, redis_prefix: str) -> None:
    async with limiter(servers.redis_url, redis_prefix) as gateway:
        with clock.frozen(NOON):
            assert await let_through(gateway, 60, Rate(20, 60)) == 20
        with clock.frozen(NOON.replace(minute=1)):
            assert await let_through(gateway, 60, Rate(20, 60)) == 20


async def test_without_redis_each_gateway_lets_through_what_it_has_not_taken_yet(
    servers: TestServers, redis_prefix: str, line: Line
) -> None:
    url = str(URL(servers.redis_url).with_port(await line.lay()))
    with clock.frozen(NOON):
        async with limiter(url, redis_prefix) as one, limiter(url, redis_prefix) as two:
            assert [await let_through(one, 600), await let_through(two, 300)] == [600, 300]
            await line.cut()
            during = [await let_through(one, 1500), await let_through(two, 1500)]
    assert 350 <= during[0] <= 400
    assert 650 <= during[1] <= 700


async def test_when_redis_comes_back_empty_no_gateway_passes_the_limit(
    servers: TestServers, redis_prefix: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AWAY_SECONDS", 0.1)
    port = await line.lay()
    url = str(URL(servers.redis_url).with_port(port))
    with clock.frozen(NOON):
        async with limiter(url, redis_prefix) as one, limiter(url, redis_prefix) as two:
            assert [await let_through(one, 600), await let_through(two, 300)] == [600, 300]
            await line.cut()
            assert await let_through(one, 60) == 60
            await empty(servers.redis_url, redis_prefix)
            await line.lay(port)
            before = line.trips
            await wait_until(lambda: asks_again(one, line, before), what="a gateway that asks Redis again")
            assert await let_through(one, 1500) <= 340
            assert await let_through(two, 1500) <= 700


async def asks_again(gateway: Limiter, line: Line, before: int) -> bool:
    """Whether a try of somebody else's has gone as far as Redis."""
    await gateway.hit(LIMIT, "principal:2")
    return line.trips > before


async def empty(url: str, prefix: str) -> None:
    async with redis.Redis.from_url(url) as client:
        found = [key async for key in client.scan_iter(f"{prefix}*")]
        assert found
        await client.delete(*found)


@pytest.mark.asvs("v5.0.0-2.4.1")
@pytest.mark.usefixtures("window")
async def test_sends_and_billing_have_limits_of_the_whole_church_beside_the_principals(
    start_gateway: StartGateway, owner: Browser
) -> None:
    limited = await start_gateway(rate_limit_api="100/1h", rate_limit_send="2/1h", rate_limit_billing="3/1h")
    _, made = await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": "sender"})
    key = {"Authorization": f"Bearer {made['key']}"}
    conversation = f"/api/conversations/{owner.church_id}/reply"
    body = {"content": "Hello"}
    assert (await owner.call("POST", "/api/messages/send", body, url=limited.url))[0] == 200
    assert owner.headers["RateLimit-Policy"] == '"default";q=100;w=3600, "send";q=2;w=3600'
    assert (await owner.call("POST", conversation, body, headers=key, csrf=False, url=limited.url))[0] == 200
    status, answer = await owner.call("POST", "/api/messages/send", body, url=limited.url)
    assert (status, answer["error"]["code"]) == (429, "RATE_LIMITED")
    for act in ("send-again", "resend-failed"):
        path = f"/api/messages/{owner.church_id}/{act}"
        assert (await owner.call("POST", path, headers=key, csrf=False, url=limited.url))[0] == 429
    assert 0 < int(owner.headers["Retry-After"]) <= 3600
    assert (owner.headers["RateLimit-Limit"], owner.headers["RateLimit-Remaining"]) == ("2", "0")
    assert (await owner.call("GET", "/api/messages", url=limited.url))[0] == 200
    paths = ["/api/billing/plans", "/api/billing/usage"] * 2
    assert [(await owner.call("GET", path, url=limited.url))[0] for path in paths] == [200, 200, 200, 429]


@pytest.mark.usefixtures("window")
async def test_a_plan_raises_its_churches_limits(
    start_gateway: StartGateway,
    owner: Browser,
    bus: BusProbe,
    monkeypatch: pytest.MonkeyPatch,
    count_statements: Callable[[], Any],
) -> None:
    plain = await start_gateway(rate_limit_api="50/1h")
    counted: StatementLog
    with count_statements() as counted:
        assert (await owner.call("GET", "/api/groups", url=plain.url))[0] == 200
    assert counted.by_name["churches.find_plan"] == 0
    monkeypatch.setattr(budgets, "PLAN_SECONDS", 0.05)
    limited = await start_gateway(rate_limit_api="500/1h", rate_limit_send="5/1h", rate_limit_plans="large=3")

    async def limit_is(amount: str) -> bool:
        await owner.call("POST", "/api/messages/send", {"content": "Hello"}, url=limited.url)
        return bool(owner.headers["RateLimit-Policy"] == amount)

    assert await limit_is('"default";q=500;w=3600, "send";q=5;w=3600')
    await bus.publish(subscription(1, "large"), UUID(owner.church_id))
    await wait_until(lambda: limit_is('"default";q=1500;w=3600, "send";q=15;w=3600'))
    await bus.publish(subscription(2, "large", "canceled"), UUID(owner.church_id))
    await wait_until(lambda: limit_is('"default";q=500;w=3600, "send";q=5;w=3600'))


def subscription(version: int, plan: str, status: Any = "active") -> SubscriptionChanged:
    now = clock.now()
    return SubscriptionChanged(
        version=version, plan=plan, status=status, period_start=now, period_end=now, included_segments=5
    )
