"""Connections: what is refused before it is a request, and peers that take no answer.

aiohttp answers what is no HTTP with the offending line, credentials and all, and logs its trace. Here it gets the
answer of any other invalid request, and the log its kind alone. What is HTTP but not to be trusted is refused before
any route is looked for: a header that is not UTF-8 would lose bytes when it is forwarded and so become another one.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from koinonia.errors import KoinoniaError, ValidationFailed
from koinonia.web import failures, rendering
from koinonia.web.observing import Handle, express, request_id_of

log = structlog.get_logger()

STALL_SECONDS = 30.0  # how long a peer may leave an answer unread before it is cut off


class Runner(web.AppRunner):
    """Runs an application behind connections of ours."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Listener(
            _guarded(express(self.app, server.request_handler)),
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )


class _Listener(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_stalled", "_unread")

    def __init__(self, manager: web.Server, **arguments: Any) -> None:
        super().__init__(manager, **arguments)
        self._stalled: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes, when last looked at

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_stall()
        super().connection_lost(exc)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch(self) -> None:
        if self.transport is not None:
            self._unread = self.transport.get_write_buffer_size()
            self._stalled = self._loop.call_later(STALL_SECONDS, self._look, self.transport)

    def _look(self, transport: asyncio.Transport) -> None:
        """Cut off who has read nothing since; who reads slowly may go on."""
        if transport.get_write_buffer_size() < self._unread:
            self._watch()
            return
        log.info("peer_reads_nothing")
        transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no middleware has seen; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer has gone out")
        request_id = request_id_of(request)
        log.info("request_refused", reason=type(exc).__name__, request_id=request_id)
        response = failures.render(_as_known(exc), request_id)
        rendering.add_headers(response, request_id, https=False)
        response.force_close()
        return response


def _as_known(error: BaseException | None) -> KoinoniaError:
    if isinstance(error, LineTooLong):
        return ValidationFailed.field("request", "A line is too long")
    if isinstance(error, HttpProcessingError):
        return ValidationFailed.field("request", "Is not well-formed HTTP")
    return failures.as_known(error or RuntimeError("no reason given"))


def _guarded(handle: Handle) -> Handle:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        _check_head(request)
        return await handle(request)

    return answer


def _check_head(request: web.BaseRequest) -> None:
    """Refuse what parsers and servers read in more than one way.

    Raises:
        ValidationFailed: naming the header.

    Source: RFC 9112, 6.1 (transfer codings, HTTP/1.0); RFC 9110, 10.1.1 (Expect).
    """
    if request.version < HttpVersion10:
        raise ValidationFailed.field("request", "Must be HTTP/1.1")
    for name, value in request.raw_headers:
        if not value.isascii() and not _is_utf8(value):
            raise ValidationFailed.field(name.decode("ascii"), "Must be UTF-8")
    coding = request.headers.get("Transfer-Encoding")
    if coding is not None and (coding.strip().lower() != "chunked" or request.version < HttpVersion11):
        raise ValidationFailed.field("Transfer-Encoding", "Must be chunked, in HTTP/1.1")
    if request.headers.get("Expect", "100-continue").lower() != "100-continue":
        raise ValidationFailed.field("Expect", "Must be 100-continue")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
