"""The lean HTTP client of the simulated carrier's webhooks, against servers of every manner."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from koinonia.carrier.simulated.poster import Poster

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[str]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Server:
    """Answers each request of a connection with the next of ``answers``; an empty one closes the connection."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                if not (answer := self.answers.pop(0)):
                    break
                for at in range(0, len(answer), 7):  # in pieces, as networks do
                    writer.write(answer[at : at + 7])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nokay"


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    made = Poster({"User-Agent": "test"})
    yield made
    made.close()


async def test_answers_are_read_over_one_kept_connection(poster: Poster) -> None:
    server = Server(OK, b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", OK)
    async with serving(server) as url:
        statuses = [await poster.post(f"{url}/hook?d=1#x", {"X-A": "b"}, b"{}") for _ in range(3)]
    assert statuses == [200, 404, 200]
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /hook?d=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nUser-Agent: test\r\nX-A: b\r\n\r\n{}" in server.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nokay\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nokay",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_an_answer_without_a_length_or_that_closes_ends_its_connection(poster: Poster, answer: bytes) -> None:
    server = Server(answer, OK)
    async with serving(server) as url:
        assert [await poster.post(url, {}, b"{}") for _ in range(2)] == [200, 200]
    assert server.connections == 2


async def test_a_connection_that_was_closed_while_idle_is_replaced(poster: Poster) -> None:
    server = Server(OK, b"", OK)
    async with serving(server) as url:
        assert [await poster.post(url, {}, b"{}") for _ in range(2)] == [200, 200]
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-hello\r\n\r\n", b"HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n"])
async def test_no_answer_or_one_that_is_not_http_is_an_error(poster: Poster, answer: bytes) -> None:
    async with serving(Server(answer)) as url:
        with pytest.raises(ConnectionError):
            await poster.post(url, {}, b"{}")


async def test_a_late_answer_is_never_taken_for_the_next_requests(poster: Poster) -> None:
    release = asyncio.Event()
    connections = 0

    async def slow_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections == 1:
            await release.wait()
            writer.write(b"HTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(OK)
        writer.close()

    async with serving(slow_once) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await poster.post(url, {}, b"{}")
        release.set()
        assert await poster.post(url, {}, b"{}") == 200
    assert connections == 2


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example/", "hook", "http://", "http://a b/", "http://a.example/\r\nX: y", "http://u@a.example/"],
)
async def test_what_is_no_http_url_is_a_value_error(poster: Poster, url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        await poster.post(url, {}, b"{}")


async def test_a_port_that_nobody_listens_on_is_an_os_error(poster: Poster) -> None:
    async with serving(Server(OK)) as url:
        pass
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await poster.post(url, {}, b"{}")
