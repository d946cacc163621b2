"""Messages as people ask for them: written, read, cancelled."""

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from koinonia import clock, telemetry
from koinonia.api.messages import (
    Exclude,
    Message,
    MessageCounts,
    MessageProgress,
    MessageStatus,
    StopFigures,
    TagUse,
    Urgent,
)
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import Target, Text
from koinonia_messaging.domain.messages import STATUSES, Outline, shown_counts
from koinonia_messaging.domain.stops import Confirmed, figures
from koinonia_messaging.store.projections import QUIET_HOURS, hours_of


class NewMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is about to be accepted."""

    id: UUID
    text: Text
    media_urls: list[str]
    target: Target
    tags: list[str]
    number_id: UUID | None
    outline: Outline
    recipients: int
    created_at: datetime
    scheduled_at: datetime | None
    test: bool
    requested_by: UUID
    awaits_approval: bool = False
    undo_until: datetime | None = None
    resend_of: UUID | None = None  # those whom that one did not reach are gathered first
    template_id: UUID | None = None
    template_version: int | None = None
    do_not_send_after: datetime | None = None
    urgent_reason: str | None = None
    recurring_id: UUID | None = None
    audience_digest: int = 0  # while it is not known who gets it

    @property
    def due_at(self) -> datetime:
        """Nothing of it is sent before."""
        return due_at(self.scheduled_at, self.created_at, self.undo_until)


def due_at(scheduled_at: datetime | None, now: datetime, undo_until: datetime | None) -> datetime:
    """When sending may begin."""
    return max(scheduled_at or now, undo_until or now)


_SHOWN = f"messages.*, {QUIET_HOURS}"
"""A message's columns, in a transaction of its church."""
_INSERT = statement(
    "messages.insert",
    f"""
    INSERT INTO messages (
        id, church_id, status, content, media_urls, target_type, target_ids, tags, number_id, encoding, segments,
        segment_bound, total_recipients, created_at, scheduled_at, due_at, correlation_id, traceparent, test,
        excluded_member_ids, excluded_group_ids, excluded_branch_ids, requested_by, undo_until,
        resend_of, gathering, smart_encoding, template_id, template_version, recurring_id,
        audience_digest, do_not_send_after, urgent_reason
    )
    VALUES (
        $1, $2,
        CASE
            WHEN $21 THEN 'awaiting_approval'
            WHEN $14::timestamptz IS NULL THEN 'accepted'
            ELSE 'scheduled'
        END,
        $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $30, $15, $16, $17, $18,
        $19, $20, $22, $23, $24, $24::uuid IS NOT NULL, $25, $26, $27, $28, $29, $31, $32
    )
    RETURNING {_SHOWN}
    """,
)


async def insert(tx: Transaction, message: NewMessage) -> Message:
    """Write a message that is accepted, scheduled or waits for its approval; as it is shown."""
    row = await tx.fetch_row(
        _INSERT,
        message.id,
        tx.tenant,
        message.text.content,
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
        message.target.excluded.member_ids,
        message.target.excluded.group_ids,
        message.target.excluded.branch_ids,
        message.awaits_approval,
        message.requested_by,
        message.undo_until,
        message.resend_of,
        message.text.smart,
        message.template_id,
        message.template_version,
        message.recurring_id,
        message.audience_digest,
        message.due_at,
        message.do_not_send_after,
        message.urgent_reason,
    )
    assert row is not None, "INSERT without ON CONFLICT returns its row"  # noqa: S101
    return shown(row)


_LOCK_SCHEDULED = statement(
    "messages.lock_scheduled",
    f"SELECT {_SHOWN} FROM messages WHERE id = $1 AND status = 'scheduled' FOR UPDATE OF messages",
)


async def lock_scheduled(tx: Transaction, message_id: UUID) -> Message | None:
    """Lock a message that waits for its time; None: sending has started, or it is not there. The scheduler passes by a
    locked one, and who locks it is waited for when the scheduler was first.
    """
    row = await tx.fetch_row(_LOCK_SCHEDULED, message_id)
    return None if row is None else shown(row)


# What a scheduler has leased meanwhile would rest until its lease ends, though it may be due at once from now on.
_CHANGE = statement(
    "messages.change",
    f"""
    UPDATE messages
    SET status = CASE
            WHEN $14 THEN 'awaiting_approval'
            WHEN $11::timestamptz IS NULL THEN 'accepted'
            ELSE 'scheduled'
        END,
        content = $2, media_urls = $3, target_type = $4, target_ids = $5, tags = $6, number_id = $7,
        encoding = $8, segments = $9, segment_bound = $10,
        scheduled_at = $11, due_at = $12, total_recipients = $13,
        requested_by = $15, undo_until = $16, approved_by = NULL, approved_at = NULL, approved_people = NULL,
        excluded_member_ids = $17, excluded_group_ids = $18, excluded_branch_ids = $19,
        smart_encoding = $20, template_id = $21, template_version = $22, audience_digest = $23,
        do_not_send_after = $24, urgent_reason = $25,
        leased_until = '-infinity', attempt = 0, revision = revision + 1
    WHERE id = $1
    RETURNING {_SHOWN}
    """,
)


