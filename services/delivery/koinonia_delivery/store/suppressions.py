"""Who must not be texted: holds at once, suppressions as compliance answers, and how fresh this knowledge is.

These statements run across churches, because markers and backlogs are no church's; every row names its church.
"""

from datetime import datetime
from uuid import UUID

from koinonia.db import Transaction, statement

_LOCK_CHURCH = statement(
    "churches.lock_claims",
    "SELECT pg_advisory_xact_lock(hashtextextended('delivery.church.' || $1, 0))",
)


async def lock_claims(tx: Transaction, church_id: UUID) -> None:
    """Wait for this church's claims that are under way, and let none begin until this transaction has committed."""
    await tx.execute(_LOCK_CHURCH, str(church_id))


# A text that compliance has answered already, or one that it dated before an answered one, is stored as settled.
_HOLD = statement(
    "holds.insert",
    """
    INSERT INTO holds (church_id, inbound_event_id, phone_index, occurred_at, settled_at)
    SELECT
        $1, $2, $3, $4,
        CASE WHEN EXISTS (
            SELECT
            FROM suppressions
            WHERE suppressions.church_id = $1 AND suppressions.phone_index = $3 AND suppressions.answered_until > $4
        ) THEN clock_timestamp() END
    ON CONFLICT (church_id, inbound_event_id) DO NOTHING
    """,
)


async def hold(
    tx: Transaction, church_id: UUID, inbound_event_id: UUID, phone_index: bytes, occurred_at: datetime
) -> None:
    """Send this person nothing until compliance has answered this text, or one that the carrier dated later."""
    await tx.execute(_HOLD, church_id, inbound_event_id, phone_index, occurred_at)


_ANSWER = statement(
    "suppressions.answer",
    """
    WITH answered AS (
        INSERT INTO suppressions AS known (church_id, phone_index, suppressed, occurred_at, version, answered_until)
        VALUES ($1, $2, $3, $4, $5, CASE WHEN $6::uuid IS NOT NULL THEN $4::timestamptz END)
        ON CONFLICT (church_id, phone_index) DO UPDATE
        SET suppressed = CASE
                WHEN excluded.occurred_at > known.occurred_at THEN excluded.suppressed
                WHEN excluded.occurred_at = known.occurred_at THEN known.suppressed OR excluded.suppressed
                ELSE known.suppressed
            END,
            occurred_at = greatest(known.occurred_at, excluded.occurred_at),
            version = greatest(known.version, excluded.version),
            answered_until = greatest(known.answered_until, excluded.answered_until)
    ),
    settled AS (
        UPDATE holds
        SET settled_at = clock_timestamp()
        WHERE holds.church_id = $1
            AND holds.phone_index = $2
            AND holds.settled_at IS NULL
            AND $6::uuid IS NOT NULL
            AND holds.inbound_event_id <> $6
            AND holds.occurred_at < $4
    )
    INSERT INTO holds (church_id, inbound_event_id, phone_index, occurred_at, settled_at)
    SELECT $1, $6, $2, $4, clock_timestamp()
    WHERE $6::uuid IS NOT NULL
    ON CONFLICT (church_id, inbound_event_id) DO UPDATE
    SET settled_at = coalesce(holds.settled_at, excluded.settled_at)
    """,
)


async def answer(
    tx: Transaction,
    church_id: UUID,
    phone_index: bytes,
    *,
    suppressed: bool,
    occurred_at: datetime,
    version: int,
    inbound_event_id: UUID | None,
) -> None:
    """Apply what compliance says. The later act wins, an opt-out on a tie; the hold that it names is settled, and those
    of texts that the carrier dated earlier. The tombstone of the named one meets its text if that comes later.
    """
    await tx.execute(_ANSWER, church_id, phone_index, suppressed, occurred_at, version, inbound_event_id)


_IS_ANSWERED = statement(
    "holds.is_answered",
    """
    SELECT
        NOT EXISTS (
            SELECT FROM suppressions WHERE church_id = $1 AND phone_index = $3 AND suppressed
        )
        OR EXISTS (
            SELECT FROM holds WHERE church_id = $1 AND inbound_event_id = $2 AND settled_at IS NOT NULL
        )
    """,
)


async def is_answered(tx: Transaction, inbound_event_id: UUID, phone_index: bytes) -> bool:
    """Whether what we know of this person takes compliance's answer to that text into account, or need not."""
    return bool(await tx.fetch_value(_IS_ANSWERED, tx.tenant, inbound_event_id, phone_index))


_MARK = statement(
    "freshness.mark",
    "UPDATE freshness SET marker_sent_at = greatest(marker_sent_at, $1)",
)


async def note_marker(tx: Transaction, sent_at: datetime) -> None:
    """A marker has come back: all that was in the hold queue before it has been applied."""
    await tx.execute(_MARK, sent_at)


_REPORT = statement(
    "freshness.report_backlog",
    """
    UPDATE freshness
    SET backlog_oldest_at = $2, backlog_reported_at = $1
    WHERE backlog_reported_at <= $1
    """,
)


async def note_backlog(tx: Transaction, reported_at: datetime, oldest_at: datetime | None) -> None:
    """The gateways' outbox holds inbound texts since ``oldest_at``, or none; an older report changes nothing."""
    await tx.execute(_REPORT, reported_at, oldest_at)


_NOW = statement("freshness.now", "SELECT clock_timestamp()")


async def database_time(tx: Transaction) -> datetime:
    """The time by the database's clock."""
    now: datetime = await tx.fetch_value(_NOW)
    return now


_FORGET = statement(
    "holds.delete_settled",
    """
    DELETE FROM holds
    WHERE (church_id, inbound_event_id) IN (
        SELECT church_id, inbound_event_id
        FROM holds
        WHERE settled_at < clock_timestamp() - make_interval(days => $1)
        ORDER BY settled_at
        LIMIT 5000
    )
    """,
)


async def forget_settled(tx: Transaction, days: int) -> int:
    """Delete tombstones whose texts nobody can replay any more."""
    return await tx.execute(_FORGET, days)
