"""POSTs to one URL over connections that are kept, at a fraction of what a general HTTP client costs a text.

It tells exactly what the contract of a carrier turns on: `NotSent` means that not one byte of the request has left,
`NotAnswered` that some may have. Nothing is sent twice in here: a POST is not safe to repeat, and whether its key makes
it so is for the caller to know. What a server does is believed within bounds: no redirect is followed, an answer is
bounded in size and time, and whatever comes that was not asked for ends its connection.

Source: RFC 9112, 6.3 (the length of an answer) and 9.3 to 9.6 (kept connections); RFC 9110, 9.2.2 (what may be
repeated) and 15.2 (interim answers).
"""

import asyncio
import re
import select
import ssl
from collections.abc import Mapping
from typing import NamedTuple, cast

import aiohappyeyeballs
import httptools
from yarl import URL

KEEPALIVE_SECONDS = 10.0  # below the idle limit of the carrier, which closes a socket just as we reuse it otherwise
MAX_HEAD_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1024 * 1024
_NEXT_ADDRESS_SECONDS = 0.25  # after which another of the host's addresses is tried as well (RFC 8305)
_CLOSE_SECONDS = 1.0

_LINE = re.compile(r"[A-Za-z0-9-]+: [\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_KEPT_FOR = re.compile(rb"(?:^|[,; \t])timeout *= *\"?([0-9]{1,6})", re.IGNORECASE)


class NotSent(Exception):
    """Nothing of the request has left."""


class NotAnswered(Exception):
    """The request may have left, whole or in part, and no whole answer has come."""


class Answer(NamedTuple):
    """An answer that is whole."""

    status: int
    retry_after: str | None
    body: bytes


class Limits(NamedTuple):
    """How long each step may take, in seconds."""

    connect: float = 5.0  # until a place is free and a connection stands, TLS and all
    send: float = 5.0  # until the other side has taken in what a full socket could not
    answer: float = 10.0  # until the next bytes of the answer come
    total: float = 20.0  # for all of it
    idle: float = KEEPALIVE_SECONDS  # a connection is kept so long unused