async def change(tx: Transaction, message: NewMessage) -> Message:
    """Rewrite a locked one; as it is shown."""
    row = await tx.fetch_row(
        _CHANGE,
        message.id,
        message.text.content,
        message.media_urls,
        message.target.kind,
        message.target.ids,
        message.tags,
        message.number_id,
        message.outline.encoding,
        message.outline.segments,
        message.outline.segment_bound,
        message.scheduled_at,
        message.due_at,
        message.recipients,
        message.awaits_approval,
        message.requested_by,
        message.undo_until,
        message.target.excluded.member_ids,
        message.target.excluded.group_ids,
        message.target.excluded.branch_ids,
        message.text.smart,
        message.template_id,
        message.template_version,
        message.audience_digest,
        message.do_not_send_after,
        message.urgent_reason,
    )
    assert row is not None, "it is locked"  # noqa: S101
    return shown(row)


_LOCK_TEXT = statement(
    "messages.lock_text",
    "SELECT pg_advisory_xact_lock(hashtextextended('messaging.text.' || $1 || $2::bigint, 0))",
)
_FIND_TWIN = statement(
    "messages.find_twin",
    """
    SELECT id
    FROM messages
    WHERE due_at > $1::timestamptz - $5::interval AND due_at < $1::timestamptz + $5::interval
        AND audience_digest = $2 AND content = $3 AND media_urls = $4 AND test = $6
        AND status <> 'declined' AND NOT (status = 'cancelled' AND streamed_recipients = 0)
        AND id IS DISTINCT FROM $7
    ORDER BY id DESC
    LIMIT 1
    """,
)


async def lock_text(tx: Transaction, digest: int) -> None:
    """Let nobody else of this church accept a message to the same people until the transaction ends.

    A statement of its own, before the one that looks for twins: under READ COMMITTED that sees what the other wrote.
    """
    await tx.execute(_LOCK_TEXT, str(tx.tenant), digest)


async def find_twin(
    tx: Transaction,
    message_id: UUID | None,
    text: Text,
    media_urls: list[str],
    *,
    digest: int,
    due_at: datetime,
    within: timedelta,
    test: bool,
) -> UUID | None:
    """The newest other message with the same text to the same people, due that near to this one; none that nobody got.
    ``message_id``: this one's, if it has one yet.
    """
    values = (due_at, digest, text.content, media_urls, within, test, message_id)
    twin: UUID | None = await tx.fetch_value(_FIND_TWIN, *values)
    return twin


# A pause stands beside the status, and shows while something of the message waits.
_SHOWN_STATUS = """CASE
            WHEN paused_at IS NOT NULL AND status IN ('scheduled', 'accepted', 'sending') THEN 'paused'
            ELSE status
        END"""

_FIND = statement("messages.find", f"SELECT {_SHOWN} FROM messages WHERE id = $1")


async def find(tx: Transaction, message_id: UUID) -> Message | None:
    row = await tx.fetch_row(_FIND, message_id)
    return None if row is None else shown(row)


_PAGE = f"""
    SELECT {_SHOWN}
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


_LIST_TAGS = statement(
    "messages.list_tags",
    """
    SELECT tag, count(*) AS messages, max(created_at) AS last_used_at
    FROM messages
    CROSS JOIN LATERAL (SELECT DISTINCT unnest(tags) AS tag) AS each
    WHERE tags <> '{}' AND NOT test
    GROUP BY tag
    ORDER BY last_used_at DESC, tag
    LIMIT $1
    """,
)


async def list_tags(tx: Transaction, limit: int) -> list[TagUse]:
    """The tags of the church's messages, those that were used last first."""
    return [TagUse(**dict(row)) for row in await tx.fetch(_LIST_TAGS, limit)]


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
    WHERE status IN ('awaiting_approval', 'scheduled', 'accepted', 'sending')
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


def exclude_of(row: asyncpg.Record) -> Exclude:
    """Who gets no text, by a row's columns."""
    return Exclude(
        member_ids=row["excluded_member_ids"],
        group_ids=row["excluded_group_ids"],
        branch_ids=row["excluded_branch_ids"],
    )


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
        exclude=exclude_of(row),
        undo_until=row["undo_until"],
        requested_by=row["requested_by"],
        approved_by=row["approved_by"],
        approved_at=row["approved_at"],
        rejection_reason=row["rejection_reason"],
        resend_of=row["resend_of"],
        smart_encoding=row["smart_encoding"],
        template_id=row["template_id"],
        template_version=row["template_version"],
        recurring_id=row["recurring_id"],
        do_not_send_after=row["do_not_send_after"],
        urgent=None if row["urgent_reason"] is None else Urgent(reason=row["urgent_reason"]),
        waiting_until=_waiting_until(row),
    )


def _waiting_until(row: asyncpg.Record) -> datetime | None:
    hours, now = hours_of(row), clock.now()
    if hours is None or row["urgent_reason"] is not None or row["test"] or row["due_at"] > now:
        return None
    may_wait = _status(row) in ("accepted", "sending") and (not row["resolved"] or _counts(row).queued > 0)
    return hours.end_for(now) if may_wait else None


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
