"""Recipients whose fate is open: leases that ended, unknown outcomes to look up, and texts without a last receipt."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.ids import id_floor
from koinonia_delivery.domain.states import Change
from koinonia_delivery.store.claims import REPEAT_HOURS
from koinonia_delivery.store.outcomes import change_of

_REAP = statement(
    "work.reap",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id, work.church_id, work.attempt, work.claimed_at
        FROM work
        WHERE work.state = 'sending' AND work.leased_until < clock_timestamp()
        ORDER BY work.recipient_id
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ),
    changed AS (
        UPDATE recipients
        SET status = 'unknown', error_message = $2
        FROM task  -- row by row, each in its own partition
        WHERE recipients.id = task.recipient_id AND recipients.status = 'sending'
        RETURNING recipients.id, recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id
    ),
    waiting AS (
        UPDATE work
        SET state = 'unknown', leased_until = NULL, due_at = clock_timestamp() + make_interval(secs => $3),
            resend = work.resend AND $4
        FROM task
        WHERE work.recipient_id = task.recipient_id
        RETURNING work.recipient_id, work.due_at
    ),
    told AS (
        INSERT INTO trail (
            id, at, what, church_id, was, became, attempt, began_at, until, error_message
        )
        SELECT
            task.recipient_id, clock_timestamp(), 'lost', task.church_id,
            CASE WHEN changed.id IS NULL THEN 'unknown' ELSE 'sending' END, 'unknown', task.attempt, task.claimed_at,
            waiting.due_at, $2
        FROM task
        JOIN waiting ON waiting.recipient_id = task.recipient_id
        LEFT JOIN changed ON changed.id = task.recipient_id
    )
    SELECT
        church_id, source_id, kind, branch_id, 'sending' AS was, 'unknown' AS became, 0 AS segments,
        false AS newly_accepted, count(*) AS rows
    FROM changed
    GROUP BY church_id, source_id, kind, branch_id
    """,
)


async def reap(tx: Transaction, limit: int, sentence: str, wait_seconds: float, *, resend: bool) -> list[Change]:
    """Make rows unknown whose worker let its lease end: its call may have begun."""
    return [change_of(row) for row in await tx.fetch(_REAP, limit, sentence, wait_seconds, resend)]


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient to look up at the carrier."""

    recipient_id: UUID
    church_id: UUID
    state: Literal["unknown", "overdue"]
    attempt: int
    phone_ciphertext: bytes
    carrier_id: str | None
    sender: str | None
    webhook_url: str | None
    group_started_at: datetime | None
    age_seconds: float  # since the first attempt, or since it was sent


_TAKE = statement(
    "work.take_doubts",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id
        FROM work
        WHERE work.state IN ('unknown', 'overdue')
            AND work.due_at <= clock_timestamp()
            AND (
                work.state = 'overdue'
                OR NOT work.resend
                OR NOT $4
                OR work.group_started_at <= clock_timestamp() - make_interval(hours => $3)
            )
        ORDER BY work.due_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ),
    leased AS (
        UPDATE work
        SET due_at = clock_timestamp()
            + greatest(make_interval(secs => $2), (clock_timestamp() - work.group_started_at) / 4)
        FROM task
        WHERE work.recipient_id = task.recipient_id
        RETURNING work.*
    )
    SELECT
        leased.recipient_id, leased.church_id, leased.state, leased.attempt, recipients.phone_ciphertext,
        recipients.carrier_id, leased.sender, leased.webhook_url, leased.group_started_at,
        extract(
            epoch FROM clock_timestamp() - coalesce(leased.group_started_at, recipients.sent_at)
        )::float8 AS age_seconds
    FROM leased
    JOIN recipients ON recipients.id = leased.recipient_id
    """,
)


async def take(tx: Transaction, limit: int, wait_seconds: float, *, resend: bool) -> list[Doubt]:
    """Recipients to look up now; each comes again after a wait that grows with its age.

    ``resend``: not those that are sent again instead.
    """
    return [
        Doubt(
            recipient_id=row["recipient_id"],
            church_id=row["church_id"],
            state=row["state"],
            attempt=row["attempt"],
            phone_ciphertext=row["phone_ciphertext"],
            carrier_id=row["carrier_id"],
            sender=row["sender"],
            webhook_url=row["webhook_url"],
            group_started_at=row["group_started_at"],
            age_seconds=row["age_seconds"],
        )
        for row in await tx.fetch(_TAKE, limit, wait_seconds, int(REPEAT_HOURS), resend)
    ]


