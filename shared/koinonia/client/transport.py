"""How the client speaks: a browser's session with cookies and CSRF token, or an API key; errors; repeating safely."""

import asyncio
import io
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp
import msgspec

from koinonia.api import Endpoint, auth, mfa
from koinonia.client.errors import ApiError

T = TypeVar("T")

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=5)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
_SESSION_CHANGES = {auth.LOGIN, auth.REGISTER, auth.LOGOUT, auth.REFRESH, mfa.VERIFY, mfa.CONFIRM, mfa.DISABLE}
"""The routes after which a CSRF token may be another session's."""


class Transport:
    """One caller's connection to the platform.

    A GET, and a request with an idempotency key (each that can have one gets one), is repeated for up to
    ``patience_seconds`` while the platform is away: refused connections, broken ones, 503.
    """

    def __init__(self, url: str, api_key: str | None, patience_seconds: float) -> None:
        self._url = url.rstrip("/")
        self._patience_seconds = patience_seconds
        self._csrf_token: str | None = None
        self._is_browser = api_key is None
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        # "unsafe" takes cookies of a host that is an address, such as 127.0.0.1.
        jar = aiohttp.CookieJar(unsafe=True) if self._is_browser else aiohttp.DummyCookieJar()
        connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=15)
        self._session = aiohttp.ClientSession(headers=headers, cookie_jar=jar, connector=connector)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(
        self,
        endpoint: Endpoint,
        kind: type[T],
        *,
        ids: Mapping[str, object] | None = None,
        query: Mapping[str, object] | None = None,
        body: msgspec.Struct | None = None,
        raw: bytes | None = None,
        content_type: str = "application/json",
        idempotency_key: str | None = None,
    ) -> T:
        """Call an endpoint; ``kind`` is what it answers (``type(None)`` for nothing).

        Raises:
            ApiError: it answered an error.
            aiohttp.ClientError: it did not answer.
        """
        headers = {}
        if raw is not None or body is not None:
            raw = raw if raw is not None else msgspec.json.encode(body)
            headers["Content-Type"] = content_type
        if endpoint.idempotent:
            headers["Idempotency-Key"] = idempotency_key or str(uuid4())
        url = self._url + endpoint.url(**(ids or {}))
        answer = await self._patiently(endpoint, url, _query(query), raw, headers)
        return msgspec.json.decode(answer, type=kind) if answer else msgspec.convert(None, kind)

    @asynccontextmanager
    async def stream(
        self, endpoint: Endpoint, ids: Mapping[str, object], headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A long answer, as it comes."""
        url = self._url + endpoint.url(**ids)
        async with self._session.get(url, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if response.status == 200:
                yield response.content
                return
            refused = await _error(response)
        if not (self._is_browser and refused.code == "AUTH_ERROR" and self._has_cookies()):
            raise refused
        # The access token had run out.
        await self._send(auth.REFRESH, self._url + auth.REFRESH.path, {}, None, {})
        self._csrf_token = None
        async with self._session.get(url, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if response.status != 200:
                raise await _error(response)
            yield response.content

    async def _patiently(
        self, endpoint: Endpoint, url: str, query: dict[str, str], raw: bytes | None, headers: dict[str, str]
    ) -> bytes:
        deadline = time.monotonic() + self._patience_seconds
        repeatable = endpoint.method == "GET" or endpoint.idempotent
        unanswered = False
        for attempt in range(1, 1_000_000):
            try:
                return await self._with_session(endpoint, url, query, raw, headers)
            except (ApiError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                unanswered |= not isinstance(error, ApiError)
                wait = _wait_seconds(error, attempt, unanswered=unanswered)
                if wait is None or not repeatable or time.monotonic() + wait > deadline:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("the deadline comes first")

    async def _with_session(
        self, endpoint: Endpoint, url: str, query: dict[str, str], raw: bytes | None, headers: dict[str, str]
    ) -> bytes:
        """Once more when the session's access token or CSRF token had run out."""
        try:
            return await self._send(endpoint, url, query, raw, headers)
        except ApiError as error:
            if not self._is_browser or endpoint.access == "public":
                raise
            if error.code == "AUTH_ERROR" and self._has_cookies():
                await self._send(auth.REFRESH, self._url + auth.REFRESH.path, {}, None, {})
            elif error.code != "CSRF_ERROR":
                raise
            self._csrf_token = None
        return await self._send(endpoint, url, query, raw, headers)

    async def _send(
        self, endpoint: Endpoint, url: str, query: dict[str, str], raw: bytes | None, headers: dict[str, str]
    ) -> bytes:
        if endpoint.method != "GET" and self._is_browser and self._has_cookies():
            headers = {**headers, "X-CSRF-Token": await self._csrf()}
        # As a file, a large body is sent in parts; the event loop stays free.
        data = io.BytesIO(raw) if raw is not None else None
        async with self._session.request(
            endpoint.method, url, params=query, data=data, headers=headers, timeout=_TIMEOUT
        ) as response:
            if response.status >= 400:
                raise await _error(response)
            answer = await response.read()
        if endpoint in _SESSION_CHANGES:
            self._csrf_token = None
        return answer

    def _has_cookies(self) -> bool:
        return len(self._session.cookie_jar) > 0

    async def _csrf(self) -> str:
        if self._csrf_token is None:
            answer = await self._send(auth.CSRF, self._url + auth.CSRF.path, {}, None, {})
            self._csrf_token = msgspec.json.decode(answer, type=auth.CsrfToken).csrf_token
        return self._csrf_token


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    headers = response.headers
    return ApiError.of(response.status, await response.read(), headers.get("X-Request-Id"), headers.get("Retry-After"))


def _wait_seconds(error: Exception, attempt: int, *, unanswered: bool) -> float | None:
    """How long to wait before the same request again; None: it would end the same.

    ``unanswered``: an attempt broke off, and may be running still, so that a 409 may tell of itself.
    """
    backoff = min(2.0, 0.1 * 2.0 ** min(attempt, 5)) * random.uniform(0.5, 1.0)
    if not isinstance(error, ApiError):
        return backoff
    if error.status not in {429, 503} and not (unanswered and error.status == 409):
        return None
    return max(backoff, error.retry_after_seconds or 0.0)


def _query(values: Mapping[str, Any] | None) -> dict[str, str]:
    given = {name: value for name, value in (values or {}).items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
