"""Messages that wait for a second admin, or were declined. Each write names the state that it leaves."""

from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import Target, Text
from koinonia_messaging.store.broadcasts import target_of, text_of


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A message about which somebody decides."""

    status: str
    text: Text
    target: Target
    scheduled_at: datetime | None
    requested_by: UUID | None
    is_approved: bool
    is_rejected: bool
    test: bool
    media_urls: list[str]
    is_run: bool  # of a recurring message
    created_at: datetime
    do_not_send_after: datetime | None
    is_urgent: bool


_LOCK = statement("messages.lock", "SELECT * FROM messages WHERE id = $1 FOR UPDATE")


async def lock(tx: Transaction, message_id: UUID) -> Waiting | None:
    """A message; who else decides about it waits until the transaction ends."""
    row = await tx.fetch_row(_LOCK, message_id)
    if row is None:
        return None
    return Waiting(
        status=row["status"],
        text=text_of(row),
        target=target_of(row),
        scheduled_at=row["scheduled_at"],
        requested_by=row["requested_by"],
        is_approved=row["approved_at"] is not None,
        is_rejected=row["rejection_reason"] is not None,
        test=row["test"],
        media_urls=row["media_urls"],
        is_run=row["recurring_id"] is not None,
        created_at=row["created_at"],
        do_not_send_after=row["do_not_send_after"],
        is_urgent=row["urgent_reason"] is not None,
    )


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """When a message that waited may go, and to whom as counted then."""

    at: datetime
    undo_until: datetime | None
    recipients: int
    people: int  # those of them who can be texted
    digest: int
    segment_bound: int


_HOLD = statement(
    "messages.hold",
    """
    UPDATE messages
    SET status = 'awaiting_approval',
        undo_until = NULL,
        approved_by = NULL,
        approved_at = NULL,
        approved_people = NULL,
        total_recipients = $2,
        leased_until = '-infinity',
        attempt = 0,
        revision = revision + 1
    WHERE id = $1 AND status IN ('accepted', 'scheduled') AND NOT awaiting_answer
    RETURNING requested_by
    """,
)


async def hold(tx: Transaction, message_id: UUID, recipients: int) -> UUID | None:
    """Keep a due message back; who asked for it."""
    requested_by: UUID | None = await tx.fetch_value(_HOLD, message_id, recipients)
    return requested_by


_APPROVE = statement(
    "messages.approve",
    """
    UPDATE messages
    SET status = CASE WHEN scheduled_at > $3 THEN 'scheduled' ELSE 'accepted' END,
        approved_by = $2,
        approved_at = $3,
        undo_until = $4,
        due_at = greatest(scheduled_at, $3, $4),
        total_recipients = $5,
        segment_bound = $6,
        approved_people = $7,
        audience_digest = $8,
        revision = revision + 1
    WHERE id = $1 AND status = 'awaiting_approval'
    """,
)


async def approve(tx: Transaction, message_id: UUID, approver_id: UUID, turn: Turn) -> None:
    """Let a waiting message become due."""
    values = (turn.at, turn.undo_until, turn.recipients, turn.segment_bound, turn.people, turn.digest)
    await tx.execute(_APPROVE, message_id, approver_id, *values)


_REJECT = statement(
    "messages.reject", "UPDATE messages SET rejection_reason = $2 WHERE id = $1 AND status = 'cancelled'"
)


async def reject(tx: Transaction, message_id: UUID, reason: str) -> None:
    """Note why a cancelled message was not approved."""
    await tx.execute(_REJECT, message_id, reason)


_SEND_AGAIN = statement(
    "messages.send_again",
    """
    UPDATE messages
    SET status = 'accepted',
        decline_reason = NULL,
        resolved = false,
        due_at = greatest($2::timestamptz, $3),
        undo_until = $3,
        total_recipients = $4,
        segment_bound = $5,
        audience_digest = $6,
        revision = revision + 1
    WHERE id = $1 AND status = 'declined'
    """,
)


async def send_again(tx: Transaction, message_id: UUID, turn: Turn) -> None:
    """Let a declined message become due once more; its next question has the next version."""
    values = (turn.at, turn.undo_until, turn.recipients, turn.segment_bound, turn.digest)
    await tx.execute(_SEND_AGAIN, message_id, *values)
