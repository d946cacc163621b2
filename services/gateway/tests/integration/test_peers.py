"""Services behind the gateway that dawdle, reset, are overloaded or take their time, over real connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from koinonia import metrics
from koinonia.api.endpoint import MEBIBYTE
from koinonia.api.members import IMPORT
from koinonia.security.identity import HEADER
from koinonia.testing.fixtures import wait_until
from koinonia.web import deadlines
from koinonia_gateway import forwarding

from .conftest import Act, Behind, Browser, StartGateway, echo
from .test_forwarding import cut

WHOLE = 30_000  # milliseconds


class Silence:
    """Says nothing until it is told to."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self.over.wait()
        return await echo(request)


@pytest.fixture
async def silence() -> AsyncIterator[Silence]:
    made = Silence()
    yield made
    made.over.set()


@pytest.fixture
async def other() -> AsyncIterator[Behind]:
    """One more replica."""
    service = Behind()
    server = await service.start()
    yield service
    await server.stop(0.2)


def states(name: str) -> dict[str, str]:
    """The breakers of a service, as the metrics show them."""
    return {each.name: each.state for each in metrics.switches if each.name.startswith(f"{name} at ")}


async def test_connections_are_used_again(owner: Browser, behind: Behind) -> None:
    ports = set()

    async def note(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return await echo(request)

    behind.act = note
    for _ in range(20):
        assert (await owner.call("GET", "/api/groups"))[0] == 200
        assert (await owner.call("POST", "/api/groups", {"name": "Choir"}, csrf=False))[0] == 403
    assert len(ports) == 1


async def test_each_try_says_how_much_of_the_one_deadline_is_left(owner: Browser, behind: Behind) -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        behind.act = echo
        return await cut(request)

    behind.act = late
    headers = {deadlines.HEADER: "5"}
    assert (await owner.call("GET", "/api/groups", headers=headers))[0] == 200
    first, second = (int(request.headers[deadlines.HEADER]) for request in behind.seen)
    assert WHOLE - 2000 < first <= WHOLE  # not the five that the client says
    assert second <= first - 190


async def test_how_long_somebody_outside_says_to_wait_means_nothing(owner: Browser) -> None:
    for left in ("0", "1"):
        headers = {deadlines.HEADER: left, HEADER: "not signed by us"}
        assert (await owner.call("GET", "/api/auth/me", headers=headers))[0] == 200
        assert (await owner.call("POST", "/api/auth/refresh", headers=headers))[0] == 200
        assert (await owner.call("GET", "/api/groups", headers=headers))[0] == 200


async def test_nobody_is_asked_or_blamed_once_the_deadline_is_over(
    start_gateway: StartGateway, owner: Browser, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 0.2)
    hasty = await start_gateway()
    _, token = await owner.call("GET", "/api/csrf-token")
    headers = {"X-CSRF-Token": token["csrfToken"], "Content-Type": "application/json"}

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"name":'
        await asyncio.sleep(0.4)
        yield b'"Choir"}'

    for _ in range(6):
        async with owner.session.post(hasty.url + "/api/groups", data=slowly(), headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert behind.seen == []
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 30.0)
    assert (await owner.call("POST", "/api/groups", {"name": "Choir"}, url=hasty.url))[0] == 200


@pytest.mark.parametrize("manner", ["dawdles", "resets", "answers 502"])
async def test_who_gives_no_answer_is_left_alone_and_asked_by_one_probe(
    start_gateway: StartGateway,
    owner: Browser,
    behind: Behind,
    silence: Silence,
    *,
    monkeypatch: pytest.MonkeyPatch,
    manner: str,
) -> None:
    monkeypatch.setattr(forwarding, "OPEN_SECONDS", 1.0)
    hasty = await start_gateway()
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 0.2)
    name = f"messaging at {behind.url.removeprefix('http://')}"
    manners: dict[str, Act] = {"dawdles": silence, "resets": cut, "answers 502": _with_status(502)}
    behind.act = manners[manner]

    async def ask() -> int:
        return (await owner.call("POST", "/api/groups", {"name": "Choir"}, url=hasty.url))[0]

    assert {await ask() for _ in range(5)} <= {502, 503}
    assert (len(behind.seen), states("messaging")[name]) == (5, "open")
    assert [await ask() for _ in range(10)] == [503] * 10
    assert owner.headers["Retry-After"] == "2"
    assert len(behind.seen) == 5
    behind.act = echo
    assert (await owner.call("GET", "/api/numbers", url=hasty.url))[0] == 200  # another service
    assert (states("messaging")[name], states("delivery")[name.replace("messaging", "delivery")]) == ("open", "closed")
    behind.act, probed = silence, len(behind.seen)
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 30.0)
    await wait_until(lambda: states("messaging")[name] == "half_open")
    asked = [asyncio.create_task(ask()) for _ in range(10)]
    await wait_until(lambda: sum(each.done() for each in asked) >= 9)
    await wait_until(lambda: len(behind.seen) > probed)
    assert len(behind.seen) == probed + 1
    silence.over.set()
    assert sorted([await each for each in asked]) == [200] + [503] * 9
    assert states("messaging")[name] == "closed"
    assert [await ask() for _ in range(3)] == [200] * 3


