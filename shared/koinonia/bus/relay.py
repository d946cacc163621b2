"""The way from the outbox to the broker: publish, wait for the confirms, delete what is confirmed, commit.

A row leaves the outbox only when the broker has it. A relay that dies between confirm and commit publishes again, so
every event arrives at least once; consumers' inboxes make that once. Replicas share the work by SKIP LOCKED.

What the broker does not take, because no queue is bound, a queue refuses, a right is missing or it is too large, stays
and holds up nothing else: its type rests for a while, longer each time, and an error is logged each time.
"""

import asyncio
from collections import Counter

import asyncpg
import structlog

from koinonia import metrics
from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.publisher import EVENT_ID_HEADER, Outgoing, Publisher
from koinonia.bus.waiting import backoff_seconds, first
from koinonia.db import Database, Transaction, statement
from koinonia.errors import is_transient
from koinonia.security.redaction import describe

log = structlog.get_logger()

BATCH_SIZE = 100
CLOCK_SECONDS = 1.0
LAG_SECONDS = 5.0
RESTING_LIMIT_SECONDS = 60.0

_CLAIM = statement(
    "outbox.claim",
    """
    SELECT id, type, body
    FROM outbox
    WHERE type <> ALL($1::text[])
    ORDER BY id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
    """,
)
_DELETE = statement("outbox.delete", "DELETE FROM outbox WHERE id = ANY($1::uuid[])")
_FETCH_LAG = statement(
    "outbox.fetch_lag",
    "SELECT count(*) AS count, extract(epoch FROM now() - min(created_at))::float8 AS oldest_seconds FROM outbox",
)


class Relay:
    """Publishes one service's outbox."""

    def __init__(self, database: Database, publisher: Publisher, *, clock_seconds: float = CLOCK_SECONDS) -> None:
        self._database = database
        self._publisher = publisher
        self._clock_seconds = clock_seconds
        self._failures: Counter[str] = Counter()  # event types that the broker did not take, in a row
        self._resting_until: dict[str, float] = {}
        self.woken = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Publish until told to stop; a database or broker that is away is waited for."""
        failed_tries = 0
        while not stopping.is_set():
            self.woken.clear()
            try:
                while await self.relay_batch() == BATCH_SIZE and not stopping.is_set():
                    pass
            except Exception as error:
                if not is_transient(error):
                    raise
                failed_tries += 1
                # That the broker is away is told by the link, and a database that is, once.
                is_news = failed_tries == 1 and not isinstance(error, BrokerUnavailable)
                level = log.warning if is_news else log.debug
                level("relay_waits", reason=type(error).__name__, tries=failed_tries)
                await first(stopping, timeout_seconds=backoff_seconds(failed_tries))
            else:
                failed_tries = 0
                await first(stopping, self.woken, timeout_seconds=self._clock_seconds)

    async def relay_batch(self) -> int:
        """Publish and delete up to a hundred events, the oldest first; returns how many were taken up.

        Raises:
            BrokerUnavailable: for some or all no confirm came; those stay.
        """
        async with self._database.across_churches(timeout_seconds=30) as tx:
            rows = await tx.fetch(_CLAIM, self._resting_types(), BATCH_SIZE)
            if not rows:
                return 0
            outcomes = await self._publisher.publish_each([_outgoing(row) for row in rows])
            await self._settle(tx, rows, outcomes)
        if any(isinstance(outcome, BrokerUnavailable) for outcome in outcomes):
            raise BrokerUnavailable("the broker did not confirm in time")
        return len(rows)

    async def _settle(self, tx: Transaction, rows: list[asyncpg.Record], outcomes: list[Exception | None]) -> None:
        confirmed = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]
        await tx.execute(_DELETE, [row["id"] for row in confirmed])
        for event_type in {row["type"] for row in confirmed}:
            self._failures.pop(event_type, None)
        refused = {
            row["type"]: outcome
            for row, outcome in zip(rows, outcomes, strict=True)
            if outcome is not None and not isinstance(outcome, BrokerUnavailable)
        }
        for event_type, outcome in refused.items():
            self._rest(event_type, outcome)

    def _rest(self, event_type: str, reason: Exception) -> None:
        self._failures[event_type] += 1
        seconds = backoff_seconds(self._failures[event_type], base=1.0, limit=RESTING_LIMIT_SECONDS)
        self._resting_until[event_type] = asyncio.get_running_loop().time() + seconds
        log.error("event_not_taken", type=event_type, reason=describe(reason), tries=self._failures[event_type])

    def _resting_types(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        self._resting_until = {each: until for each, until in self._resting_until.items() if until > now}
        return list(self._resting_until)

    async def watch_lag(self, stopping: asyncio.Event) -> None:
        """Measure how many events wait here, how long the oldest has, and how long ago the broker took one."""
        while not stopping.is_set():
            if (confirmed_at := self._publisher.last_confirm_at) is not None:
                metrics.last_confirm_age_seconds.set(asyncio.get_running_loop().time() - confirmed_at)
            try:
                async with self._database.across_churches() as tx:
                    lag = await tx.fetch_row(_FETCH_LAG)
            except Exception as error:
                if not is_transient(error):
                    raise
                lag = None
            if lag is not None:
                metrics.outbox_rows.set(lag["count"])
                metrics.outbox_oldest_seconds.set(lag["oldest_seconds"] or 0.0)
            await first(stopping, timeout_seconds=LAG_SECONDS)


def _outgoing(row: asyncpg.Record) -> Outgoing:
    return Outgoing(routing_key=row["type"], body=row["body"], headers={EVENT_ID_HEADER: str(row["id"])})
