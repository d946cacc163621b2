"""What grows by itself and must go again: inbox rows and idempotency keys whose time is over; and a look at partitions.

A service cannot make its tables' partitions, which only the schema's owner may; it says so, long before they end.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from koinonia import clock, metrics
from koinonia.bus import inbox
from koinonia.db import Database, Transaction, statement
from koinonia.errors import is_transient
from koinonia.ids import id_time
from koinonia.life import Life
from koinonia.web import idempotency

log = structlog.get_logger()

BATCH_ROWS = 5000
INTERVAL_SECONDS = 600.0
DAYS_AHEAD = 31
"""Partitions are made three months ahead, every day: when only so many are left, nobody has made any for long."""

Forget = Callable[[Transaction, int], Awaitable[int]]
"""Deletes up to so many rows whose time is over, of all churches; answers how many."""
_FORGETTING: tuple[Forget, ...] = (inbox.forget, idempotency.forget)


async def tidy(database: Database, also: Sequence[Forget] = ()) -> int:
    """Delete what is over, in batches of their own transactions; answers how many rows.

    ``also``: what the service has besides that every service has.
    """
    deleted = 0
    for forget in (*_FORGETTING, *also):
        count = BATCH_ROWS
        while count == BATCH_ROWS:
            async with database.across_churches() as tx:
                count = await forget(tx, BATCH_ROWS)
            deleted += count
    return deleted


_LIST_ENDS = statement(
    "partitions.list_ends",
    r"""
    SELECT
        parent.relname AS name,
        max((regexp_match(pg_get_expr(child.relpartbound, child.oid), 'TO \(''(.*)''\)'))[1])::uuid AS ends_at
    FROM pg_class AS parent
    LEFT JOIN pg_inherits ON pg_inherits.inhparent = parent.oid
    LEFT JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    WHERE parent.relkind = 'p' AND parent.relnamespace = current_schema()::regnamespace
    GROUP BY parent.relname
    """,
)


async def watch_partitions(database: Database) -> dict[str, float]:
    """Say so when a table's partitions end in less than ``DAYS_AHEAD`` days; answers how many days each has ahead.

    Beyond its last partition a table takes no row.
    """
    async with database.across_churches() as tx:
        rows = await tx.fetch(_LIST_ENDS)
    ahead = {row["name"]: _days_until(row["ends_at"]) for row in rows}
    for table, days in ahead.items():
        metrics.partition_days_ahead.set(days, {"table": table})
        if days < DAYS_AHEAD:
            log.error("partitions_end_soon", table=table, days=round(days, 1))
    return ahead


def _days_until(end: UUID | None) -> float:
    return (id_time(end) - clock.now()) / timedelta(days=1) if end is not None else 0.0


async def keep_tidy(database: Database, life: Life, also: Sequence[Forget] = ()) -> None:
    """Tidy and look every ten minutes, until the process stops."""
    while not life.stopping.is_set():
        try:
            await watch_partitions(database)
            await tidy(database, also)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("housekeeping_postponed", reason=type(error).__name__)
        await life.pause(INTERVAL_SECONDS)
