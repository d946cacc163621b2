"""Messages as people ask for them: written, read, cancelled."""

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia import telemetry
from koinonia.api.messages import Message, MessageCounts, MessageProgress, MessageStatus, StopFigures
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import Target
from koinonia_messaging.domain.messages import STATUSES, Outline, shown_counts
from koinonia_messaging.domain.stops import Confirmed, figures


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is about to be accepted."""

    id: UUID
    content: str
    media_urls: list[str]
    target: Target
    tags: list[str]
    number_id: UUID | None
    outline: Outline
    recipients: int
    created_at: datetime
    scheduled_at: datetime | None
    test: bool


_INSERT = statement(
    "messages.insert",
    """
    INSERT INTO messages (
        id, church_id, status, content, media_urls, target_type, target_ids, tags, number_id, encoding, segments,
        segment_bound, total_recipients, created_at, scheduled_at, due_at, correlation_id, traceparent, test
    )
    VALUES (
        $1, $2, CASE WHEN $14::timestamptz IS NULL THEN 'accepted' ELSE 'scheduled' END, $3, $4, $5, $6, $7, $8, $9,
        $10, $11, $12, $13, $14, coalesce($14, $13), $15, $16, $17
    )
    RETURNING *
    """,
)


async def insert(tx: Transaction, message: NewMessage) -> Message:
    """Write an accepted or scheduled message; as it is shown."""
    row = await tx.fetch_row(
        _INSERT,
        message.id,
        tx.tenant,
        message.content,
        message.media_urls,
        message.target.kind,
        message.target.ids,
        message.tags,
        message.number_id,
        message.outline.encoding,
        message.outline.segments,
        message.outline.segment_bound,
        message.recipients,
        message.created_at,
        message.scheduled_at,
        telemetry.correlation_id(),
        telemetry.current_traceparent(),
        message.test,
    )
    assert row is not None, "INSERT without ON CONFLICT returns its row"  # noqa: S101
    return shown(row)


# A pause stands beside the status, and shows while something of the message waits.
_SHOWN_STATUS = """CASE
            WHEN paused_at IS NOT NULL AND status IN ('scheduled', 'accepted', 'sending') THEN 'paused'
            ELSE status
        END"""

_FIND = statement("messages.find", "SELECT * FROM messages WHERE id = $1")


async def find(tx: Transaction, message_id: UUID) -> Message | None:
    row = await tx.fetch_row(_FIND, message_id)
    return None if row is None else shown(row)


_PAGE = f"""
    SELECT *
    FROM messages
    WHERE ($1::uuid IS NULL OR id < $1)
        AND ($3::text IS NULL OR $3 = {_SHOWN_STATUS})
        AND ($4::text IS NULL OR content ILIKE $4)
        AND ($5::text IS NULL OR $5 = ANY(tags))
        AND {{}}
    ORDER BY id DESC
    LIMIT $2
"""
_LIST_PAGE = statement("messages.list_page", _PAGE.format("NOT test"))
_LIST_TESTS = statement("messages.list_tests", _PAGE.format("test"))


async def list_page(
    tx: Transaction,
    before: UUID | None,
    limit: int,
    *,
    status: MessageStatus | None,
    pattern: str | None,
    tag: str | None,
    test: bool = False,
) -> list[Message]:
    """Messages, newest first, from after ``before`` on: tests, or all that are none. ``pattern`` is LIKE's, over their
    text.
    """
    listing = _LIST_TESTS if test else _LIST_PAGE
    return [shown(row) for row in await tx.fetch(listing, before, limit, status, pattern, tag)]


# Of a message that billing was never asked about, nothing was streamed and nothing is reserved: that is confirmed.
CANCEL_SQL = """
    UPDATE messages
    SET status = 'cancelled',
        cancelled_at = $1,
        stop_id = $2,
        resolved = true,
        stop_total = total_recipients,
        total_recipients = streamed_recipients,
        stop_sent = CASE WHEN version = 0 THEN 0 END,
        stop_in_flight = CASE WHEN version = 0 THEN 0 END,
        credited_segments = CASE WHEN version = 0 THEN 0 END,
        credited_cents = CASE WHEN version = 0 THEN 0 END,
        revision = revision + 1
    WHERE status IN ('scheduled', 'accepted', 'sending')
"""
_CANCEL = statement("messages.cancel", f"{CANCEL_SQL} AND id = $3 RETURNING test")


async def cancel(tx: Transaction, message_id: UUID, at: datetime) -> bool | None:
    """Cancel a message that still has something to cancel; from here on no page of it commits.

    What was not streamed never becomes a recipient. Answers whether it is a test; None: nothing was cancelled.
    """
    test: bool | None = await tx.fetch_value(_CANCEL, at, None, message_id)
    return test


_LIST_PROGRESS = statement(
    "messages.list_progress",
    f"""
    SELECT id, revision, status, paused_at, total_recipients, {", ".join(STATUSES)}, handed_over_at, completed_at
    FROM messages
    WHERE id = ANY($1::uuid[])
    """,
)


async def list_progress(tx: Transaction, message_ids: list[UUID]) -> dict[UUID, MessageProgress]:
    """How messages stand, of any churches in work across them."""
    return {row["id"]: progress(row) for row in await tx.fetch(_LIST_PROGRESS, message_ids)}


def shown(row: asyncpg.Record) -> Message:
    """A row as people see it."""
    return Message(
        id=row["id"],
        status=_status(row),
        content=row["content"],
        target_type=row["target_type"],
        target_ids=row["target_ids"],
        media_urls=row["media_urls"],
        number_id=row["number_id"],
        tags=row["tags"],
        encoding=row["encoding"],
        segments=row["segments"],
        total_recipients=_total(row),
        counts=_counts(row),
        decline_reason=row["decline_reason"],
        scheduled_at=row["scheduled_at"],
        created_at=row["created_at"],
        handed_over_at=row["handed_over_at"],
        completed_at=row["completed_at"],
        paused_at=row["paused_at"] if _status(row) == "paused" else None,
        pause_reason=row["pause_reason"] if _status(row) == "paused" else None,
        stopped=stopped(row),
        test=row["test"],
    )


def stopped(row: asyncpg.Record) -> StopFigures | None:
    """The figures of a cancelled message."""
    if row["stop_total"] is None:
        return None
    return figures(
        row["stop_total"],
        row["streamed_recipients"],
        {status: row[status] for status in STATUSES},
        Confirmed(
            sent=row["stop_sent"],
            in_flight=row["stop_in_flight"],
            segments=row["credited_segments"],
            cents=row["credited_cents"],
        ),
    )


def progress(row: asyncpg.Record) -> MessageProgress:
    """A row as a watcher sees it."""
    return MessageProgress(
        id=row["id"],
        version=row["revision"],
        status=_status(row),
        total_recipients=_total(row),
        counts=_counts(row),
        handed_over_at=row["handed_over_at"],
        completed_at=row["completed_at"],
    )


def _status(row: asyncpg.Record) -> MessageStatus:
    status: MessageStatus = row["status"]
    is_paused = row["paused_at"] is not None and status in ("scheduled", "accepted", "sending")
    return "paused" if is_paused else status


def _total(row: asyncpg.Record) -> int:
    return 0 if row["status"] == "declined" else int(row["total_recipients"])


def _counts(row: asyncpg.Record) -> MessageCounts:
    return shown_counts({status: row[status] for status in STATUSES}, _total(row))