class Connections:
    """Up to ``concurrency`` connections to the host of one URL. Make it inside the event loop, and close it."""

    def __init__(
        self,
        url: URL,
        headers: Mapping[str, str],
        *,
        concurrency: int,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``headers`` go with each request. ``tls`` says whom to believe where the URL is https; by default as usual.

        Raises:
            ValueError: the URL is none of http or https, or a header is not what a header may be.
        """
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise ValueError("the URL is none of http or https")
        self.limits = limits or Limits()
        self._host, self._port = url.raw_host, cast(int, url.port)
        self._tls = (tls or ssl.create_default_context()) if url.scheme == "https" else None
        common = {"Host": url.host_port_subcomponent or "", "Accept-Encoding": "identity", **headers}
        self._head = f"POST {url.raw_path_qs} HTTP/1.1\r\n{header_lines(common)}"
        self._places = asyncio.Semaphore(concurrency)
        self._idle: list[_Connection] = []  # the last one used is used first, so that those in excess grow old
        self._open: set[_Connection] = set()
        self._emptied = asyncio.Event()
        self.closed = False

    @property
    def open_count(self) -> int:
        """How many connections stand."""
        return len(self._open)

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST ``body``, once.

        Raises:
            NotSent, NotAnswered: as they say; their text is safe to show.
            ValueError: a header is not what a header may be.
        """
        request = f"{self._head}{header_lines(headers)}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body
        began_at = asyncio.get_running_loop().time()
        ends_at = began_at + self.limits.total
        connected_by = min(began_at + self.limits.connect, ends_at)
        await self._take_place(connected_by)
        connection = None
        try:
            connection = self._take_idle() or await self._connect(connected_by)
            return await connection.ask(request, ends_at)
        finally:
            self._places.release()
            if connection is not None:
                self._give_back(connection)

    async def close(self) -> None:
        """Close all connections; who still waits on one gets no answer."""
        self.closed = True
        for connection in [*self._open]:
            connection.abort()
        if self._open:
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._emptied.wait()
            except TimeoutError:
                pass  # the process ends anyhow

    def opened(self, connection: "_Connection") -> None:
        """A connection stands."""
        self._open.add(connection)
        self._emptied.clear()

    def lost(self, connection: "_Connection") -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._open:
            self._emptied.set()

    async def _take_place(self, connected_by: float) -> None:
        if self.closed:
            raise NotSent("closed")
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        try:
            async with asyncio.timeout_at(connected_by):
                await self._places.acquire()
        except TimeoutError:
            raise NotSent("no connection was free in time") from None

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.abort()  # closed over there, or saying what nobody asked: nothing of ours has left on it
        return None

    def _give_back(self, connection: "_Connection") -> None:
        if connection.idle_seconds > 0 and not self.closed:
            connection.rest()
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connect(self, connected_by: float) -> "_Connection":
        try:
            async with asyncio.timeout_at(connected_by):
                return await self._try_addresses()
        except TimeoutError:
            raise NotSent("connecting took too long") from None
        except OSError as error:  # an untrusted certificate is one, too; its text may quote what it was shown
            raise NotSent(type(error).__name__) from None

    async def _try_addresses(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(self._host, self._port, proto=6)  # TCP
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
        )
        _, connection = await loop.create_connection(
            lambda: _Connection(self), sock=sock, ssl=self._tls, server_hostname=self._host if self._tls else None
        )
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time.

    A single timer is set for whatever is waited for and found to have moved when it rings, so that an answer within the
    usual time sets none.
    """

    def __init__(self, pool: Connections) -> None:
        self.idle_seconds = 0.0  # how long it may be kept now; 0: not at all
        self._pool = pool
        self._limits = pool.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self._answer: asyncio.Future[Answer] | None = None  # while one is awaited
        self._ends_at = self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stuck = False
        self._received = 0  # bytes, since it asked
        self._body: list[bytes] = []
        self._retry_after: str | None = None
        self._forget()

    # What the pool does with it.

    def is_quiet(self) -> bool:
        """Whether it can be used: open, in time, and without a word from the other side, be it only its end.

        The loop may not have come round to what has arrived, so the socket itself is asked.
        """
        return not self._transport.is_closing() and self._loop.time() < self._deadline and not self._poll.poll(0)

    async def ask(self, request: bytes, ends_at: float) -> Answer:
        """Send one request, and wait for its answer until ``ends_at`` at the latest."""
        if self._transport.is_closing():
            raise NotSent("the new connection was closed")
        self.idle_seconds = 0.0  # until the answer is whole
        self._received = 0
        self._forget()
        self._ends_at = ends_at
        self._answer = self._loop.create_future()
        self._wait_for(self._limits.answer)
        self._transport.write(request)
        return await self._answer

    def rest(self) -> None:
        """Stay open for the next request."""
        self._answer = None
        self._deadline = self._loop.time() + self.idle_seconds
        self._set_timer()

    def abort(self) -> None:
        """Close it at once; what comes next would be no answer to us."""
        self._transport.abort()

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of this class
        self._transport.set_write_buffer_limits(high=1, low=0)  # it tells when not all of a request could leave
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.opened(self)
        if self._pool.closed:
            self.abort()

    def pause_writing(self) -> None:
        self._stuck = True
        if self._answer is not None:
            self._wait_for(self._limits.send)

    def resume_writing(self) -> None:
        self._stuck = False
        if self._answer is not None:
            self._wait_for(self._limits.answer)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self._end("it said what nobody asked")
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end("the answer is not HTTP")
        if self._answer.done():
            return
        if self._received > (MAX_ANSWER_BYTES if self._is_headed else MAX_HEAD_BYTES):
            self._end("the answer is too long")
        elif not self._stuck:
            self._wait_for(self._limits.answer)

    def eof_received(self) -> None:
        if self._is_headed and not self._is_sized:
            self._succeed(0.0)  # an answer without a length ends with its connection

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end(type(error).__name__ if error is not None else "the connection was closed")
        self._pool.lost(self)

    # What the parser tells it.

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._is_sized = True
        elif name == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif name == b"keep-alive" and (kept := _KEPT_FOR.search(value)) is not None:
            self._kept_for = float(kept[1]) - 1.0  # it counts from when it sent the answer

    def on_headers_complete(self) -> None:
        self._is_headed = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._is_headed:
            self._forget()  # 1xx: the answer is still to come
            return
        keeps = self._parser.should_keep_alive()
        self._succeed(min(self._kept_for, self._limits.idle) if keeps else 0.0)

    def on_message_begin(self) -> None:
        if self._answer is not None and self._answer.done():
            self.idle_seconds = 0.0  # a second answer to one request

    # What comes of it.

    def _forget(self) -> None:
        """Know nothing of an answer yet."""
        self._body = []
        self._is_headed = self._is_sized = False
        self._kept_for = self._limits.idle
        self._retry_after = None

    def _succeed(self, idle_seconds: float) -> None:
        if self._answer is not None and not self._answer.done():
            self.idle_seconds = idle_seconds
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._answer.set_result(Answer(self._parser.get_status_code(), self._retry_after, body))

    def _end(self, reason: str) -> None:
        """No use any more: whoever waits is told why."""
        self.idle_seconds = 0.0
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(NotAnswered(reason))
        self._transport.abort()

    def _wait_for(self, seconds: float) -> None:
        self._deadline = min(self._loop.time() + seconds, self._ends_at)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """The timer has rung: the deadline has come, or has moved since."""
        self._timer = None
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._end("the request was not taken in time" if self._stuck else "no answer in time")


def header_lines(headers: Mapping[str, str]) -> str:
    """The headers as they go out.

    Raises:
        ValueError: one has a character that no header may have.
    """
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if not all(map(_LINE.fullmatch, lines)):
        raise ValueError("a header is not what a header may be")  # not quoted: it may be a secret
    return "".join([f"{line}\r\n" for line in lines])
