"""A connection of its own that LISTENs: hints that wake the relay and the sweep, which look by the clock as well.

So a notification that is lost, with a connection that dies unnoticed, costs a second and nothing else.
"""

import asyncio
from collections.abc import Mapping

import asyncpg
import structlog

from koinonia.bus.waiting import backoff_seconds, first
from koinonia.db import Database
from koinonia.errors import is_transient

log = structlog.get_logger()

CHECK_SECONDS = 30.0


class Listener:
    """Sets an event for each notification on its channel."""

    def __init__(self, database: Database, wakes: Mapping[str, asyncio.Event]) -> None:
        self._database = database
        self._wakes = wakes

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until told to stop, on a new connection whenever one is lost."""
        failed_tries = 0
        while not stopping.is_set():
            try:
                connection = await asyncpg.connect(self._database.direct_url, timeout=5)
            except Exception as error:
                if not is_transient(error):
                    raise
                failed_tries += 1
                level = log.warning if failed_tries == 1 else log.debug
                level("listener_waits", reason=type(error).__name__, tries=failed_tries)
                await first(stopping, timeout_seconds=backoff_seconds(failed_tries))
                continue
            failed_tries = 0
            await self._listen(connection, stopping)

    async def _listen(self, connection: "asyncpg.Connection[asyncpg.Record]", stopping: asyncio.Event) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            for channel in self._wakes:
                await connection.add_listener(channel, self._wake)
            for wake in self._wakes.values():
                wake.set()  # what was said before is not heard
            while not (lost.is_set() or stopping.is_set()):
                await first(lost, stopping, timeout_seconds=CHECK_SECONDS)
                await connection.fetchval("SELECT 1", timeout=5)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("listener_lost", reason=type(error).__name__)
        finally:
            connection.terminate()

    def _wake(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._wakes[channel].set()
