"""Lanes, as far as a church is changed: woken, and told its quiet hours. Claims and a trigger do the rest."""

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.quiet_hours import QuietHours

_WAKE = statement(
    "lanes.wake",
    """
    INSERT INTO lanes (church_id, wake_at)
    VALUES ($1, clock_timestamp())
    ON CONFLICT (church_id) DO UPDATE SET wake_at = least(lanes.wake_at, excluded.wake_at)
    """,
)


async def wake(tx: Transaction) -> None:
    """Lock the church's lane and wake it: before its numbers are changed, as a claim locks them; some may have work."""
    await tx.execute(_WAKE, tx.tenant)


_KEEP_HOURS = statement(
    "lanes.keep_hours",
    """
    INSERT INTO lanes (church_id, wake_at, quiet_timezone, quiet_from, quiet_until)
    VALUES ($1, clock_timestamp(), $2, $3, $4)
    ON CONFLICT (church_id) DO UPDATE
    SET wake_at = least(lanes.wake_at, excluded.wake_at),
        quiet_timezone = excluded.quiet_timezone, quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until
    """,
)


async def keep_hours(tx: Transaction, hours: QuietHours | None) -> None:
    """Keep the church's quiet hours, and wake its lane: one that sleeps until their end looks at once whether it may
    still; None: it has none.
    """
    wall_times = (None, None, None) if hours is None else (hours.timezone, hours.start, hours.until)
    await tx.execute(_KEEP_HOURS, tx.tenant, *wall_times)


def hours_of(row: asyncpg.Record) -> QuietHours | None:
    """The quiet hours that a lane's row tells."""
    if row["quiet_timezone"] is None:
        return None
    return QuietHours(row["quiet_timezone"], row["quiet_from"], row["quiet_until"])
