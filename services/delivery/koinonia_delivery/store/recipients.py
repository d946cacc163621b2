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
    branch_id: UUID | None = None  # of a broadcast's: whose people it is counted with
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
    is_paused: bool = False
    do_not_send_after: datetime | None = None
    traceparent: str | None = None
    correlation_id: str | None = None  # of the request that began it all
    test: bool = False  # the simulated carrier answers in place of the real one


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
            $9::text[], $26::uuid[]
        ) AS incoming (
            id, member_ids, phone_index, phone_ciphertext, text, encoding, segments, left_out, left_out_sentence,
            branch_id
        )
    ),
    stored AS (
        INSERT INTO recipients (
            id, church_id, source_id, kind, status, segments, encoding, number_id, member_ids, phone_index,
            phone_ciphertext, text, media_urls, error_code, error_message, settled_at, traceparent, test, branch_id
        )
        SELECT
            incoming.id, $10, $11, $12, incoming.status, incoming.segments, incoming.encoding, $13,
            incoming.member_ids::uuid[], incoming.phone_index, incoming.phone_ciphertext, incoming.text, $14::text[],
            CASE WHEN incoming.status = 'suppressed' THEN coalesce(incoming.left_out, 'suppressed') END,
            CASE WHEN incoming.status = 'suppressed' THEN coalesce(incoming.left_out_sentence, $20) END,
            CASE WHEN incoming.status <> 'queued' THEN clock_timestamp() END,
            CASE WHEN $12 <> 'broadcast' THEN $21 END, $25, incoming.branch_id
        FROM incoming
        ORDER BY incoming.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id, status, segments, phone_index, branch_id
    ),
    queued AS (
        INSERT INTO work (
            recipient_id, church_id, source_id, number_id, phone_index, priority, segments, passes_suppression, state,
            due_at, do_not_send_after, traceparent, correlation_id
        )
        SELECT stored.id, $10, $11, $13, stored.phone_index, $15, stored.segments, $17, $24, $16, $19, $21, $23
        FROM stored
        WHERE stored.status = 'queued' AND NOT $25
    ),
    simulated AS (
        INSERT INTO test_work (recipient_id, church_id, due_at, do_not_send_after, traceparent, correlation_id)
        SELECT stored.id, $10, $16, $19, $21, $23
        FROM stored
        WHERE stored.status = 'queued' AND $25
    )
    SELECT
        stored.branch_id,
        stored.status,
        count(*) AS rows,
        CASE WHEN stored.status = 'queued' THEN pg_notify($22, '')::text END AS woken
    FROM stored
    GROUP BY stored.branch_id, stored.status
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
        "paused" if source.is_paused else "ready",
        source.test,
        [each.branch_id for each in recipients],
    )
    return [
        Change(
            church_id=church_id,
            source_id=source.source_id,
            kind=source.kind,
            branch_id=row["branch_id"],
            was=None,
            became=row["status"],
            rows=row["rows"],
            test=source.test,
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
    test: bool


COLUMNS = """
        recipients.id, recipients.church_id, recipients.source_id, recipients.kind, recipients.member_ids,
        recipients.phone_ciphertext, recipients.status, recipients.segments, recipients.error_code,
        recipients.error_message, recipients.sent_at, recipients.delivered_at, recipients.test
"""
LOOKED_AT_ROWS = 10_000
"""How many rows one page of a frequent state looks at: each may lie on a page of the table of its own."""
PROBLEMS: frozenset[RecipientStatus] = frozenset(
    {"unknown", "undelivered", "unconfirmed", "failed", "suppressed", "expired"}
)
"""The states that ``problems`` lists; see the migration that made it."""

_LIST = statement(
    "recipients.list_page",
    f"""
    SELECT {COLUMNS}
    FROM recipients
    WHERE id > $1 AND id <= $2 AND source_id = $3
    ORDER BY id
    LIMIT $4
    """,
)
_LIST_PROBLEMS = statement(
    "recipients.list_problems",
    f"""
    SELECT {COLUMNS}
    FROM (
        SELECT problems.id
        FROM problems
        WHERE problems.source_id = $3 AND problems.status = $5 AND problems.id > $1 AND problems.id <= $2
        ORDER BY problems.id
        LIMIT $4
    ) AS problem
    JOIN recipients ON recipients.id = problem.id
    ORDER BY problem.id
    """,
)
# Counted while they are read, so that the scan ends with the page, or with the last row that it may look at.
_LIST_FREQUENT = statement(
    "recipients.list_frequent",
    f"""
    SELECT looked.*, looked.source_id = $3 AND looked.status = $5 AS wanted
    FROM (
        SELECT {COLUMNS}, row_number() OVER (ORDER BY recipients.id) AS place
        FROM recipients
        WHERE recipients.id > $1 AND recipients.id <= $2
        ORDER BY recipients.id
        LIMIT $6
    ) AS looked
    WHERE (looked.source_id = $3 AND looked.status = $5) OR looked.place = $6
    ORDER BY looked.id
    LIMIT $4
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
) -> tuple[list[Recipient], UUID | None]:
    """A page of a message's recipients, in the order of their ids, which lie in the range of its dispatch time.

    With it the id up to which was looked, where looking ended before the list did.
    """
    first = UUID(int=id_floor(dispatched_at).int - 1)
    start = first if after is None or after < first else after
    bounds = (start, id_ceiling(dispatched_at), message_id, limit)
    if status is None:
        return [recipient_of(row) for row in await tx.fetch(_LIST, *bounds)], None
    if status in PROBLEMS:
        return [recipient_of(row) for row in await tx.fetch(_LIST_PROBLEMS, *bounds, status)], None
    rows = await tx.fetch(_LIST_FREQUENT, *bounds, status, LOOKED_AT_ROWS)
    ended = len(rows) < limit and bool(rows) and rows[-1]["place"] == LOOKED_AT_ROWS
    return [recipient_of(row) for row in rows if row["wanted"]], rows[-1]["id"] if ended else None


# Each state by its own range of the index, and of each no more than the page can take.
_LIST_FAILED = statement(
    "recipients.list_failed",
    f"""
    SELECT {COLUMNS}
    FROM (
        SELECT found.id
        FROM unnest($5::text[]) AS wanted (status)
        CROSS JOIN LATERAL (
            SELECT problems.id
            FROM problems
            WHERE problems.source_id = $3 AND problems.status = wanted.status AND problems.id > $1
                AND problems.id <= $2
            ORDER BY problems.id
            LIMIT $4
        ) AS found
        ORDER BY found.id
        LIMIT $4
    ) AS problem
    JOIN recipients ON recipients.id = problem.id
    ORDER BY problem.id
    """,
)
NOT_REACHED: tuple[RecipientStatus, ...] = ("failed", "undelivered", "expired")
"""How a copy ends for good that did not reach its phone, though it was to."""


async def list_failed(
    tx: Transaction, message_id: UUID, dispatched_at: datetime, *, after: UUID | None, limit: int
) -> list[Recipient]:
    """Those whom a message did not reach for good, in the order of their ids."""
    first = UUID(int=id_floor(dispatched_at).int - 1)
    start = first if after is None or after < first else after
    rows = await tx.fetch(_LIST_FAILED, start, id_ceiling(dispatched_at), message_id, limit, NOT_REACHED)
    return [recipient_of(row) for row in rows]


_FIND = statement(
    "recipients.find",
    f"SELECT {COLUMNS} FROM recipients WHERE id = $1",
)


async def find(tx: Transaction, recipient_id: UUID) -> Recipient | None:
    """One recipient of the tenant."""
    row = await tx.fetch_row(_FIND, recipient_id)
    return None if row is None else recipient_of(row)


def recipient_of(row: asyncpg.Record) -> Recipient:
    """The recipient that a row with ``COLUMNS`` tells."""
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
        test=row["test"],
    )
