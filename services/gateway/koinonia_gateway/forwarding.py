"""Forwarding: a request goes to the service that owns its path, under our signed word of who calls.

What a client says of itself (cookies, its key, an identity header) stays here; only the headers below go on. A
connection that cannot be made goes to the next replica, whatever the method: nothing was sent. After that a request
without an effect is tried once more, any other is not: whether it was carried out is not known.
"""

from collections.abc import AsyncIterator, Mapping

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from koinonia import telemetry
from koinonia.api import ENDPOINTS, Endpoint
from koinonia.api.endpoint import MEBIBYTE
from koinonia.errors import DependencyUnavailable, KoinoniaError
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia.security.keys import Keys
from koinonia.web import REQUEST_ID, Raw, body_pieces, read_body
from koinonia.web.server import IDLE_SECONDS
from koinonia_gateway.domain.origins import SAFE_METHODS
from koinonia_gateway.replicas import Replicas

log = structlog.get_logger()

DEADLINE_SECONDS = 30.0
LARGE_DEADLINE_SECONDS = 150.0
WHOLE_BYTES = 256 * 1024  # an answer up to this size is passed on in one piece

# Refused or not made in time: certainly nothing was sent.
_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
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


class Owner:
    """The replicas of one service, and the connections to them."""

    def __init__(self, name: str, urls: tuple[str, ...]) -> None:
        self.name = name
        self.replicas = Replicas(urls)
        self.session = _session(connections=200, seconds=DEADLINE_SECONDS)
        # Streams and large bodies last long: two hundred of them must not keep everybody else waiting.
        self.long_session = _session(connections=0, seconds=LARGE_DEADLINE_SECONDS)


def _session(*, connections: int, seconds: float) -> aiohttp.ClientSession:
    """Connections to the replicas of a service, so many at once; 0: any number.

    An unused one is closed here long before a replica that drains would: no request meets its end.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=IDLE_SECONDS / 2),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        raise_for_status=False,
        timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=1.0),
        skip_auto_headers=("User-Agent", "Content-Type", "Accept-Encoding", "Accept"),
    )
    # aiohttp would repeat a DELETE by itself on a connection that closes under it.
    session._retry_connection = False
    return session


class Forwarder:
    """The doors of all routes that other services own."""

    def __init__(self, keys: Keys, urls: Mapping[str, tuple[str, ...]]) -> None:
        self._keys = keys
        self.owners = {name: Owner(name, replicas) for name, replicas in urls.items()}

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
            body = await _body(request, endpoint)
            headers = self._headers(request, caller, body)
            large = endpoint.body_limit > MEBIBYTE
            async with await _send(owner, request, headers, body, large=large) as answer:
                return await _pass_on(request, answer)

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


async def _send(
    owner: Owner,
    request: web.Request,
    headers: CIMultiDict[str],
    body: bytes | AsyncIterator[bytes],
    *,
    large: bool,
) -> aiohttp.ClientResponse:
    """The answer of a replica.

    Raises:
        DependencyUnavailable: none can be reached, or it gave no answer.
        PayloadTooLarge: the body that passes through is.
    """
    path = request.rel_url.raw_path_qs
    session = owner.long_session if large else owner.session
    tries = 2 if request.method in SAFE_METHODS else 1
    while True:
        for url in await owner.replicas.in_turn():
            try:
                return await session.request(
                    request.method,
                    URL(url + path, encoded=True),
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                )
            except _NEVER_CONNECTED:
                log.warning("replica_unreachable", owner=owner.name, url=url)
            except (aiohttp.ClientError, TimeoutError) as error:
                if isinstance(error.__cause__, KoinoniaError):
                    raise error.__cause__ from None  # our own, of the body: aiohttp wraps it
                log.warning("forwarding_failed", owner=owner.name, reason=type(error).__name__)
                tries -= 1
                if tries == 0 or isinstance(error, TimeoutError):
                    raise _away(owner) from error
                break
        else:
            raise _away(owner)


def _away(owner: Owner) -> DependencyUnavailable:
    return DependencyUnavailable(f"The {owner.name} service does not answer; try again in a moment.")


async def _pass_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = _kept(answer.headers)
    if (answer.content_length or 0) <= WHOLE_BYTES and "Transfer-Encoding" not in answer.headers:
        try:
            whole = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DependencyUnavailable from error
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
