"""POSTs over kept connections for which only the status of the answer counts.

Webhooks are most of the simulated carrier's work, and a general HTTP client costs several times what this does. Answers
are read as far as needed: one without a Content-Length ends its connection.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import cast

_URL = re.compile(r"(https?)://(\[[^\]/]+\]|[^/:?#@]+)(?::([0-9]{1,5}))?([/?][^#]*)?(?:#.*)?", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close *\r\n", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x21-\x7e]")
_MAX_HEAD_BYTES = 65_536

_Origin = tuple[str, str, int]


class Poster:
    """Keeps its connections per origin; how many there are is up to the number of its callers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """POST, and return the status.

        Raises:
            ValueError: the URL is none of http or https.
            OSError: no connection, or no answer.
        """
        origin, target = _split(url)
        request = self._request(origin, target, headers, body)
        idle = self._idle.setdefault(origin, [])
        while idle:
            connection = idle.pop()
            try:
                return await self._ask(connection, idle, request)
            except ConnectionError:
                continue  # the other side had closed it while it was idle
        return await self._ask(await self._connect(origin), idle, request)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            connection.abort()

    async def _connect(self, origin: _Origin) -> "_Connection":
        scheme, host, port = origin
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._open), host, port, ssl=True if scheme == "https" else None
        )
        return connection

    async def _ask(self, connection: "_Connection", idle: list["_Connection"], request: bytes) -> int:
        try:
            status = await connection.ask(request)
        except BaseException:  # a time-out too: what comes next on it would be the late answer
            connection.abort()
            raise
        if connection.reusable:
            idle.append(connection)
        else:
            connection.abort()
        return status

    def _request(self, origin: _Origin, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [f"POST {target} HTTP/1.1", f"Host: {origin[1]}:{origin[2]}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*self._headers.items(), *headers.items())]
        return "\r\n".join([*lines, "\r\n"]).encode("ascii") + body


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, open_connections: set["_Connection"]) -> None:
        self.reusable = True
        self._open = open_connections
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request; the status of its answer."""
        if self._transport is None or not self.reusable:
            raise ConnectionResetError("the connection is closed")
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of this class
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 and len(self._received) < _MAX_HEAD_BYTES:
            return
        head = self._received[: end + 2]
        length = _LENGTH.search(head)
        if length is not None and len(self._received) < end + 4 + int(length.group(1)):
            return
        self._finish(head, keep=length is not None and _CLOSE.search(head) is None)

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._open.discard(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection was closed before the answer"))

    def _finish(self, head: bytes, *, keep: bool) -> None:
        """Hand over the status; what is no HTTP is no answer."""
        self.reusable = keep
        if self._answer is None or self._answer.done():
            self.reusable = False
        elif head.startswith(b"HTTP/1.") and head[9:12].isdigit():
            self._answer.set_result(int(head[9:12]))
        else:
            self.reusable = False
            self._answer.set_exception(ConnectionError("the answer is not HTTP"))


def _split(url: str) -> tuple[_Origin, str]:
    match = _URL.fullmatch(url)
    if match is None or _UNSAFE.search(url):
        raise ValueError("not an http or https URL")
    scheme, host, port, target = match.groups()
    scheme = scheme.lower()
    if not target:
        target = "/"
    elif target.startswith("?"):
        target = f"/{target}"
    return (scheme, host.strip("[]"), int(port or (443 if scheme == "https" else 80))), target
