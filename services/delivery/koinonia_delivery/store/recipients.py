"""Recipients: stored in batches with their work, listed by the range of their message's ids."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia.events.common import RecipientStatus
from koinonia.ids import id_ceiling, id_floor
from koinonia.sms import Encoding
from koinonia_delivery.domain.states import Change, Kind

WORK_CHANNEL = "delivery_work"
"""The NOTIFY channel that wakes the workers."""


class NewRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """One person's copy, before it is stored."""

    id: UUID
    member_ids: Sequence[UUID]
    phone_index: bytes
    phone_ciphertext: bytes
    text: str
    encoding: Encoding
    segments: int
    left_out: str | None = None  # why this number gets no text
    left_out_sentence: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What the recipients of one batch share."""

    source_id: UUID
    kind: Kind
    number_id: UUID | None
    media_urls: Sequence[str]
    priority: int
    due_at: datetime
    passes_suppression: bool = False
    is_cancelled: bool = False
    do_not_send_after: datetime | None = None
    traceparent: str | None = None
    correlation_id: str | None = None  # of the request that began it all


# The arrays of members are rectangular for Postgres only as texts: families differ in size.
_STORE = statement(
    "recipients.store",
    """
    WITH incoming AS MATERIALIZED (
        SELECT
            incoming.*,
            CASE
                WHEN incoming.left_out IS NOT NULL THEN 'suppressed'
                WHEN $18 THEN 'cancelled'
                WHEN NOT $17 AND EXISTS (
                    SELECT
                    FROM suppressions
                    WHERE suppressions.church_id = $10
                        AND suppressions.phone_index = incoming.phone_index
                        AND suppressions.suppressed
                ) THEN 'suppressed'
                ELSE 'queued'
            END AS status
        FROM unnest(
            $1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::text[], $6::text[], $7::smallint[], $8::text[],
            $9::text[]
        ) AS incoming (
            id, member_ids, phone_index, phone_ciphertext, text, encoding, segments, left_out, left_out_sentence
        )
    ),
    stored AS (
        INSERT INTO recipients (
            id, church_id, source_id, kind, status, segments, encoding, number_id, member_ids, phone_index,
            phone_ciphertext, text, media_urls, error_code, error_message, settled_at
        )
        SELECT
            incoming.id, $10, $11, $12, incoming.status, incoming.segments, incoming.encoding, $13,
            incoming.member_ids::uuid[], incoming.phone_index, incoming.phone_ciphertext, incoming.text, $14::text[],
            CASE WHEN incoming.status = 'suppressed' THEN coalesce(incoming.left_out, 'suppressed') END,
            CASE WHEN incoming.status = 'suppressed' THEN coalesce(incoming.left_out_sentence, $20) END,
            CASE WHEN incoming.status <> 'queued' THEN clock_timestamp() END
        FROM incoming
        ORDER BY incoming.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id, status, segments, phone_index
    ),
    queued AS (
        INSERT INTO work (
            recipient_id, church_id, source_id, number_id, phone_index, priority, segments, passes_suppression, state,
            due_at, do_not_send_after, traceparent, correlation_id
        )
        SELECT stored.id, $10, $11, $13, stored.phone_index, $15, stored.segments, $17, 'ready', $16, $19, $21, $23
        FROM stored
        WHERE stored.status = 'queued'
    )
    SELECT
        stored.status,
        count(*) AS rows,
        CASE WHEN stored.status = 'queued' THEN pg_notify($22, '')::text END AS woken
    FROM stored
    GROUP BY stored.status
    """,
)


async def store(
    tx: Transaction, source: Source, recipients: Sequence[NewRecipient], suppressed_sentence: str
) -> list[Change]:
    """Store recipients, with work for those that shall be sent; answers what is truly new.

    A row that is there already stays as it is: a chunk may come again, and two streamers may send the same.
    """
    church_id = tx.tenant
    rows = await tx.fetch(
        _STORE,
        [each.id for each in recipients],
        ["{" + ",".join(str(member_id) for member_id in each.member_ids) + "}" for each in recipients],
        [each.phone_index for each in recipients],
        [each.phone_ciphertext for each in recipients],
        [each.text for each in recipients],
        [each.encoding for each in recipients],
        [each.segments for each in recipients],
        [each.left_out for each in recipients],
        [each.left_out_sentence for each in recipients],
        church_id,
        source.source_id,
        source.kind,
        source.number_id,
        list(source.media_urls),
        source.priority,
        source.due_at,
        source.passes_suppression,
        source.is_cancelled,
        source.do_not_send_after,
        suppressed_sentence,
        source.traceparent,
        WORK_CHANNEL,
        source.correlation_id,
    )
    return [
        Change(
            church_id=church_id,
            source_id=source.source_id,
            kind=source.kind,
            was=None,
            became=row["status"],
            rows=row["rows"],
        )
        for row in rows
    ]


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """One person's copy."""

    id: UUID
    church_id: UUID
    source_id: UUID
    kind: Kind
    member_ids: tuple[UUID, ...]
    phone_ciphertext: bytes
    status: RecipientStatus
    segments: int
    error_code: str | None
    error_message: str | None
    sent_at: datetime | None
    delivered_at: datetime | None


_LIST = statement(
    "recipients.list_page",
    """
    SELECT
        id, church_id, source_id, kind, member_ids, phone_ciphertext, status, segments, error_code, error_message,
        sent_at, delivered_at
    FROM recipients
    WHERE id > $1 AND id <= $2 AND source_id = $3 AND ($4::text IS NULL OR status = $4)
    ORDER BY id
    LIMIT $5
    """,
)


async def list_page(
    tx: Transaction,
    message_id: UUID,
    dispatched_at: datetime,
    *,
    after: UUID | None,
    status: RecipientStatus | None,
    limit: int,
) -> list[Recipient]:
    """A page of a message's recipients, in the order of their ids, which lie in the range of its dispatch time."""
    first = UUID(int=id_floor(dispatched_at).int - 1)
    start = first if after is None or after < first else after
    rows = await tx.fetch(_LIST, start, id_ceiling(dispatched_at), message_id, status, limit)
    return [_recipient(row) for row in rows]


_FIND = statement(
    "recipients.find",
    """
    SELECT
        id, church_id, source_id, kind, member_ids, phone_ciphertext, status, segments, error_code, error_message,
        sent_at, delivered_at
    FROM recipients
    WHERE id = $1
    """,
)


async def find(tx: Transaction, recipient_id: UUID) -> Recipient | None:
    """One recipient of the tenant."""
    row = await tx.fetch_row(_FIND, recipient_id)
    return None if row is None else _recipient(row)


def _recipient(row: asyncpg.Record) -> Recipient:
    return Recipient(
        id=row["id"],
        church_id=row["church_id"],
        source_id=row["source_id"],
        kind=row["kind"],
        member_ids=tuple(row["member_ids"]),
        phone_ciphertext=row["phone_ciphertext"],
        status=row["status"],
        segments=row["segments"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        sent_at=row["sent_at"],
        delivered_at=row["delivered_at"],
    )