def _with_status(status: int) -> Act:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "X"}}, status=status)

    return answer


@pytest.mark.parametrize("status", [500, 503])
async def test_an_answer_that_tells_of_a_failure_is_an_answer(owner: Browser, behind: Behind, status: int) -> None:
    behind.act = _with_status(status)
    answers = [await owner.call("GET", "/api/groups") for _ in range(10)]
    assert answers == [(status, {"error": {"code": "X"}})] * 10
    assert len(behind.seen) == 10  # none was asked for twice, and nobody was spared


async def test_a_read_does_not_wait_for_one_replica_as_long_as_there_is_another(
    start_gateway: StartGateway,
    owner: Browser,
    behind: Behind,
    other: Behind,
    silence: Silence,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 1.0)
    monkeypatch.setattr(forwarding, "OPEN_SECONDS", 60.0)
    two = await start_gateway(messaging_url=f"{behind.url},{other.url}")
    behind.act = silence
    statuses = [(await owner.call("GET", "/api/groups", url=two.url))[0] for _ in range(10)]
    assert statuses == [200] * 10
    assert len(behind.seen) == 5
    assert 300 < int(behind.seen[0].headers[deadlines.HEADER]) <= 500
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers = [(await owner.call("POST", "/api/groups", {"name": "x"}, url=two.url))[0] for _ in range(10)]
    assert answers == [200] * 10
    assert (len(behind.seen), loop.time() - began < 5) == (5, True)


@asynccontextmanager
async def busy(count: int, call: Callable[[], Awaitable[Any]], behind: Behind) -> AsyncIterator[list[Any]]:
    """So many calls that wait for their answers."""
    before = len(behind.seen)
    tasks = [asyncio.ensure_future(call()) for _ in range(count)]
    await wait_until(lambda: len(behind.seen) == before + count)
    yield tasks
    await asyncio.gather(*tasks)


async def test_under_overload_reads_are_refused_first(
    start_gateway: StartGateway, owner: Browser, behind: Behind, silence: Silence
) -> None:
    small = await start_gateway(forward_concurrency=3)
    behind.act = silence

    async def read() -> Any:
        return await owner.call("GET", "/api/groups", url=small.url)

    async def write() -> Any:
        return await owner.call("POST", "/api/groups", {"name": "Choir"}, url=small.url)

    async with busy(2, read, behind) as reads:
        status, answer = await read()
        assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
        assert owner.headers["Retry-After"] == "1"
        async with busy(1, write, behind) as writes:
            assert (await write())[0] == 503
            assert len(behind.seen) == 3
            silence.over.set()
        assert (await writes[0])[0] == 200
    assert [(await each)[0] for each in reads] == [200, 200]
    assert (await read())[0] == 200


async def test_an_import_passes_through_as_it_comes_and_no_faster_than_it_is_taken(
    owner: Browser, behind: Behind, silence: Silence
) -> None:
    _, token = await owner.call("GET", "/api/csrf-token")
    headers = {"X-CSRF-Token": token["csrfToken"], "Content-Type": "text/csv"}
    sent = 0
    most = IMPORT.body_limit // MEBIBYTE
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(most):
            yield b"x" * MEBIBYTE
            sent += 1

    async def take(request: web.Request) -> web.StreamResponse:
        assert await request.content.readany()
        begun.set()
        return await silence(request)

    async def upload() -> int:
        async with owner.session.post(owner.url + IMPORT.path, data=pieces(), headers=headers) as answer:
            return answer.status

    behind.act = take
    uploading = asyncio.create_task(upload())
    await asyncio.wait_for(begun.wait(), 10)
    await _until_it_stands(lambda: sent)
    assert sent < most
    silence.over.set()
    assert (await uploading, sent) == (200, most)


async def test_an_answer_passes_through_as_it_comes_and_no_faster_than_it_is_read(
    owner: Browser, behind: Behind
) -> None:
    written = 0
    most = 64

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(most):
            await response.write(b"x" * MEBIBYTE)
            written += 1
        return response

    behind.act = stream
    async with owner.session.get(owner.url + "/api/groups") as answer:
        assert len(await answer.content.readany()) > 0
        await _until_it_stands(lambda: written)
        assert written < most // 2
        size = 1 + len(await answer.content.read())
        assert size > (most - 1) * MEBIBYTE
    assert written == most


async def _until_it_stands(figure: Callable[[], int]) -> None:
    last = -1
    while figure() != last:
        last = figure()
        await asyncio.sleep(0.3)
