"""A gateway over real servers, a browser in front of it, and a service behind it that does what a test tells it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from koinonia import clock
from koinonia.carrier.webhooks import Signer
from koinonia.db import Transaction, statement
from koinonia.secret import Secret
from koinonia.service import Running
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import StartService
from koinonia.web import Server, build_app
from koinonia.web.health import Probe
from koinonia_gateway.app import build
from koinonia_gateway.settings import GatewaySettings

COUNT_BLOCKED = statement(
    "test.count_blocked",
    "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))",
)
PASSWORD = "seven brown bears sing loudly"
STRIPE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Service = Running[GatewaySettings]
Answer = tuple[int, Any]
Act = Callable[[web.Request], Awaitable[web.StreamResponse]]
StartGateway = Callable[..., Awaitable[Service]]


async def echo(request: web.Request) -> web.StreamResponse:
    """What came."""
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    seen = {
        "method": request.method,
        "path": request.rel_url.raw_path_qs,
        "headers": dict(request.headers),
        "size": size,
    }
    return web.json_response(seen, headers={"X-Own": "kept", "Connection": "X-Hop", "X-Hop": "dropped"})


class Behind:
    """A service behind the gateway; ``act`` answers, ``seen`` counts."""

    def __init__(self) -> None:
        self.act: Act = echo
        self.seen: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.act(request)

    async def start(self) -> Server:
        async def nobody(*_: object) -> None:
            return None

        app = build_app({}, identify=nobody, probe=Probe(service="behind"))
        app.router.add_route("*", "/{path:.*}", self.answer)
        server = await Server.start(app, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.port}"
        return server


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    """Answers for every service that the gateway forwards to."""
    service = Behind()
    server = await service.start()
    yield service
    await server.stop(0.2)


@pytest.fixture(scope="session")
def carrier() -> Signer:
    """Signs webhooks as the carrier does."""
    return Signer(b"k" * 32)


@pytest.fixture
async def start_gateway(
    start_service: StartService, behind: Behind, redis_prefix: str, carrier: Signer
) -> StartGateway:
    """``await start_gateway(rate_limit_api="5/1m")``: one more gateway of the same platform."""

    async def start(**settings: Any) -> Service:
        values = {
            **{f"{name}_url": behind.url for name in ("messaging", "delivery", "conversation", "billing")},
            "compliance_url": behind.url,
            "rate_limit_prefix": redis_prefix,
            "rate_limit_auth": "1000/1m",
            "telnyx_public_key": Secret(carrier.public_key),
            "stripe_webhook_secret": Secret(STRIPE_SECRET),
            "password_memory_kib": 8,
            "password_passes": 1,
            **settings,
        }
        started: Service = await start_service("gateway", build, GatewaySettings, **values)
        return started

    return start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Service:
    return await start_gateway()


@pytest.fixture
def window() -> Iterator[None]:
    """At a beginning of the windows of all rates, a day's at most: none ends while a test counts."""
    with clock.shifted(86_400 - clock.now().timestamp() % 86_400):
        yield


async def still_waits(tx: Transaction, task: "asyncio.Task[Any]") -> None:
    """Wait until something waits for a lock that the transaction holds: the task, which is not done."""

    async def is_blocked() -> bool:
        return task.done() or bool(await tx.fetch_value(COUNT_BLOCKED))

    await wait_until(is_blocked)
    assert not task.done()


class Browser:
    """A browser's session: keeps cookies, and shows the CSRF token unless told not to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.headers: Any = {}
        self.church_id = ""
        self.admin_id = ""

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        csrf: bool = True,
        headers: dict[str, str] | None = None,
        url: str | None = None,
    ) -> Answer:
        """Status and decoded body."""
        sent = dict(headers or {})
        if csrf and method != "GET":
            _, token = await self.call("GET", "/api/csrf-token", url=url)
            sent["X-CSRF-Token"] = token["csrfToken"]
        async with self.session.request(method, (url or self.url) + path, json=body, headers=sent) as response:
            raw = await response.read()
            self.headers = response.headers
            is_json = response.content_type == "application/json"
            return response.status, msgspec.json.decode(raw) if raw and is_json else raw

    async def register(self, email: str = "ruth@grace.example", church: str = "Grace Chapel") -> Answer:
        request = {"churchName": church, "firstName": "Ruth", "lastName": "Miller", "email": email}
        answer = await self.call("POST", "/api/auth/register", {**request, "password": PASSWORD}, csrf=False)
        if answer[0] == 201:
            self.church_id, self.admin_id = answer[1]["church"]["id"], answer[1]["admin"]["id"]
        return answer

    async def log_in(self, email: str = "ruth@grace.example", password: str = PASSWORD) -> Answer:
        return await self.call("POST", "/api/auth/login", {"email": email, "password": password}, csrf=False)

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.session.cookie_jar}

    async def set(self, **cookies: str) -> None:
        self.session.cookie_jar.update_cookies(cookies)


NewBrowser = Callable[..., Browser]


@pytest.fixture
async def browsers(gateway: Service) -> AsyncIterator[NewBrowser]:
    """``browsers()``: a new browser; ``browsers(url)``: at another gateway."""
    made: list[Browser] = []

    def make(url: str | None = None) -> Browser:
        made.append(Browser(url or gateway.url))
        return made[-1]

    yield make
    for browser in made:
        await browser.session.close()


@pytest.fixture
async def owner(browsers: NewBrowser) -> Browser:
    """The owner of a new church, logged in."""
    browser = browsers()
    status, _ = await browser.register()
    assert status == 201
    return browser