_GIVE_UP = statement(
    "recipients.give_up",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id, work.attempt
        FROM work
        JOIN unnest($1::uuid[], $2::text[], $3::int[]) AS doubt (id, state, attempt)
            ON doubt.id = work.recipient_id AND doubt.state = work.state AND doubt.attempt = work.attempt
        ORDER BY work.recipient_id
        FOR UPDATE OF work
    ),
    before AS MATERIALIZED (
        SELECT recipients.id, recipients.status
        FROM task
        JOIN recipients ON recipients.id = task.recipient_id
        WHERE recipients.status IN ('sent', 'unknown')
        ORDER BY recipients.id
        FOR UPDATE OF recipients
    ),
    changed AS (
        UPDATE recipients
        SET status = 'unconfirmed', settled_at = clock_timestamp(), error_message = $4
        FROM before
        WHERE recipients.id = before.id
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id,
            before.status AS was, recipients.settled_at
    ),
    finished AS (
        DELETE FROM work USING task WHERE work.recipient_id = task.recipient_id
    ),
    told AS (
        INSERT INTO trail (id, at, what, church_id, was, became, attempt)
        SELECT changed.id, changed.settled_at, 'given_up', changed.church_id, changed.was, 'unconfirmed', task.attempt
        FROM changed
        JOIN task ON task.recipient_id = changed.id
    )
    SELECT
        church_id, source_id, kind, branch_id, was, 'unconfirmed' AS became, 0 AS segments, false AS newly_accepted,
        count(*) AS rows
    FROM changed
    GROUP BY church_id, source_id, kind, branch_id, was
    """,
)


async def give_up(tx: Transaction, doubts: Sequence[Doubt], sentence: str) -> list[Change]:
    """Close as unconfirmed what nobody can tell; a receipt that comes later still may."""
    rows = await tx.fetch(
        _GIVE_UP,
        [doubt.recipient_id for doubt in doubts],
        [doubt.state for doubt in doubts],
        [doubt.attempt for doubt in doubts],
        sentence,
    )
    return [change_of(row) for row in rows]


# Rows that are still to be sent are marked, so that they stay here as overdue once they are. One whose status says so,
# but whose work is gone, was settled while this statement began: the scan stops before it and sees it next time.
_SCAN = statement(
    "overdue.scan",
    """
    WITH position AS MATERIALIZED (
        SELECT scanned_to FROM overdue_scan FOR UPDATE
    ),
    page AS MATERIALIZED (
        SELECT
            recipients.id, recipients.church_id, recipients.source_id, recipients.number_id, recipients.phone_index,
            recipients.segments, recipients.attempt, recipients.status, recipients.sent_at, recipients.test
        FROM recipients
        WHERE recipients.id > (SELECT position.scanned_to FROM position) AND recipients.id < $1
        ORDER BY recipients.id
        LIMIT $2
    ),
    overdue AS (
        INSERT INTO work (
            recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at, attempt
        )
        SELECT
            page.id, page.church_id, page.source_id, page.number_id, page.phone_index, 1, page.segments, 'overdue',
            page.sent_at + make_interval(secs => $3), page.attempt
        FROM page
        WHERE page.status = 'sent' AND NOT page.test  -- of a test the carrier knows nothing
        ORDER BY page.id
        ON CONFLICT (recipient_id) DO NOTHING
    ),
    late AS (
        UPDATE work
        SET is_late = true
        FROM page
        WHERE work.recipient_id = page.id AND page.status IN ('queued', 'sending', 'unknown')
        RETURNING work.recipient_id
    ),
    doubtful AS (
        SELECT page.id
        FROM page
        WHERE page.status IN ('queued', 'sending', 'unknown')
            AND NOT page.test
            AND page.id NOT IN (SELECT late.recipient_id FROM late)
        ORDER BY page.id
        LIMIT 1
    ),
    reached AS MATERIALIZED (
        SELECT page.id
        FROM page
        WHERE NOT EXISTS (SELECT FROM doubtful WHERE doubtful.id <= page.id)
        ORDER BY page.id DESC
        LIMIT 1
    ),
    moved AS (
        UPDATE overdue_scan SET scanned_to = reached.id FROM reached
    )
    SELECT count(*) FROM reached
    """,
)


async def scan_overdue(tx: Transaction, before: datetime, limit: int, deadline_seconds: float) -> bool:
    """Look at the next recipients made before a time, each once, and note those that still have no last receipt.

    Answers whether there may be more.
    """
    return bool(await tx.fetch_value(_SCAN, id_floor(before), limit, deadline_seconds))
