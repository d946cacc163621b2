"""The client that texts go over, against peers that do what no decent server does, on both event loops."""

import asyncio
import inspect
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web
from yarl import URL

from koinonia.carrier.connections import MAX_ANSWER_BYTES, Answer, Connections, Limits, NotAnswered, NotSent
from koinonia.carrier.contract import OutboundText, Refused
from koinonia.carrier.simulated.server import create_app
from koinonia.carrier.simulated.settings import Settings
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.testing.fixtures import wait_until
from koinonia.testing.tls import certificate, server_context

CHURCH, PERSON = "+12055550100", "+12055550111"
PATIENT = Limits(connect=5.0, send=5.0, answer=5.0, total=10.0, idle=5.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother"

Step = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def on_both_loops(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run on the loop that the services use, and on Python's own."""

    def test(loop: Callable[[], asyncio.AbstractEventLoop], **given: Any) -> None:
        def run() -> None:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(story(**given))

        with ThreadPoolExecutor(1) as thread:  # the tests' own loop is this thread's
            thread.submit(run).result()

    signature = inspect.signature(story)
    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    test.__signature__ = signature.replace(parameters=[loop, *signature.parameters.values()])  # type: ignore[attr-defined]
    test.__name__ = story.__name__
    test.pytestmark = getattr(story, "pytestmark", [])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("loop", loops, ids=["asyncio", "uvloop"])(test)
    return marked


class Peer:
    """A server that takes one step for each request, over all connections, and keeps what it was asked."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[tuple[int, bytes]] = []  # the connection's number and the whole request
        self.connected = 0
        self.ended = 0
        self.port = 0
        self.serving: list[asyncio.Task[Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        number = self.connected
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                self.asked.append((number, head + await reader.readexactly(int(length[1]))))
                step = self.steps.pop(0)
                if isinstance(step, bytes):
                    writer.write(step)
                else:
                    await step(writer)
        except (asyncio.IncompleteReadError, ConnectionError, IndexError):
            pass
        finally:
            self.ended += 1
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                await writer.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def peer(*steps: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer that listens."""
    made = Peer(*steps)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in made.serving:
            task.cancel()
        await asyncio.gather(*made.serving, return_exceptions=True)


@asynccontextmanager
async def posting(
    to: Peer | str, limits: Limits = PATIENT, *, concurrency: int = 4, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Connections]:
    """Connections to a peer."""
    url = to if isinstance(to, str) else to.url
    made = Connections(URL(url) / "v2/messages", {"X-Always": "1"}, concurrency=concurrency, limits=limits, tls=tls)
    try:
        yield made
    finally:
        await made.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a peer that dies does."""
    plug = writer.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def then(said: bytes, *, end: Callable[[asyncio.StreamWriter], None]) -> Step:
    """Say this and end the connection."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        await asyncio.sleep(0.02)  # a reset overtakes what the other side has not read
        end(writer)

    return step


async def say_nothing(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


WHOLE = {
    "with a length": (OK, b"ok"),
    "in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", b"ok"),
    "in chunks with a trailer": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-After: 1\r\n\r\n",
        b"ok",
    ),
    "after interim ones": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, b"ok"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", WHOLE)
@on_both_loops
async def test_an_answer_is_read_whole_however_it_is_cut_and_its_connection_is_used_again(name: str) -> None:
    raw, body = WHOLE[name]

    async def byte_by_byte(writer: asyncio.StreamWriter) -> None:
        for at in range(len(raw)):
            writer.write(raw[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    async with peer(raw, byte_by_byte, OTHER) as server, posting(server) as posts:
        first, second, third = [await posts.post({}, b"{}") for _ in range(3)]
    assert first == second == Answer(204 if b" 204 " in raw else 200, None, body)
    assert third.body == b"another"
    assert [number for number, _ in server.asked] == [1, 1, 1]


@on_both_loops
async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    said = b"HTTP/1.1 200 OK\r\n\r\nall there is"
    async with peer(then(said, end=lambda writer: writer.close()), OK) as server, posting(server) as posts:
        assert (await posts.post({}, b"{}")).body == b"all there is"
        assert (await posts.post({}, b"{}")).body == b"ok"
    assert [number for number, _ in server.asked] == [1, 2]


@on_both_loops
async def test_a_request_is_what_was_asked_for_byte_for_byte() -> None:
    async with peer(OK) as server, posting(server) as posts:
        await posts.post({"Idempotency-Key": "k-1", "traceparent": "00-ab"}, "{é}".encode())
    lines = [
        "POST /v2/messages HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Accept-Encoding: identity",
        "X-Always: 1",
        "Idempotency-Key: k-1",
        "traceparent: 00-ab",
        "Content-Length: 4",
    ]
    assert server.asked == [(1, ("\r\n".join(lines) + "\r\n\r\n{é}").encode())]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00", "", " a", "a ", "é"])
@on_both_loops
async def test_what_is_no_header_goes_nowhere(value: str) -> None:
    async with peer(OK) as server, posting(server) as posts:
        with pytest.raises(ValueError, match="a header"):
            await posts.post({"Idempotency-Key": value}, b"{}")
        with pytest.raises(ValueError, match="a header"):
            await posts.post({f"X: 1\r\n{value}": "1"}, b"{}")
        with pytest.raises(ValueError, match="a header"):
            TelnyxCarrier(server.url, f"{value}\r\n")
    assert server.connected == 0


BROKEN = {
    "reset before a word": then(b"", end=reset),
    "closed before a word": then(b"", end=lambda writer: writer.close()),
    "reset in the status": then(b"HTTP/1.1 2", end=reset),
    "closed in the head": then(b"HTTP/1.1 200 OK\r\nContent-Le", end=lambda writer: writer.close()),
    "closed in the body": then(OK[:-1], end=lambda writer: writer.close()),
    "reset in the body": then(OK[:-1], end=reset),
    "reset in a body without a length": then(b"HTTP/1.1 200 OK\r\n\r\nhalf", end=reset),
    "closed in a chunk": then(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", end=lambda writer: writer.close()
    ),
    "closed before the last chunk": then(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", end=lambda writer: writer.close()
    ),
    "closed after an interim answer": then(b"HTTP/1.1 100 Continue\r\n\r\n", end=lambda writer: writer.close()),
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x50",
    "an impossible status": b"HTTP/1.1 2OO OK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    "a length below nothing": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    "a chunk of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "lines that end in LF": OK.replace(b"\r\n", b"\n"),
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
    "an endless line": b"HTTP/1.1 200 " + b"O" * 200_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 10_000,
    "endless interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000,
    "a body without end": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1),
    "a body that is too long": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1),
}


@pytest.mark.parametrize("name", BROKEN)
@on_both_loops
async def test_what_is_no_whole_answer_is_none_and_the_next_request_gets_its_own(name: str) -> None:
    async with peer(BROKEN[name], OTHER) as server, posting(server) as posts:
        with pytest.raises(NotAnswered):
            await posts.post({}, b"{}")
        assert (await posts.post({}, b"{}")).body == b"another"
    assert [number for number, _ in server.asked] == [1, 2]  # each sent once


@on_both_loops
async def test_what_comes_after_an_answer_is_never_taken_for_the_next_one() -> None:
    async def say_more_later(writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(OK)

    ends = [OK + OK, OK + b"rubbish", OK + b"\r\n\r\nHTTP/1.1 200", say_more_later]
    async with peer(*[step for end in ends for step in (end, OTHER)]) as server, posting(server) as posts:
        for _ in ends:
            assert (await posts.post({}, b"{}")).body == b"ok"
            await asyncio.sleep(0.1)
            assert (await posts.post({}, b"{}")).body == b"another"
            await posts.close()
            posts.closed = False
    assert [number for number, _ in server.asked] == [1, 2, 3, 4, 5, 6, 7, 8]


@on_both_loops
async def test_a_connection_that_died_while_it_was_idle_costs_nothing() -> None:
    async def close_soon(writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        asyncio.get_running_loop().call_later(0.02, writer.close)

    async with peer(close_soon, OTHER) as server, posting(server) as posts:
        await posts.post({}, b"{}")
        await wait_until(lambda: server.ended == 1 or posts.open_count == 0)
        assert (await posts.post({}, b"{}")).body == b"another"
    assert [number for number, _ in server.asked] == [1, 2]


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@on_both_loops
async def test_one_that_died_while_the_loop_was_busy_is_not_written_to(*, is_reset: bool) -> None:
    """The socket knows before the loop has come round to it; without a look, the outcome would be unknown."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def serve() -> list[bytes]:
            heard = []
            for answer in (OK, OTHER):
                plug, _ = listener.accept()
                plug.settimeout(5)
                heard.append(plug.recv(65536))
                plug.sendall(answer)
                if is_reset:
                    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                time.sleep(0.1)
                plug.close()
            return heard

        served = thread.submit(serve)
        async with posting(f"http://127.0.0.1:{listener.getsockname()[1]}") as posts:
            assert (await posts.post({}, b"1")).body == b"ok"
            time.sleep(0.3)
            assert (await posts.post({}, b"2")).body == b"another"
        assert [each[-1:] for each in served.result(5)] == [b"1", b"2"]


@pytest.mark.parametrize(
    "header", [b"Connection: close", b"Keep-Alive: timeout=1", b"Keep-Alive: max=5, timeout=0", b"Connection: Close"]
)
@on_both_loops
async def test_a_connection_is_not_kept_for_longer_than_the_peer_keeps_it(header: bytes) -> None:
    said = b"HTTP/1.1 200 OK\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
    async with peer(said, OK) as server, posting(server) as posts:
        await posts.post({}, b"{}")
        await wait_until(lambda: server.ended == 1)
        await posts.post({}, b"{}")
    assert [number for number, _ in server.asked] == [1, 2]


@on_both_loops
async def test_an_idle_connection_is_closed_before_the_peer_would() -> None:
    said = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n"
    async with peer(said, said, OK) as server, posting(server) as posts:
        began = time.monotonic()
        await posts.post({}, b"{}")
        await posts.post({}, b"{}")
        assert posts.open_count == 1
        await wait_until(lambda: server.ended == 1)
        assert 0.9 < time.monotonic() - began < 2.0
        await posts.post({}, b"{}")
        assert posts.open_count == 1
    assert [number for number, _ in server.asked] == [1, 1, 2]


@on_both_loops
async def test_idle_connections_go_after_our_own_limit() -> None:
    async with peer(OK, OK, OK, OK) as server, posting(server, PATIENT._replace(idle=0.1)) as posts:
        await asyncio.gather(*(posts.post({}, b"{}") for _ in range(4)))
        assert posts.open_count == server.connected > 1
        await wait_until(lambda: server.ended == server.connected)
        assert posts.open_count == 0


@on_both_loops
async def test_nobody_listening_or_shaking_hands_means_that_nothing_was_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with posting(f"http://127.0.0.1:{port}") as posts:
        with pytest.raises(NotSent, match="ConnectionRefusedError"):
            await posts.post({}, b"{}")
    async with posting("http://nobody.invalid") as posts:
        with pytest.raises(NotSent, match="gaierror"):
            await posts.post({}, b"{}")
    async with peer() as mute, posting(f"https://127.0.0.1:{mute.port}", PATIENT._replace(connect=0.2)) as posts:
        with pytest.raises(NotSent, match="connecting took too long"):
            await posts.post({}, b"{}")


@on_both_loops
async def test_no_free_place_in_time_means_that_nothing_was_sent() -> None:
    async with peer(say_nothing) as server, posting(server, PATIENT._replace(connect=0.1), concurrency=1) as posts:
        first = asyncio.create_task(posts.post({}, b"{}"))
        await wait_until(lambda: len(server.asked) == 1)
        with pytest.raises(NotSent, match="no connection was free"):
            await posts.post({}, b"{}")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        server.steps = [OK]
        assert (await posts.post({}, b"{}")).body == b"ok"  # the place is free again
    assert len(server.asked) == 2


@on_both_loops
async def test_no_answer_in_time_is_none() -> None:
    async with peer(say_nothing) as server, posting(server, PATIENT._replace(answer=0.2)) as posts:
        with pytest.raises(NotAnswered, match="no answer in time"):
            await posts.post({}, b"{}")
    assert len(server.asked) == 1


@on_both_loops
async def test_an_answer_that_drips_is_awaited_no_longer_than_all_may_take() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        for byte in OK + b" " * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.03)

    async with peer(drip) as server, posting(server, PATIENT._replace(answer=0.3, total=0.7)) as posts:
        began = time.monotonic()
        with pytest.raises(NotAnswered, match="no answer in time"):
            await posts.post({}, b"{}")
        assert time.monotonic() - began > 0.6


@on_both_loops
async def test_a_request_that_is_not_taken_in_has_a_limit_of_its_own() -> None:
    """A full socket: some of it has left, so its outcome is open. One that is read slowly goes through."""
    body = b"x" * 32 * 1024 * 1024
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def serve() -> None:
            deaf, _ = listener.accept()
            plug, _ = listener.accept()
            left = len(body)
            plug.settimeout(5)
            while left > 0:
                left -= len(plug.recv(4 * 1024 * 1024))
            time.sleep(0.3)  # longer than sending may take: that time is over
            plug.sendall(OK)
            deaf.close()
            plug.recv(1)
            plug.close()

        served = thread.submit(serve)
        async with posting(
            f"http://127.0.0.1:{listener.getsockname()[1]}", PATIENT._replace(send=0.2, idle=0.1)
        ) as posts:
            with pytest.raises(NotAnswered, match="not taken in time"):
                await posts.post({}, body)
            posts.limits = PATIENT._replace(send=5.0, answer=5.0)
            assert (await posts.post({}, body)).body == b"ok"
        served.result(5)


@on_both_loops
async def test_who_gives_up_takes_the_connection_along() -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(OK)

    async with peer(OK, late, OTHER) as server, posting(server) as posts:
        await posts.post({}, b"{}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await posts.post({}, b"{}")
        assert (await posts.post({}, b"{}")).body == b"another"
        await asyncio.sleep(0.2)
        assert posts.open_count == 1
    assert [number for number, _ in server.asked] == [1, 1, 2]


@on_both_loops
async def test_no_more_connections_than_allowed_and_each_answer_to_its_own_request() -> None:
    async def echo(writer: asyncio.StreamWriter) -> None:
        body = next(raw for raw in reversed(server.asked))[1].rpartition(b"\r\n\r\n")[2]
        await asyncio.sleep(0.002)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with peer(*[echo] * 200) as server, posting(server, concurrency=4) as posts:
        answers = await asyncio.gather(*(posts.post({}, b"%d" % number) for number in range(200)))
        assert [int(answer.body) for answer in answers] == list(range(200))
        assert posts.open_count <= 4
    assert server.connected <= 4


@on_both_loops
async def test_closing_ends_what_is_under_way_and_nothing_is_sent_after() -> None:
    async with peer(say_nothing) as server, posting(server) as posts:
        waiting = asyncio.create_task(posts.post({}, b"{}"))
        await wait_until(lambda: len(server.asked) == 1)
        await posts.close()
        with pytest.raises(NotAnswered):
            await waiting
        with pytest.raises(NotSent):
            await posts.post({}, b"{}")
        assert posts.open_count == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["ftp://carrier.example", "carrier.example/v2", "http:///v2"])
async def test_a_url_that_is_none_of_http_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="none of http"):
        Connections(URL(url), {}, concurrency=1)


# TLS.


def certified(folder: Path, name: str | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side for 127.0.0.1, or for ``name``, and a client's that believes it alone."""
    file = certificate(folder, name)
    return server_context(file), ssl.create_default_context(cafile=str(file))


@on_both_loops
async def test_over_tls_a_connection_is_kept_and_its_death_noticed(tmp_path: Path) -> None:
    theirs, ours = certified(tmp_path)
    end = then(OK, end=lambda writer: writer.close())
    async with (
        peer(OK, end, OTHER, tls=theirs) as server,
        posting(f"https://127.0.0.1:{server.port}", tls=ours) as posts,
    ):
        assert [(await posts.post({}, b"{}")).body for _ in range(2)] == [b"ok", b"ok"]
        await wait_until(lambda: posts.open_count == 0)
        assert (await posts.post({}, b"{}")).body == b"another"
    assert [number for number, _ in server.asked] == [1, 1, 2]


@on_both_loops
async def test_over_tls_a_reset_leaves_the_outcome_open(tmp_path: Path) -> None:
    theirs, ours = certified(tmp_path)
    async with (
        peer(then(OK[:-1], end=reset), tls=theirs) as server,
        posting(f"https://127.0.0.1:{server.port}", tls=ours) as posts,
    ):
        with pytest.raises(NotAnswered):
            await posts.post({}, b"{}")


@on_both_loops
async def test_a_certificate_of_somebody_else_is_not_spoken_to(tmp_path: Path) -> None:
    theirs, ours = certified(tmp_path, "elsewhere.example")
    async with peer(OK, OK, tls=theirs) as server:
        for trusted in (ours, None):  # the wrong name; an issuer whom nobody knows
            async with posting(f"https://127.0.0.1:{server.port}", tls=trusted) as posts:
                with pytest.raises(NotSent, match="SSLCertVerificationError"):
                    await posts.post({}, b"{}")
    assert server.asked == []


async def test_the_carriers_client_speaks_tls_in_all_its_calls(tmp_path: Path) -> None:
    theirs, ours = certified(tmp_path)
    runner = web.AppRunner(
        create_app(Settings(api_key="KEY", numbers=(CHURCH,))), access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=theirs).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    text = OutboundText(recipient=PERSON, sender=CHURCH, text="Sunday at 10")
    async with TelnyxCarrier(url, "KEY", tls=ours) as client, TelnyxCarrier(url, "KEY") as stranger:
        accepted = await client.send(text)
        state = await client.look_up(accepted.carrier_id)
        assert state is not None
        assert state.carrier_id == accepted.carrier_id
        with pytest.raises(Refused):
            await stranger.send(text)
    await runner.cleanup()
