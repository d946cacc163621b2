"""Forwarding: a request goes to the service that owns its path, under our signed word of who calls.

What a client says of itself (cookies, its key, an identity header) stays here; only the headers below go on. A
connection that cannot be made goes to the next replica, whatever the method: nothing was sent. After that a request
without an effect is tried once more, any other is not: whether it was carried out is not known. All tries together have
one deadline, and each says how much of it is left.

A replica that gave no answer five times in a row is asked by one probe a second until it answers, and passed over
meanwhile. An answer is an answer, also 500 and 503, which services give themselves; 502 and 504 are a proxy's word that
it had none.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from koinonia import metrics, telemetry
from koinonia.api import ENDPOINTS, Endpoint
from koinonia.api.endpoint import MEBIBYTE
from koinonia.errors import DependencyUnavailable, KoinoniaError
from koinonia.resilience.breaker import Breaker, BreakerOpen
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia.security.keys import Keys
from koinonia.web import REQUEST_ID, Raw, body_pieces, deadlines, read_body
from koinonia.web.deadlines import DeadlineOver
from koinonia.web.server import IDLE_SECONDS
from koinonia_gateway.domain.origins import SAFE_METHODS
from koinonia_gateway.replicas import Replicas

log = structlog.get_logger()

DEADLINE_SECONDS = 30.0
LARGE_DEADLINE_SECONDS = 150.0
PROBE_SECONDS = 5.0  # a replica that was given up is given so long to show that it answers again
OPEN_SECONDS = 1.0
WHOLE_BYTES = 256 * 1024  # an answer up to this size is passed on in one piece

# Refused or not made in time: certainly nothing was sent.
_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_NO_ANSWER = frozenset({502, 504})
_BREAKERS_KEPT = 100  # replicas come and go with their addresses
_PASSED_ON = (
    "Accept",
    "Accept-Encoding",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "User-Agent",
)
# RFC 9110, 7.6.1; and what this server says itself.
_DROPPED = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "content-length", "date", "server", "x-request-id"),
    }
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a service is asked."""

    method: str
    path: str  # with its query
    headers: CIMultiDict[str]
    body: bytes | AsyncIterator[bytes]
    until: float  # the loop's time; nobody waits for an answer after it
    large: bool

    @property
    def is_read(self) -> bool:
        return self.method in SAFE_METHODS

    @property
    def left(self) -> float:
        return self.until - asyncio.get_running_loop().time()


_Answer = tuple[aiohttp.ClientResponse, bytes | None]
"""What a replica answered, with the whole of its body where that is small."""


class Overloaded(DependencyUnavailable):
    """Too much is asked at once; try again in a moment."""


