"""The client against a small platform behind the real web layer: sessions, errors, pages, repeating, live progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from aiohttp import web

from koinonia import clock
from koinonia.api import Endpoint, NoQuery, Page, PageQuery, auth, branches, members, messages
from koinonia.api.messages import MessageCounts, MessageProgress
from koinonia.client import ApiError, Client
from koinonia.errors import AuthenticationFailed, Conflict, CsrfFailed, DependencyUnavailable
from koinonia.ids import new_id
from koinonia.security.identity import Identity
from koinonia.web import Answer, Call, Cookie, Handler, Probe, Raw, Server, build_app

MESSAGE_ID = UUID(int=5)
SESSION = auth.Session.example()


class Platform:
    """Just enough of the platform's behaviour, in memory."""

    def __init__(self) -> None:
        self.access: set[str] = set()
        self.csrf = "csrf-1"
        self.branches = [branches.Branch.example() for _ in range(250)]
        self.keys: list[str | None] = []
        self.away = 0
        self.dying = 0
        self.streams: list[str | None] = []
        self.csv = ""

    async def identify(self, request: web.Request, endpoint: Endpoint) -> Identity | None:
        if request.headers.get("Authorization") == "Bearer koi_good":
            return self._identity(request)
        if endpoint.access == "public":
            return None
        if request.cookies.get("accessToken") not in self.access:
            raise AuthenticationFailed
        if endpoint.method != "GET" and request.headers.get("X-CSRF-Token") != self.csrf:
            raise CsrfFailed
        return self._identity(request)

    def _identity(self, request: web.Request) -> Identity:
        return Identity(
            church_id=UUID(int=1),
            principal_id=UUID(int=2),
            principal_kind="session",
            role="owner",
            mfa_verified=False,
            address="127.0.0.1",
            request_id="x",
            expires_at=clock.now() + timedelta(seconds=60),
            method=request.method,
            path=request.path,
        )

    async def begin_session(self, _call: Call[Any, NoQuery]) -> Answer:
        token = str(uuid4())
        self.access.add(token)
        return Answer(body=SESSION, cookies=(Cookie(name="accessToken", value=token, max_age_seconds=600),))

    async def csrf_token(self, _call: Call[None, NoQuery]) -> auth.CsrfToken:
        return auth.CsrfToken(csrf_token=self.csrf)

    async def list_branches(self, call: Call[None, PageQuery]) -> Page[branches.Branch]:
        begin = int(call.query.cursor or 0)
        end = begin + call.query.limit
        more = end < len(self.branches)
        return Page(data=self.branches[begin:end], has_more=more, next_cursor=str(end) if more else None)

    async def create_branch(self, call: Call[branches.BranchRequest, NoQuery]) -> branches.Branch:
        self.keys.append(call.request.headers.get("Idempotency-Key"))
        if self.away:
            self.away -= 1
            raise DependencyUnavailable(retry_after_seconds=0)
        if self.dying:
            self.dying -= 1
            assert call.request.transport is not None
            call.request.transport.abort()
        elif call.body.name == "twin" and len(self.keys) < 3:
            raise Conflict
        return branches.Branch.example()

    @asynccontextmanager
    async def receive(self, _call: Call[None, NoQuery], pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
        yield b"".join([piece async for piece in pieces]).decode()

    async def import_members(self, call: Call[str, NoQuery]) -> members.ImportResult:
        self.csv = call.body
        return members.ImportResult(created=1, updated=0, skipped=0, errors=[])

    async def events(self, request: web.Request, _caller: Identity | None) -> web.StreamResponse:
        """Versions 1 to 5, two at most in one stream, which then breaks."""
        seen = request.headers.get("Last-Event-ID")
        self.streams.append(seen)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        for version in range(int(seen or 0) + 1, min(int(seen or 0) + 3, 6)):
            data = msgspec.json.encode(state(version)).decode()
            await response.write(f"event: progress\nid: {version}\ndata: {data}\n\n".encode())
        if request.transport is not None and version < 5:
            request.transport.close()
        return response

    async def message(self, _call: Call[None, NoQuery]) -> messages.Message:
        return messages.Message.example()


def state(version: int) -> MessageProgress:
    return MessageProgress(
        id=MESSAGE_ID,
        version=version,
        status="completed" if version == 5 else "sending",
        total_recipients=5,
        counts=MessageCounts(queued=5 - version, delivered=version),
        handed_over_at=None,
        completed_at=None,
    )


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def url(platform: Platform) -> AsyncIterator[str]:
    plain: dict[Endpoint, Any] = {
        auth.LOGIN: platform.begin_session,
        auth.REGISTER: platform.begin_session,
        auth.REFRESH: platform.begin_session,
        auth.CSRF: platform.csrf_token,
        branches.LIST: platform.list_branches,
        branches.CREATE: platform.create_branch,
        messages.GET: platform.message,
    }
    handlers: dict[Endpoint, Any] = {endpoint: Handler(run, transaction=False) for endpoint, run in plain.items()}
    handlers[members.IMPORT] = Handler(platform.import_members, transaction=False, receive=platform.receive)
    handlers[messages.EVENTS] = Raw(platform.events)
    app = build_app(handlers, identify=platform.identify, probe=Probe(service="test"))
    server = await Server.start(app, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Client]:
    async with Client(url, patience_seconds=5) as client:
        yield client


async def test_a_session_carries_its_cookie_and_csrf_token(browser: Client) -> None:
    begun = await browser.auth.login("a@b.co", "secret")
    assert (begun.church, begun.admin, begun.mfa_required) == (SESSION.church, SESSION.admin, False)
    assert await browser.branches.create(branches.BranchRequest(name="x")) == branches.Branch.example()


async def test_without_a_session_the_error_is_the_platforms(browser: Client) -> None:
    with pytest.raises(ApiError) as refused:
        await browser.branches.create(branches.BranchRequest(name="x"))
    assert (refused.value.status, refused.value.code) == (401, "AUTH_ERROR")
    assert refused.value.request_id


async def test_an_access_token_that_ran_out_is_renewed(browser: Client, platform: Platform) -> None:
    await browser.auth.login("a@b.co", "secret")
    platform.access.clear()
    assert [branch async for branch in browser.branches.list()] == platform.branches


async def test_a_csrf_token_that_changed_is_fetched_again(browser: Client, platform: Platform) -> None:
    await browser.auth.login("a@b.co", "secret")
    await browser.branches.create(branches.BranchRequest(name="x"))
    platform.csrf = "csrf-2"
    await browser.branches.create(branches.BranchRequest(name="x"))


async def test_an_api_key_needs_no_session(url: str) -> None:
    async with Client(url, api_key="koi_good") as client:
        await client.branches.create(branches.BranchRequest(name="x"))
    async with Client(url, api_key="koi_bad") as client:
        with pytest.raises(ApiError, match="AUTH_ERROR"):
            await client.branches.create(branches.BranchRequest(name="x"))


async def test_errors_name_their_fields(browser: Client) -> None:
    await browser.auth.login("a@b.co", "secret")
    with pytest.raises(ApiError) as refused:
        await browser.branches.create(branches.BranchRequest(name=""))
    assert [detail.field for detail in refused.value.details] == ["name"]


async def test_a_request_is_repeated_under_its_key_while_the_platform_is_away(
    browser: Client, platform: Platform
) -> None:
    await browser.auth.login("a@b.co", "secret")
    platform.away = 2
    await browser.branches.create(branches.BranchRequest(name="x"), idempotency_key="mine")
    assert platform.keys == ["mine"] * 3


async def test_an_impatient_client_says_so_at_once(url: str, platform: Platform) -> None:
    platform.away = 1
    async with Client(url, api_key="koi_good") as client:
        with pytest.raises(ApiError, match="DEPENDENCY_UNAVAILABLE"):
            await client.branches.create(branches.BranchRequest(name="x"))
    assert len(platform.keys) == 1


async def test_a_conflict_is_not_repeated(browser: Client, platform: Platform) -> None:
    await browser.auth.login("a@b.co", "secret")
    with pytest.raises(ApiError, match="CONFLICT"):
        await browser.branches.create(branches.BranchRequest(name="twin"))
    assert len(platform.keys) == 1


async def test_a_conflict_with_ones_own_attempt_that_broke_off_is_waited_out(
    browser: Client, platform: Platform
) -> None:
    await browser.auth.login("a@b.co", "secret")
    platform.dying = 1
    await browser.branches.create(branches.BranchRequest(name="twin"), idempotency_key="mine")
    assert platform.keys == ["mine"] * 3


async def test_all_pages_are_walked(url: str, platform: Platform) -> None:
    async with Client(url, api_key="koi_good") as client:
        assert len([branch async for branch in client.branches.list()]) == len(platform.branches)


async def test_a_large_csv_arrives_as_it_is(url: str, platform: Platform) -> None:
    csv = "firstName,phone\n" + "José,+13125550142\n" * 100_000
    async with Client(url, api_key="koi_good") as client:
        assert (await client.members.import_csv(csv)).created == 1
    assert platform.csv == csv


async def test_live_progress_is_taken_up_where_the_stream_broke(url: str, platform: Platform) -> None:
    async with Client(url, api_key="koi_good") as client, asyncio.timeout(20):
        versions = [progress.version async for progress in client.messages.events(MESSAGE_ID)]
    assert versions == [1, 2, 3, 4, 5]
    assert platform.streams == [None, "2", "4"]


async def test_waiting_ends_with_the_last_state_or_in_time(url: str, platform: Platform) -> None:
    async with Client(url, api_key="koi_good") as client:
        message = await client.messages.wait_until_completed(MESSAGE_ID, timeout_seconds=20)
        assert message == messages.Message.example()
        with pytest.raises(TimeoutError):
            await client.messages.wait_until_completed(MESSAGE_ID, timeout_seconds=0)


async def test_a_stream_begins_though_the_access_token_has_run_out(browser: Client, platform: Platform) -> None:
    await browser.auth.login("a@b.co", "secret")
    platform.access.clear()
    async with asyncio.timeout(20):
        versions = [progress.version async for progress in browser.messages.events(MESSAGE_ID)]
    assert versions == [1, 2, 3, 4, 5]


async def test_a_refused_stream_is_an_error(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(ApiError, match="AUTH_ERROR"):
            await anext(aiter(client.messages.events(new_id())))


async def test_a_platform_that_is_not_there_is_an_error_in_time(unused_port: int) -> None:
    async with Client(f"http://127.0.0.1:{unused_port}", api_key="koi_good", patience_seconds=0.3) as client:
        with pytest.raises(OSError, match="connect"):
            await asyncio.wait_for(client.auth.me(), 5)


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    return port
