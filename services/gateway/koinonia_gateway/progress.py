"""Live progress: one reader per watched message at messaging, shared by all who watch it here.

A state is whole, so a watcher that is slow misses those in between and gets the newest. The reader begins with the
first watcher and ends with the last one; where its stream breaks it is taken up again, and the watchers do not notice.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import aiohttp
import msgspec
import structlog

from koinonia import clock
from koinonia.api.messages import FINAL_STATUSES, MessageProgress
from koinonia.errors import DependencyUnavailable, NotFound
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia.security.keys import Keys
from koinonia_gateway.forwarding import Owner

log = structlog.get_logger()

PATIENCE_SECONDS = 30.0  # how long a broken reader tries to go on
_SILENCE_SECONDS = 30.0  # messaging says something every ten
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 2.0
_IDENTITY_LIFE_SECONDS = 30

_DECODER = msgspec.json.Decoder(MessageProgress)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=1.0, sock_read=_SILENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class State:
    """One state of a message, as it is sent on."""

    version: int
    final: bool
    event: bytes


class Feed:
    """What the watchers of one message share."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.watchers = 0
        self.latest: State | None = None
        self.error: Exception | None = None
        self.ended = False
        self.opened: asyncio.Future[None] = loop.create_future()  # done once messaging has answered, or refused
        self._changed: asyncio.Future[None] = loop.create_future()
        self._reader: asyncio.Task[None] | None = None

    def read_by(self, reader: "asyncio.Task[None]") -> None:
        """Let a task fill this feed; if it fails, the streams end and are taken up anew by who watches."""
        self._reader = reader
        reader.add_done_callback(self._reader_done)

    def leave(self) -> None:
        """Nobody watches any more."""
        if self._reader is not None:
            self._reader.cancel()

    def tell(self, state: State) -> None:
        """Hand a state to all who watch."""
        if self.latest is None or state.version >= self.latest.version:
            self.latest = state
            self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Let all streams end."""
        self.ended, self.error = True, error
        if not self.opened.done():
            self.opened.set_result(None)
        self._wake()

    async def wait(self, seconds: float) -> None:
        """Wait for the next change, no longer than so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._changed), seconds)

    def _reader_done(self, reader: "asyncio.Task[None]") -> None:
        if not reader.cancelled() and (error := reader.exception()) is not None:
            log.error("progress_reader_failed", exc_info=error)
            self.end(DependencyUnavailable())

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        if not changed.done():
            changed.set_result(None)


class Hub:
    """All feeds of this gateway."""

    def __init__(self, keys: Keys, messaging: Owner) -> None:
        self._keys = keys
        self._messaging = messaging
        self._feeds: dict[tuple[UUID, UUID], Feed] = {}

    @property
    def feed_count(self) -> int:
        """How many messages are being watched."""
        return len(self._feeds)

    @asynccontextmanager
    async def watch(self, caller: Identity, message_id: UUID) -> AsyncIterator[Feed]:
        """The feed of a message of the caller's church, once its first state is there.

        Raises:
            NotFound: the church has no such message.
            DependencyUnavailable: messaging does not answer.
        """
        key = (caller.church_id, message_id)
        feed = self._feeds.get(key)
        if feed is None or feed.ended:
            feed = self._feeds[key] = Feed()
            feed.read_by(asyncio.create_task(self._read(feed, caller, message_id), name="progress reader"))
        feed.watchers += 1
        try:
            await asyncio.shield(feed.opened)
            if feed.error is not None:
                raise feed.error
            yield feed
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                self._drop(key, feed)

    def close(self) -> None:
        """End all streams: the process drains."""
        for key, feed in list(self._feeds.items()):
            feed.end()
            self._drop(key, feed)

    def _drop(self, key: tuple[UUID, UUID], feed: Feed) -> None:
        if self._feeds.get(key) is feed:
            del self._feeds[key]
        feed.leave()

    async def _read(self, feed: Feed, caller: Identity, message_id: UUID) -> None:
        """Read until the message is through, taking a broken stream up again."""
        loop = asyncio.get_running_loop()
        wait, broken_at = _FIRST_WAIT_SECONDS, None
        while not feed.ended:
            seen = feed.latest
            try:
                await self._read_once(feed, caller, message_id)
            except NotFound as error:
                return feed.end(error)
            except (aiohttp.ClientError, TimeoutError, DependencyUnavailable) as error:
                log.info("progress_broken", message_id=str(message_id), reason=type(error).__name__)
                if not feed.opened.done():
                    return feed.end(DependencyUnavailable())
            else:
                seen = None  # it ended by its age, or because that replica drains
            if feed.latest is not None and feed.latest.final:
                return feed.end()
            if feed.latest is not seen:
                wait, broken_at = _FIRST_WAIT_SECONDS, None
            broken_at = broken_at or loop.time()
            if loop.time() - broken_at > PATIENCE_SECONDS:
                return feed.end()
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT_SECONDS, wait * 2)
        return None

    async def _read_once(self, feed: Feed, caller: Identity, message_id: UUID) -> None:
        async with await self._open(feed, caller, message_id) as answer:
            if answer.status == 404:
                raise NotFound
            if answer.status != 200:
                raise DependencyUnavailable
            if not feed.opened.done():
                feed.opened.set_result(None)
            data: list[bytes] = []
            async for line in answer.content:
                text = line.rstrip(b"\r\n")
                if text.startswith(b"data:"):
                    data.append(text[5:].removeprefix(b" "))
                elif not text and data:
                    feed.tell(_state(b"\n".join(data)))
                    data = []

    async def _open(self, feed: Feed, caller: Identity, message_id: UUID) -> aiohttp.ClientResponse:
        path = f"/internal/messages/{message_id}/progress"
        headers = {HEADER: sign_identity(self._keys, _for_path(caller, path)), "Accept": "text/event-stream"}
        if feed.latest is not None:
            headers["Last-Event-ID"] = str(feed.latest.version)
        for url in await self._messaging.replicas.in_turn():
            with suppress(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                return await self._messaging.long_session.get(url + path, headers=headers, timeout=_TIMEOUT)
        raise DependencyUnavailable


def news_for(feed: Feed, seen: int | None) -> State | None:
    """The newest state, if a watcher that has seen a version lacks it; a last one is told again."""
    latest = feed.latest
    if latest is not None and (seen is None or latest.version > seen or latest.final):
        return latest
    return None


def _state(data: bytes) -> State:
    progress = _DECODER.decode(data)
    event = b"id: %d\nevent: progress\ndata: %s\n\n" % (progress.version, data.replace(b"\n", b""))
    return State(progress.version, progress.status in FINAL_STATUSES, event)


def _for_path(caller: Identity, path: str) -> Identity:
    expires_at = clock.now() + timedelta(seconds=_IDENTITY_LIFE_SECONDS)
    return msgspec.structs.replace(caller, method="GET", path=path, expires_at=expires_at)
