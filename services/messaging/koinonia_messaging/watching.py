"""Live progress: any number of watchers of any number of messages cost one short statement per look.

The looks happen only while somebody watches. A watcher sees the newest state and may miss states between two looks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from koinonia.api.messages import MessageProgress
from koinonia.db import Database
from koinonia.errors import is_transient
from koinonia.life import Life
from koinonia_messaging.store import messages as message_store

log = structlog.get_logger()

LOOK_SECONDS = 0.2


class Watch:
    """One watcher's view of a message."""

    def __init__(self, seen: int) -> None:
        self._seen = seen
        self._newest: MessageProgress | None = None
        self._news = asyncio.Event()

    def show(self, progress: MessageProgress) -> None:
        """Hand the watcher a state; one that is not newer than the last is passed over."""
        if progress.version > self._seen:
            self._seen = progress.version
            self._newest = progress
            self._news.set()

    async def next(self, seconds: float) -> MessageProgress | None:
        """The next new state, or None when none came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return None
        self._news.clear()
        return self._newest


class Watchers:
    """Everybody who watches a message through this process."""

    def __init__(self, database: Database, life: Life) -> None:
        self._database = database
        self._life = life
        self._watches: dict[UUID, set[Watch]] = {}
        self._somebody = asyncio.Event()

    @contextmanager
    def watch(self, message_id: UUID, seen: int) -> Iterator[Watch]:
        """Watch a message from after version ``seen`` on; its church was checked by the caller."""
        watch = Watch(seen)
        self._watches.setdefault(message_id, set()).add(watch)
        self._somebody.set()
        try:
            yield watch
        finally:
            self._watches[message_id].discard(watch)
            if not self._watches[message_id]:
                del self._watches[message_id]

    async def run(self) -> None:
        """Look at the watched messages, until the process stops."""
        while not self._life.stopping.is_set():
            if self._watches:
                await self._look()
                await self._life.pause(LOOK_SECONDS)
            else:
                await self._life.pause(3600.0, self._somebody)

    async def _look(self) -> None:
        try:
            async with self._database.across_churches() as tx:
                states = await message_store.list_progress(tx, list(self._watches))
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("watching_waits", reason=type(error).__name__)
            return
        for message_id, state in states.items():
            for watch in self._watches.get(message_id, ()):
                watch.show(state)
