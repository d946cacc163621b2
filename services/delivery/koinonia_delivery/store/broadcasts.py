"""Broadcasts: their dispatch time, and the tombstone of those that were cancelled."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.ids import id_ceiling, id_floor
from koinonia_delivery.domain.states import Change


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk must know before it is stored."""

    cancelled_at: datetime | None
    number_id: UUID | None  # to send from; None: the church has none yet


_OPEN = statement(
    "broadcasts.open",
    """
    WITH opened AS (
        INSERT INTO broadcasts (message_id, church_id, dispatched_at)
        VALUES ($1, $2, $3)
        ON CONFLICT (message_id) DO UPDATE SET dispatched_at = excluded.dispatched_at
        RETURNING cancelled_at
    )
    SELECT opened.cancelled_at, number.id AS number_id
    FROM opened
    LEFT JOIN LATERAL (
        SELECT numbers.id
        FROM numbers
        WHERE numbers.church_id = $2 AND numbers.status IN ('active', 'held')
        ORDER BY (numbers.id = $4) DESC NULLS LAST, numbers.is_default DESC, numbers.id
        LIMIT 1
    ) AS number ON true
    """,
)


async def open_for_chunk(tx: Transaction, message_id: UUID, dispatched_at: datetime, number_id: UUID | None) -> Opened:
    """Note the broadcast and lock its row: a cancel either is seen here, or sees what this transaction stores."""
    row = await tx.fetch_row(_OPEN, message_id, tx.tenant, dispatched_at, number_id)
    if row is None:
        raise RuntimeError("an upsert returned nothing")
    return Opened(cancelled_at=row["cancelled_at"], number_id=row["number_id"])


_CHOOSE_NUMBER = statement(
    "numbers.choose",
    """
    SELECT numbers.id
    FROM numbers
    WHERE numbers.church_id = $1 AND numbers.status IN ('active', 'held')
    ORDER BY (numbers.id = $2) DESC NULLS LAST, numbers.is_default DESC, numbers.id
    LIMIT 1
    """,
)


async def choose_number(tx: Transaction, number_id: UUID | None) -> UUID | None:
    """The number wanted, if it is one of the church's, else its default; None while it has none."""
    found: UUID | None = await tx.fetch_value(_CHOOSE_NUMBER, tx.tenant, number_id)
    return found


_ACCEPTED = statement(
    "broadcasts.note_accepted",
    "INSERT INTO broadcasts (message_id, church_id) VALUES ($1, $2) ON CONFLICT (message_id) DO NOTHING",
)


async def note_accepted(tx: Transaction, message_id: UUID) -> None:
    """There will be such a broadcast; what is known of it already stays."""
    await tx.execute(_ACCEPTED, message_id, tx.tenant)


_DISPATCHED = statement(
    "broadcasts.note_dispatched",
    """
    INSERT INTO broadcasts (message_id, church_id, dispatched_at, recipient_count)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (message_id) DO UPDATE
    SET dispatched_at = excluded.dispatched_at, recipient_count = excluded.recipient_count
    """,
)


async def note_dispatched(tx: Transaction, message_id: UUID, dispatched_at: datetime, recipient_count: int) -> None:
    """Note that the whole audience was published."""
    await tx.execute(_DISPATCHED, message_id, tx.tenant, dispatched_at, recipient_count)


_CANCEL = statement(
    "broadcasts.cancel",
    """
    INSERT INTO broadcasts (message_id, church_id, cancelled_at)
    VALUES ($1, $2, $3)
    ON CONFLICT (message_id) DO UPDATE SET cancelled_at = coalesce(broadcasts.cancelled_at, excluded.cancelled_at)
    RETURNING dispatched_at
    """,
)


async def cancel(tx: Transaction, message_id: UUID, cancelled_at: datetime) -> datetime | None:
    """Set the tombstone; answers when the broadcast was dispatched, if it was."""
    found: datetime | None = await tx.fetch_value(_CANCEL, message_id, tx.tenant, cancelled_at)
    return found


_FIND_DISPATCHED_AT = statement(
    "broadcasts.find_dispatched_at",
    "SELECT dispatched_at FROM broadcasts WHERE message_id = $1",
)


async def find_dispatched_at(tx: Transaction, message_id: UUID) -> tuple[bool, datetime | None]:
    """Whether the message is known here, and the time in its recipients' ids."""
    row = await tx.fetch_row(_FIND_DISPATCHED_AT, message_id)
    return (False, None) if row is None else (True, row["dispatched_at"])


_CANCEL_ROWS = statement(
    "recipients.cancel",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id
        FROM work
        WHERE work.recipient_id BETWEEN $2 AND $3 AND work.source_id = $1 AND work.state = 'ready'
        ORDER BY work.recipient_id
        LIMIT $4
        FOR UPDATE
    ),
    cancelled AS (
        UPDATE recipients
        SET status = 'cancelled', settled_at = clock_timestamp()
        WHERE recipients.id = ANY (ARRAY(SELECT task.recipient_id FROM task))
            AND recipients.id BETWEEN $2 AND $3
            AND recipients.status = 'queued'
        RETURNING recipients.id, recipients.segments
    ),
    finished AS (
        DELETE FROM work USING task WHERE work.recipient_id = task.recipient_id
    )
    SELECT count(*) FROM cancelled
    """,
)


async def cancel_rows(
    tx: Transaction, church_id: UUID, message_id: UUID, dispatched_at: datetime, limit: int
) -> list[Change]:
    """Cancel up to ``limit`` rows of a message that no worker holds."""
    count = await tx.fetch_value(_CANCEL_ROWS, message_id, id_floor(dispatched_at), id_ceiling(dispatched_at), limit)
    if not count:
        return []
    return [
        Change(
            church_id=church_id, source_id=message_id, kind="broadcast", was="queued", became="cancelled", rows=count
        )
    ]


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A cancelled broadcast whose rows may still wait."""

    message_id: UUID
    church_id: UUID
    dispatched_at: datetime


_LIST_UNSWEPT = statement(
    "broadcasts.list_unswept",
    """
    SELECT message_id, church_id, dispatched_at
    FROM broadcasts
    WHERE cancelled_at IS NOT NULL AND swept_at IS NULL AND dispatched_at IS NOT NULL
    ORDER BY message_id
    LIMIT 100
    """,
)


async def list_unswept(tx: Transaction) -> Sequence[Cancelled]:
    """The cancelled ones that the sweep has not finished; across churches."""
    rows = await tx.fetch(_LIST_UNSWEPT)
    return [
        Cancelled(message_id=row["message_id"], church_id=row["church_id"], dispatched_at=row["dispatched_at"])
        for row in rows
    ]


_NOTE_SWEPT = statement(
    "broadcasts.note_swept",
    "UPDATE broadcasts SET swept_at = clock_timestamp() WHERE message_id = $1 AND swept_at IS NULL",
)


async def note_swept(tx: Transaction, message_id: UUID) -> None:
    """No row of it waits any more; what comes later meets the tombstone when it is stored or claimed."""
    await tx.execute(_NOTE_SWEPT, message_id)
