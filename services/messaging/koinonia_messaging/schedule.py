"""Door: what runs by the clock. Any number of replicas may run the same loops.

Each loop is woken by a bell of its own process and looks once a second besides: for other replicas' work, and for what
a process left that died. A message that fails, by a bug or by its size, waits out its lease while the others go on; a
database that is away ends the round.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from koinonia import clock, telemetry
from koinonia.db import Database
from koinonia.db.database import TRANSACTION_SECONDS
from koinonia.errors import is_transient
from koinonia.life import Life
from koinonia_messaging import broadcasts, recurring
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store import recurring as recurring_store
from koinonia_messaging.store.broadcasts import Leases, Work

log = structlog.get_logger()

CLOCK_SECONDS = 1.0
MESSAGES_AT_ONCE = 20
LEASES = Leases(first_seconds=TRANSACTION_SECONDS, longest_seconds=300.0)


@dataclass(frozen=True, slots=True)
class Bells:
    """What wakes the loops of this process."""

    recurring: asyncio.Event = field(default_factory=asyncio.Event)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    streaming: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The loops of one process."""

    database: Database
    life: Life
    bells: Bells
    leases: Leases = LEASES

    async def recur(self) -> None:
        """Run recurring messages when their time has come, until the process stops."""
        await keep(self.life, self.recurring_round, self.bells.recurring)

    async def ask_for_due(self) -> None:
        """Ask billing for every message whose time has come, until the process stops."""
        await keep(self.life, self.due_round, self.bells.due)

    async def stream(self) -> None:
        """Stream the audiences of authorized messages, a page of each in turn, until the process stops."""
        await keep(self.life, self.streaming_round, self.bells.streaming)

    async def recurring_round(self) -> int:
        """Take the turn of each recurring message whose slot has come; how many."""
        async with self.database.across_churches() as tx:
            places = await recurring_store.claim_due(tx, self.leases, clock.now(), MESSAGES_AT_ONCE)
        done = await self._work_off("recurring_run", places, recurring.run)
        if done:
            self.bells.due.set()
        return done

    async def due_round(self) -> int:
        """Ask for the messages that are due; how many were asked for."""
        async with self.database.across_churches() as tx:
            places = await broadcast_store.claim_due(tx, self.leases, clock.now(), MESSAGES_AT_ONCE)
        return await self._work_off("message_due", places, broadcasts.ask_when_due)

    async def streaming_round(self) -> int:
        """Publish one page of each message that is being streamed; how many pages.

        A lease is for one page: it keeps replicas from doing the same work, and is not what makes it right.
        """
        async with self.database.across_churches() as tx:
            places = await broadcast_store.claim_streaming(tx, self.leases, MESSAGES_AT_ONCE)
        return await self._work_off("message_page", places, broadcasts.stream_page)

    async def _work_off(self, name: str, places: list[Work], work: Callable[..., Awaitable[bool]]) -> int:
        """Do what was claimed, first where nothing has failed yet; how much was done."""
        return sum([await self._work(name, place, work) for place in sorted(places, key=lambda place: place.attempt)])

    async def _work(self, name: str, place: Work, work: Callable[..., Awaitable[bool]]) -> bool:
        with telemetry.work(
            name,
            traceparent=place.traceparent,
            correlation=place.correlation_id,
            attributes={"message_id": str(place.message_id)},
        ):
            try:
                async with self.database.tenant(place.church_id) as tx:
                    return await work(tx, place.message_id)
            except Exception as error:
                if is_away(error):
                    raise
                log.exception(f"{name}_failed", message_id=str(place.message_id), attempt=place.attempt)
                return False


async def keep(life: Life, turn: Callable[[], Awaitable[int]], bell: asyncio.Event) -> None:
    """Take turns until the process stops; after one without work, wait for the bell or the clock."""
    while not life.stopping.is_set():
        done = 0
        try:
            done = await turn()
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("schedule_waits", reason=type(error).__name__)
        if not done:
            await life.pause(CLOCK_SECONDS, bell)


_AWAY_SQLSTATES = frozenset({"25006", "53300"})  # it has become a replica; it takes no more connections
_AWAY_CLASSES = ("08", "57P")  # the connection; the server stops or starts


def is_away(error: Exception) -> bool:
    """Whether the other messages would fail as well, for want of a connection.

    A statement or transaction that took too long, a deadlock, full memory: those are one message's own.
    """
    if isinstance(error, TimeoutError):
        return False
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate in _AWAY_SQLSTATES or sqlstate.startswith(_AWAY_CLASSES)
    return is_transient(error)
