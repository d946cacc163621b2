"""Broadcasts: their dispatch time, the tombstone of those that were cancelled, and the pauses of the others."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia.ids import id_ceiling, id_floor
from koinonia_delivery.domain.states import Change
from koinonia_delivery.store.recipients import WORK_CHANNEL

_NEVER = datetime(2000, 1, 1, tzinfo=UTC)
"""A time that no broadcast was dispatched at."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a chunk must know before it is stored."""

    cancelled_at: datetime | None
    paused_at: datetime | None
    number_id: UUID | None  # to send from; None: the church has none yet


_OPEN = statement(
    "broadcasts.open",
    """
    WITH opened AS (
        INSERT INTO broadcasts (message_id, church_id, dispatched_at, test)
        VALUES ($1, $2, $3, $5)
        ON CONFLICT (message_id) DO UPDATE SET dispatched_at = excluded.dispatched_at, test = excluded.test
        RETURNING cancelled_at, paused_at
    )
    SELECT opened.cancelled_at, opened.paused_at, number.id AS number_id
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


async def open_for_chunk(
    tx: Transaction, message_id: UUID, dispatched_at: datetime, number_id: UUID | None, *, test: bool
) -> Opened:
    """Note the broadcast and lock its row: a cancel or pause either is seen here, or sees what is stored now."""
    row = await tx.fetch_row(_OPEN, message_id, tx.tenant, dispatched_at, number_id, test)
    if row is None:
        raise RuntimeError("an upsert returned nothing")
    return Opened(cancelled_at=row["cancelled_at"], paused_at=row["paused_at"], number_id=row["number_id"])


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
    INSERT INTO broadcasts (message_id, church_id, cancelled_at, test)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (message_id) DO UPDATE
    SET cancelled_at = coalesce(broadcasts.cancelled_at, excluded.cancelled_at), test = excluded.test
    """,
)


async def cancel(tx: Transaction, message_id: UUID, cancelled_at: datetime, *, test: bool = False) -> None:
    """Set the tombstone."""
    await tx.execute(_CANCEL, message_id, tx.tenant, cancelled_at, test)


_PAUSE = statement(
    "broadcasts.pause",
    """
    INSERT INTO broadcasts (message_id, church_id, pause_version, paused_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (message_id) DO UPDATE
    SET pause_version = excluded.pause_version, paused_at = excluded.paused_at
    WHERE broadcasts.pause_version < excluded.pause_version
    """,
)


async def pause(tx: Transaction, message_id: UUID, version: int, paused_at: datetime | None) -> bool:
    """Note that a broadcast rests since ``paused_at``, or (None) goes on; False: a newer state is known already."""
    return await tx.execute(_PAUSE, message_id, tx.tenant, version, paused_at) > 0


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
        WHERE work.recipient_id BETWEEN $2 AND $3 AND work.source_id = $1 AND work.state IN ('ready', 'paused')
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
        RETURNING recipients.branch_id
    ),
    finished AS (
        DELETE FROM work USING task WHERE work.recipient_id = task.recipient_id
    )
    SELECT branch_id, count(*) AS rows FROM cancelled GROUP BY branch_id
    """,
)


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """A cancelled broadcast whose rows may still wait."""

    message_id: UUID
    church_id: UUID
    dispatched_at: datetime | None  # None: nothing of it has come
    test: bool = False


_LIST_UNSWEPT = statement(
    "broadcasts.list_unswept",
    """
    SELECT message_id, church_id, dispatched_at, test
    FROM broadcasts
    WHERE cancelled_at IS NOT NULL AND swept_at IS NULL
    ORDER BY message_id
    LIMIT 100
    """,
)


async def list_unswept(tx: Transaction) -> Sequence[Cancelled]:
    """The cancelled ones that the sweep has not finished; across churches."""
    return [_cancelled(row) for row in await tx.fetch(_LIST_UNSWEPT)]


def _cancelled(row: asyncpg.Record) -> Cancelled:
    return Cancelled(**dict(row))


_NOTE_SWEPT = statement(
    "broadcasts.note_swept",
    "UPDATE broadcasts SET swept_at = clock_timestamp() WHERE message_id = $1 AND swept_at IS NULL",
)


async def note_swept(tx: Transaction, message_id: UUID) -> bool:
    """No row of it waits any more; what comes later meets the tombstone when it is stored or claimed.

    False: another replica has noted it.
    """
    return await tx.execute(_NOTE_SWEPT, message_id) > 0


_LIST_ENDING = statement(
    "broadcasts.list_ending",
    """
    SELECT message_id, church_id, dispatched_at, test
    FROM broadcasts
    WHERE swept_at IS NOT NULL AND ended_at IS NULL
    ORDER BY message_id
    LIMIT 100
    """,
)


async def list_ending(tx: Transaction) -> Sequence[Cancelled]:
    """The swept ones of which a worker may still put a row back; across churches."""
    return [_cancelled(row) for row in await tx.fetch(_LIST_ENDING)]


# One snapshot: a row that is put back stands in it as held or as waiting, never as neither.
_NOTE_ENDED = statement(
    "broadcasts.note_ended",
    """
    UPDATE broadcasts
    SET ended_at = clock_timestamp()
    WHERE message_id = $1
        AND ended_at IS NULL
        AND NOT EXISTS (
            SELECT FROM work
            WHERE work.recipient_id BETWEEN $2 AND $3
                AND work.source_id = $1
                AND work.state IN ('ready', 'paused', 'sending')
        )
    """,
)


async def note_ended(tx: Transaction, broadcast: Cancelled) -> None:
    """Unless a row of it waits or is held by a worker: no sweep looks at it any more."""
    at = broadcast.dispatched_at or _NEVER
    await tx.execute(_NOTE_ENDED, broadcast.message_id, id_floor(at), id_ceiling(at))


_COUNT_GONE = statement(
    "recipients.count_gone",
    """
    SELECT
        count(*) FILTER (WHERE accepted_at IS NOT NULL) AS sent_recipients,
        coalesce(sum(segments) FILTER (WHERE accepted_at IS NOT NULL), 0) AS sent_segments,
        count(*) FILTER (WHERE in_flight) AS in_flight_recipients,
        coalesce(sum(segments) FILTER (WHERE in_flight), 0) AS in_flight_segments
    FROM (
        SELECT
            accepted_at, segments,
            accepted_at IS NULL AND status IN ('sending', 'unknown', 'unconfirmed') AS in_flight
        FROM recipients
        WHERE id BETWEEN $2 AND $3 AND source_id = $1
    ) AS row
    """,
)


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """What of a broadcast the carrier has, and what it may have."""

    sent_recipients: int = 0
    sent_segments: int = 0
    in_flight_recipients: int = 0
    in_flight_segments: int = 0


async def count_gone(tx: Transaction, broadcast: Cancelled) -> Gone:
    """Count a broadcast's rows by one snapshot."""
    if broadcast.dispatched_at is None:
        return Gone()
    first, last = id_floor(broadcast.dispatched_at), id_ceiling(broadcast.dispatched_at)
    row = await tx.fetch_row(_COUNT_GONE, broadcast.message_id, first, last)
    assert row is not None, "an aggregate has one row"  # noqa: S101
    return Gone(**dict(row))


