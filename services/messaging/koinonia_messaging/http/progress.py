"""Live progress of one message, as server-sent events for the gateway, which fans it out.

``Last-Event-ID`` is the version that the caller has seen: the stream goes on from there. It ends with the message's
last state, when it has grown old, and when this process drains; the caller comes again where it was not the last state.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import msgspec
from aiohttp import web

from koinonia.api import Endpoint
from koinonia.api.messages import FINAL_STATUSES, MessageProgress
from koinonia.db import Database
from koinonia.errors import AuthenticationFailed, NotFound
from koinonia.security import Identity
from koinonia.web import DRAINING, Raw
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.watching import Watch, Watchers

KEEP_ALIVE_SECONDS = 10.0
MAX_AGE_SECONDS = 600.0  # no longer may somebody go on watching whose login has ended

PROGRESS = Endpoint(
    name="messages.progress",
    method="GET",
    path="/internal/messages/{id}/progress",
    owner="messaging",
    summary="Live progress, for the gateway",
    produces="text/event-stream",
    stream_item=MessageProgress,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the handler needs."""

    database: Database
    watchers: Watchers

    def handlers(self) -> Mapping[Endpoint, Raw]:
        """The handler by endpoint."""
        return {PROGRESS: Raw(self.stream)}

    async def stream(self, request: web.Request, caller: Identity | None) -> web.StreamResponse:
        """The states of a message of the caller's church."""
        if caller is None:
            raise AuthenticationFailed
        present = await self._fetch(caller.church_id, request.match_info["id"])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        seen = _seen(request, present)
        # Who has gone is noticed when something is written.
        with suppress(ConnectionError), self.watchers.watch(present.id, seen) as watch:
            watch.show(present)
            await _send_all(response, watch, present, request.app[DRAINING])
        return response

    async def _fetch(self, church_id: UUID, text: str) -> MessageProgress:
        try:
            message_id = UUID(text)
        except ValueError:
            raise NotFound from None
        async with self.database.tenant(church_id) as tx:
            found = await message_store.list_progress(tx, [message_id])
        if message_id not in found:
            raise NotFound
        return found[message_id]


def _seen(request: web.Request, present: MessageProgress) -> int:
    """The version that the caller has; a final state is told again, so that nobody waits for what is over."""
    text = request.headers.get("Last-Event-ID", "")
    seen = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return 0 if present.status in FINAL_STATUSES else seen


async def _send_all(
    response: web.StreamResponse, watch: Watch, present: MessageProgress, draining: asyncio.Event
) -> None:
    state = present
    now = last_words = asyncio.get_running_loop().time()
    ends_at = now + MAX_AGE_SECONDS
    while now < ends_at and not draining.is_set():
        news = await watch.next(min(1.0, ends_at - now))
        now = asyncio.get_running_loop().time()
        if news is not None:
            state, last_words = news, now
            await response.write(_encode(news))
        elif now - last_words >= KEEP_ALIVE_SECONDS:
            last_words = now
            await response.write(b": still here\n\n")
        if state.status in FINAL_STATUSES:
            return


def _encode(state: MessageProgress) -> bytes:
    return b"id: %d\nevent: progress\ndata: %s\n\n" % (state.version, msgspec.json.encode(state))
