"""Events that came before a fact they need: parked in the consumer's table, applied when the fact is there.

A parked row stands in place of the inbox row. Applying it removes the one and writes the other in the transaction of
the handler, so it is applied once, whoever does it:

    1. The event comes, its fact is missing: the row is parked, the event acknowledged.
    2. The fact's handler calls ``release``: the sweeps of this service wake when it has committed.
    3. A sweep applies the row, or finds the fact still missing and leaves it.
    2'. The fact was applied between the handler's look and the parking: nobody is woken, the sweep's clock finds it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from koinonia import metrics
from koinonia.bus.applying import Applier
from koinonia.bus.declare import DELAY_SECONDS, delay_exchange
from koinonia.bus.errors import FactMissing
from koinonia.bus.publisher import EVENT_ID_HEADER, Outgoing, Publisher
from koinonia.bus.waiting import first
from koinonia.db import Database, Transaction, statement
from koinonia.errors import DependencyUnavailable, is_transient
from koinonia.events import Envelope, decode

log = structlog.get_logger()

SWEEP_SECONDS = 3.0
ALARM_SECONDS = 600
_PAGE = 100


def channel_of(service: str) -> str:
    """The NOTIFY channel that wakes the sweeps of a service."""
    return f"parked_{service}"


_PARK = statement(
    "parked.insert",
    """
    INSERT INTO parked (queue, event_id, fact_key, church_id, body)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    """,
)


async def park(database: Database, queue: str, envelope: Envelope[Any], body: bytes, missing: FactMissing) -> None:
    """Store an event until its fact is there."""
    async with database.across_churches() as tx:
        await tx.execute(_PARK, queue, envelope.id, missing.fact_key, envelope.church_id, body)
    metrics.consumed_total.add(1, {"queue": queue, "outcome": "parked"})
    log.info("event_parked", queue=queue, event_id=str(envelope.id), fact_key=missing.fact_key)


_RELEASE = statement(
    "parked.release",
    "SELECT pg_notify($2, '') FROM parked WHERE fact_key = $1 LIMIT 1",
)


async def release(tx: Transaction, fact_key: str) -> None:
    """Say that a fact is there: what is parked for it is tried as soon as this transaction has committed."""
    await tx.fetch_value(_RELEASE, fact_key, channel_of(tx.service))


_FETCH_KEYS = statement(
    "parked.fetch_keys",
    "SELECT DISTINCT fact_key FROM parked WHERE queue = ANY($1::text[]) ORDER BY fact_key",
)
_FETCH_PAGE = statement(
    "parked.fetch_page",
    """
    SELECT queue, event_id, body
    FROM parked
    WHERE fact_key = $1 AND queue = ANY($2::text[]) AND event_id <> ALL($3::uuid[])
    ORDER BY parked_at
    LIMIT $4
    """,
)
_REMOVE = statement("parked.remove", "DELETE FROM parked WHERE queue = $1 AND event_id = $2")
_REKEY = statement("parked.rekey", "UPDATE parked SET fact_key = $3 WHERE queue = $1 AND event_id = $2")
_FETCH_LATE = statement(
    "parked.fetch_late",
    """
    SELECT queue, count(*) AS count, count(*) FILTER (WHERE parked_at < now() - make_interval(secs => $2)) AS late
    FROM parked
    WHERE queue = ANY($1::text[])
    GROUP BY queue
    """,
)


class Sweep:
    """Applies the parked events of a process's queues when it is woken, and every few seconds."""

    def __init__(
        self, database: Database, publisher: Publisher, appliers: Sequence[Applier], *, seconds: float = SWEEP_SECONDS
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._appliers = {applier.queue: applier for applier in appliers}
        self._queues = list(self._appliers)
        self._seconds = seconds
        self.woken = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Sweep until told to stop; a database that is away is waited for."""
        while not stopping.is_set():
            self.woken.clear()
            try:
                await self.sweep()
                await self._report()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("sweep_failed", reason=type(error).__name__)
            await first(stopping, self.woken, timeout_seconds=self._seconds)

    async def sweep(self) -> None:
        """Try what is parked, the oldest of each fact first; a fact that is still missing is tried once."""
        async with self._database.across_churches() as tx:
            keys = [row["fact_key"] for row in await tx.fetch(_FETCH_KEYS, self._queues)]
        for key in keys:
            await self._sweep_fact(key)

    async def _sweep_fact(self, key: str) -> None:
        tried: list[UUID] = []
        while True:
            async with self._database.across_churches() as tx:
                page = await tx.fetch(_FETCH_PAGE, key, self._queues, tried, _PAGE)
            for row in page:
                if not await self._try(row["queue"], row["event_id"], row["body"], key):
                    return
                tried.append(row["event_id"])
            if len(page) < _PAGE:
                return

    async def _try(self, queue: str, event_id: UUID, body: bytes, key: str) -> bool:
        """Apply one parked event; False: its fact is still missing, so that those behind it need not be tried."""
        try:
            await self._appliers[queue].apply([decode(body)], also=lambda tx: self._remove(tx, queue, event_id))
        except FactMissing as missing:
            if missing.fact_key == key:
                return False
            async with self._database.across_churches() as tx:
                await tx.execute(_REKEY, queue, event_id, missing.fact_key)
        except Exception as error:
            if isinstance(error, DependencyUnavailable):
                raise
            if is_transient(error):  # most likely its own: the other facts' events go on
                log.warning("parked_event_deferred", queue=queue, event_id=str(event_id), reason=type(error).__name__)
                return False
            await self._hand_back(queue, event_id, body, error)
        else:
            log.info("event_released", queue=queue, event_id=str(event_id), fact_key=key)
        return True

    async def _remove(self, tx: Transaction, queue: str, event_id: UUID) -> None:
        await tx.execute(_REMOVE, queue, event_id)

    async def _hand_back(self, queue: str, event_id: UUID, body: bytes, error: Exception) -> None:
        """Put an event whose handler failed back into its queue, where retries and dead letters await it."""
        log.warning("parked_event_failed", queue=queue, event_id=str(event_id), reason=type(error).__name__)
        headers = {EVENT_ID_HEADER: str(event_id)}
        # By way of a delay: the default exchange would need a right to write to every queue there is.
        exchange = delay_exchange(DELAY_SECONDS[0])
        await self._publisher.publish([Outgoing(exchange=exchange, routing_key=queue, body=body, headers=headers)])
        async with self._database.across_churches() as tx:
            await tx.execute(_REMOVE, queue, event_id)

    async def _report(self) -> None:
        async with self._database.across_churches() as tx:
            rows = {row["queue"]: row for row in await tx.fetch(_FETCH_LATE, self._queues, ALARM_SECONDS)}
        for queue in self._queues:
            count, late = (rows[queue]["count"], rows[queue]["late"]) if queue in rows else (0, 0)
            metrics.parked_rows.set(count, {"queue": queue})
            if late:
                log.error("events_parked_too_long", queue=queue, events=late, seconds=ALARM_SECONDS)