async def cancel_rows(tx: Transaction, broadcast: Cancelled, limit: int) -> list[Change]:
    """Cancel up to ``limit`` rows of a broadcast that no worker holds; none: no row of it waits."""
    if broadcast.dispatched_at is None:
        return []
    first, last = id_floor(broadcast.dispatched_at), id_ceiling(broadcast.dispatched_at)
    rows = await tx.fetch(_CANCEL_ROWS, broadcast.message_id, first, last, limit)
    return [
        Change(
            church_id=broadcast.church_id,
            source_id=broadcast.message_id,
            kind="broadcast",
            branch_id=row["branch_id"],
            was="queued",
            became="cancelled",
            rows=row["rows"],
        )
        for row in rows
    ]


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """A broadcast that was paused or resumed, and whose rows do not all stand where they belong."""

    message_id: UUID
    church_id: UUID
    dispatched_at: datetime | None
    version: int
    paused: bool


_LIST_MOVING = statement(
    "broadcasts.list_moving",
    """
    SELECT message_id, church_id, dispatched_at, pause_version, paused_at IS NOT NULL AS paused
    FROM broadcasts
    WHERE moved_version <> pause_version
    ORDER BY message_id
    LIMIT 100
    """,
)


async def list_moving(tx: Transaction) -> Sequence[Moving]:
    """Those that the sweep has not finished; across churches."""
    rows = await tx.fetch(_LIST_MOVING)
    return [
        Moving(
            message_id=row["message_id"],
            church_id=row["church_id"],
            dispatched_at=row["dispatched_at"],
            version=row["pause_version"],
            paused=row["paused"],
        )
        for row in rows
    ]


# The broadcast's row is locked: while it is moved, no chunk comes and no pause or resumption changes its mind.
_MOVE = statement(
    "work.move",
    """
    WITH moving AS MATERIALIZED (
        SELECT broadcasts.message_id
        FROM broadcasts
        WHERE broadcasts.message_id = $1 AND broadcasts.pause_version = $2
        FOR UPDATE
    ),
    page AS MATERIALIZED (
        SELECT work.recipient_id
        FROM moving
        JOIN work ON work.source_id = moving.message_id
        WHERE work.recipient_id > $3
            AND work.recipient_id <= $4
            AND work.priority <> 0
            AND work.state = CASE WHEN $5 THEN 'ready' ELSE 'paused' END
        ORDER BY work.recipient_id
        LIMIT $6
        FOR UPDATE OF work
    ),
    moved AS (
        UPDATE work
        SET state = CASE WHEN $5 THEN 'paused' ELSE 'ready' END
        FROM page
        WHERE work.recipient_id = page.recipient_id
    ),
    finished AS (
        UPDATE broadcasts
        SET moved_version = broadcasts.pause_version
        FROM moving
        WHERE broadcasts.message_id = moving.message_id AND (SELECT count(*) FROM page) < $6
    )
    SELECT
        max(page.recipient_id::text)::uuid AS last,
        count(*) AS rows,
        CASE WHEN NOT $5 AND count(*) > 0 THEN pg_notify($7, '')::text END AS woken
    FROM page
    """,
)


async def move(tx: Transaction, broadcast: Moving, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
    """Take up to ``limit`` rows of a paused broadcast out of the lanes, or put a resumed one's back.

    Answers how many, and the last one's id, after which the next page begins. The last page, with fewer than ``limit``,
    notes that all is done; so does the first of a broadcast of which nothing has come.
    """
    dispatched_at = broadcast.dispatched_at or _NEVER
    row = await tx.fetch_row(
        _MOVE,
        broadcast.message_id,
        broadcast.version,
        after or UUID(int=id_floor(dispatched_at).int - 1),
        id_ceiling(dispatched_at),
        broadcast.paused,
        limit,
        WORK_CHANNEL,
    )
    assert row is not None, "an aggregate has one row"  # noqa: S101
    return row["rows"], row["last"]
