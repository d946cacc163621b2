"""What a person decides on a recipient whose outcome is not known."""

from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.events.common import RecipientStatus
from koinonia_delivery.store.recipients import WORK_CHANNEL

_LOCK_WORK = statement(
    "work.lock",
    "SELECT state FROM work WHERE recipient_id = $1 FOR UPDATE",
)
_LOCK = statement(
    "recipients.lock",
    "SELECT status, branch_id, test FROM recipients WHERE id = $1 AND source_id = $2 FOR UPDATE",
)


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that nobody else changes now."""

    status: RecipientStatus
    is_under_way: bool  # a worker is calling the carrier
    is_test: bool
    branch_id: UUID | None = None


async def lock(tx: Transaction, recipient_id: UUID, message_id: UUID) -> Locked | None:
    """Lock a recipient of a message and its work, in this order; None: there is no such one."""
    state = await tx.fetch_value(_LOCK_WORK, recipient_id)
    row = await tx.fetch_row(_LOCK, recipient_id, message_id)
    if row is None:
        return None
    return Locked(
        status=row["status"], is_under_way=state == "sending", is_test=row["test"], branch_id=row["branch_id"]
    )


_CLOSE = statement(
    "recipients.close",
    """
    WITH before AS (
        SELECT status FROM recipients WHERE id = $1
    ),
    finished AS (
        DELETE FROM work WHERE recipient_id = $1
    ),
    closed AS (
        UPDATE recipients
        SET status = 'unconfirmed', settled_at = coalesce(settled_at, clock_timestamp())
        WHERE id = $1
        RETURNING id, church_id, attempt
    )
    INSERT INTO trail (id, at, what, church_id, was, became, attempt)
    SELECT closed.id, clock_timestamp(), 'closed', closed.church_id, before.status, 'unconfirmed', closed.attempt
    FROM closed
    CROSS JOIN before
    """,
)


async def close(tx: Transaction, recipient_id: UUID) -> None:
    """Stop looking for what became of it; a late receipt may still tell."""
    await tx.execute(_CLOSE, recipient_id)


# It is late, wherever the scan for overdue receipts is: a second copy whose receipt is lost is looked up too. The claim
# forgets when the first copy was accepted; until then its receipt may come, and is not metered anew.
_RESEND = statement(
    "recipients.resend",
    """
    WITH before AS (
        SELECT status FROM recipients WHERE id = $1
    ),
    again AS (
        UPDATE recipients
        SET status = 'queued', settled_at = NULL, error_code = NULL, error_message = NULL
        WHERE id = $1
        RETURNING id, church_id, source_id, number_id, phone_index, kind, segments, attempt, sent_at
    ),
    queued AS (
        INSERT INTO work (
            recipient_id, church_id, source_id, number_id, phone_index, priority, segments, state, due_at, attempt,
            do_not_send_after, is_late
        )
        SELECT
            id, church_id, source_id, number_id, phone_index, 0, segments, 'ready', clock_timestamp(), attempt, $2, true
        FROM again
        ON CONFLICT (recipient_id) DO UPDATE
        SET priority = 0, state = 'ready', due_at = excluded.due_at, leased_until = NULL, resend = true, is_late = true,
            is_held = false,
            attempt = greatest(work.attempt, excluded.attempt), do_not_send_after = excluded.do_not_send_after,
            group_started_at = NULL, sender = NULL, messaging_profile_id = NULL, webhook_url = NULL
    ),
    -- The claim of the second copy forgets when the first was accepted.
    told AS (
        INSERT INTO trail (id, at, what, church_id, was, became, attempt)
        SELECT id, sent_at, 'accepted', church_id, 'sending', 'sent', attempt
        FROM again
        WHERE sent_at IS NOT NULL
        UNION ALL
        SELECT again.id, clock_timestamp(), 'resent', again.church_id, before.status, 'queued', again.attempt
        FROM again
        CROSS JOIN before
        ON CONFLICT DO NOTHING
    )
    SELECT pg_notify($3, '')
    """,
)


async def resend(tx: Transaction, recipient_id: UUID, do_not_send_after: datetime | None = None) -> None:
    """Send it once more, under a new key: a person has decided that a second copy is better than none."""
    await tx.fetch_value(_RESEND, recipient_id, do_not_send_after, WORK_CHANNEL)
