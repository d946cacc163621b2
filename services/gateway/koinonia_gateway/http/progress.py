"""Live progress of a message, to whoever of its church watches."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

import structlog
from aiohttp import web

from koinonia.api import Endpoint, messages
from koinonia.errors import AuthenticationFailed, NotFound, RateLimited, ValidationFailed, is_transient
from koinonia.security.identity import Identity
from koinonia.web import Raw, decoding
from koinonia_gateway.callers import Callers
from koinonia_gateway.progress import Feed, Hub, news_for

log = structlog.get_logger()

HEARTBEAT_SECONDS = 10.0
STREAMS_PER_PRINCIPAL = 20  # at once, of each gateway
_HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


class Progress:
    """The stream's door."""

    def __init__(self, hub: Hub, callers: Callers, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._hub = hub
        self._callers = callers
        self._heartbeat_seconds = heartbeat_seconds
        self._streams: defaultdict[UUID, list[web.Request]] = defaultdict(list)

    def handlers(self) -> Mapping[Endpoint, Raw]:
        return {messages.EVENTS: Raw(self.stream)}

    async def stream(self, request: web.Request, caller: Identity | None) -> web.StreamResponse:
        """Server-sent events until the message is through, the watcher leaves, or may not see it any more."""
        if caller is None:
            raise AuthenticationFailed
        decoding.query(messages.EVENTS, request.query)
        message_id, seen = _message_id(request), _seen(request)
        with self._place(caller.principal_id, request):
            return await self._stream(request, caller, message_id, seen)

    async def _stream(
        self, request: web.Request, caller: Identity, message_id: UUID, seen: int | None
    ) -> web.StreamResponse:
        async with self._hub.watch(caller, message_id) as feed:
            response = web.StreamResponse(headers=_HEADERS)
            await response.prepare(request)
            try:
                await self._send_all(request, response, caller, feed, seen)
            except Exception as error:
                # The head has gone out already, so no error can be answered: the stream ends and is taken up again.
                if not is_transient(error):
                    log.error("progress_failed", exc_info=error)
        return response

    @contextmanager
    def _place(self, principal_id: UUID, request: web.Request) -> Iterator[None]:
        """One of a principal's places. Who has left gives it back at once, though the stream learns of it later.

        Raises:
            RateLimited: all are taken.
        """
        streams = self._streams[principal_id]
        if sum(_is_there(each) for each in streams) >= STREAMS_PER_PRINCIPAL:
            raise RateLimited("Too many streams are open; close one first.")
        streams.append(request)
        try:
            yield
        finally:
            streams.remove(request)
            if not streams:
                self._streams.pop(principal_id, None)

    async def _send_all(
        self, request: web.Request, response: web.StreamResponse, caller: Identity, feed: Feed, seen: int | None
    ) -> None:
        loop = asyncio.get_running_loop()
        said_at = loop.time()
        while True:
            state = news_for(feed, seen)
            silent = loop.time() - said_at >= self._heartbeat_seconds
            if (state is not None or silent) and not await self._callers.is_still(caller, request):
                return
            if state is not None:
                await response.write(state.event)
                seen, said_at = state.version, loop.time()
            elif silent:
                await response.write(b": still here\n\n")
                said_at = loop.time()
            if feed.ended or (state is not None and state.final):
                return
            if news_for(feed, seen) is None:
                await feed.wait(max(0.0, self._heartbeat_seconds - (loop.time() - said_at)))


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _message_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise NotFound from None


def _seen(request: web.Request) -> int | None:
    """The last event that the watcher has; None where it has none of ours."""
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValidationFailed.field("Last-Event-ID", "Must be a whole number")
    return int(text) if len(text) < 10 else None