class Owner:
    """The replicas of one service, and the connections to them."""

    def __init__(self, name: str, urls: tuple[str, ...], concurrency: int) -> None:
        self.name = name
        self.replicas = Replicas(urls)
        self.session = _session(DEADLINE_SECONDS)
        self.long_session = _session(LARGE_DEADLINE_SECONDS)
        self._concurrency = concurrency
        self._under_way = 0
        self._breakers: dict[str, Breaker] = {}

    async def ask(self, asked: _Asked) -> _Answer:
        """Ask replicas until one answers.

        Raises:
            DependencyUnavailable: none can be reached, or it gave no answer, or the deadline is over.
            PayloadTooLarge: the body that passes through is.
        """
        tries = 2 if asked.is_read else 1
        while True:
            urls = await self.replicas.in_turn()
            # Where another replica can be asked, time is left for that.
            share = 0.5 if tries > 1 and len(urls) > 1 else 1.0
            for url in urls:
                try:
                    return await self._ask_one(url, asked, asked.left * share)
                except BreakerOpen:
                    continue
                except _NEVER_CONNECTED:
                    log.warning("replica_unreachable", owner=self.name, url=url)
                except (aiohttp.ClientError, TimeoutError) as error:
                    if isinstance(error.__cause__, KoinoniaError):
                        raise error.__cause__ from None  # our own, of the body: aiohttp wraps it
                    log.warning("forwarding_failed", owner=self.name, reason=type(error).__name__)
                    tries -= 1
                    if tries == 0 or asked.left <= 0:
                        raise _away(self) from error
                    break
            else:
                raise _away(self)

    async def _ask_one(self, url: str, asked: _Asked, seconds: float) -> _Answer:
        with self.breaker(url).guard() as call:
            seconds = min(seconds, PROBE_SECONDS) if call.is_probe else seconds
            if seconds <= 0:
                call.excuse()
                raise DeadlineOver
            asked.headers[deadlines.HEADER] = deadlines.header(seconds)
            try:
                answer = await self._answer(url, asked, seconds)
            except (aiohttp.ClientError, TimeoutError) as error:
                if not isinstance(error, _NEVER_CONNECTED) and not isinstance(asked.body, bytes):
                    call.excuse()  # the body passes through: who sends it may have been slow, or wrong, or have left
                raise
            if answer[0].status in _NO_ANSWER:
                call.fail()
            return answer

    async def _answer(self, url: str, asked: _Asked, seconds: float) -> _Answer:
        session = self.long_session if asked.large else self.session
        async with asyncio.timeout(seconds):
            answer = await session.request(
                asked.method,
                URL(url + asked.path, encoded=True),
                data=asked.body or None,
                headers=asked.headers,
                allow_redirects=False,
            )
            return answer, await answer.read() if _is_small(answer) else None

    def breaker(self, url: str) -> Breaker:
        """The switch in front of one replica."""
        if url not in self._breakers:
            if len(self._breakers) >= _BREAKERS_KEPT:
                self._breakers.clear()
            name = f"{self.name} at {URL(url).authority}"
            self._breakers[url] = Breaker(name, open_seconds=OPEN_SECONDS, is_failure=_is_no_answer)
        return self._breakers[url]

    @contextmanager
    def place(self, asked: _Asked) -> Iterator[None]:
        """One of the places for what waits for its answer to begin; reads may take two thirds of them.

        What lasts long takes none: large bodies, watched streams, an answer that its client reads slowly.

        Raises:
            Overloaded: none is free. To queue for one would only make all answers late.
        """
        if self._under_way >= (self._concurrency * 2 // 3 if asked.is_read else self._concurrency):
            metrics.shed_total.add(1, {"service": self.name, "kind": "read" if asked.is_read else "write"})
            raise Overloaded(retry_after_seconds=1)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _is_no_answer(error: BaseException) -> bool:
    return isinstance(error, aiohttp.ClientError | OSError)  # TimeoutError is one


def _session(seconds: float) -> aiohttp.ClientSession:
    """Connections to the replicas of a service, given up after so much silence.

    An unused one is closed here long before a replica that drains would: no request meets its end.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS / 2),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        raise_for_status=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=1.0, sock_read=seconds),
        skip_auto_headers=("User-Agent", "Content-Type", "Accept-Encoding", "Accept"),
    )
    # aiohttp would repeat a DELETE by itself on a connection that closes under it.
    session._retry_connection = False
    return session


class Forwarder:
    """The doors of all routes that other services own.

    Args:
        with_own_phone: a caller, with the phone that they have confirmed.
    """

    def __init__(
        self,
        keys: Keys,
        urls: Mapping[str, tuple[str, ...]],
        concurrency: int,
        *,
        with_own_phone: Callable[[Identity], Awaitable[Identity]],
    ) -> None:
        self._keys = keys
        self._with_own_phone = with_own_phone
        self.owners = {name: Owner(name, replicas, concurrency) for name, replicas in urls.items()}

    def handlers(self) -> Mapping[Endpoint, Raw]:
        return {endpoint: self._door(endpoint) for endpoint in ENDPOINTS if endpoint.owner != "gateway"}

    async def close(self) -> None:
        """Close all connections."""
        for owner in self.owners.values():
            await owner.session.close()
            await owner.long_session.close()

    def _door(self, endpoint: Endpoint) -> Raw:
        owner = self.owners[endpoint.owner]

        async def forward(request: web.Request, caller: Identity | None) -> web.StreamResponse:
            large = endpoint.body_limit > MEBIBYTE
            seconds = LARGE_DEADLINE_SECONDS if large else DEADLINE_SECONDS
            until = asyncio.get_running_loop().time() + seconds
            if endpoint.with_own_phone and caller is not None:
                caller = await self._with_own_phone(caller)
            body = await _body(request, endpoint)
            headers = self._headers(request, caller, body)
            asked = _Asked(request.method, request.rel_url.raw_path_qs, headers, body, until, large)
            with nullcontext() if large else owner.place(asked):
                answer, whole = await owner.ask(asked)
            async with answer:
                return await _pass_on(request, answer, whole)

        return Raw(forward)

    def _headers(self, request: web.Request, caller: Identity | None, body: object) -> CIMultiDict[str]:
        given = request.headers
        headers = CIMultiDict((name, given[name]) for name in _PASSED_ON if name in given)
        headers["X-Request-Id"] = request[REQUEST_ID]
        traceparent = telemetry.current_traceparent()
        if traceparent is not None:
            headers["traceparent"] = traceparent
        if caller is not None:
            headers[HEADER] = sign_identity(self._keys, caller)
        if not isinstance(body, bytes) and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        return headers


async def _body(request: web.Request, endpoint: Endpoint) -> bytes | AsyncIterator[bytes]:
    """A small body is read at once, a large one passes through in pieces."""
    if request.method in SAFE_METHODS or not request.can_read_body:
        return b""
    if endpoint.body_limit <= MEBIBYTE:
        return await read_body(request, endpoint.body_limit)
    return body_pieces(request, endpoint.body_limit)


def _is_small(answer: aiohttp.ClientResponse) -> bool:
    return (answer.content_length or 0) <= WHOLE_BYTES and "Transfer-Encoding" not in answer.headers


def _away(owner: Owner) -> DependencyUnavailable:
    return DependencyUnavailable(f"The {owner.name} service does not answer; try again in a moment.")


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse, whole: bytes | None) -> web.StreamResponse:
    headers = _kept(answer.headers)
    if whole is not None:
        return web.Response(status=answer.status, body=whole or None, headers=headers)
    response = web.StreamResponse(status=answer.status, headers=headers)
    if answer.content_length is not None:
        response.content_length = answer.content_length
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        # The head has gone out already: a cut connection is how the client learns that the answer is not whole.
        log.warning("answer_cut_off", reason=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()
    return response


def _kept(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _DROPPED and name.lower() not in named
    )
