"""Reservations: what broadcasts may use until they are completed."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT_EXPECTED = statement(
    "reservations.insert_expected",
    """
    INSERT INTO reservations (message_id, church_id, version, status, segment_bound)
    VALUES ($1, $2, 0, 'expected', $3)
    ON CONFLICT (message_id) DO NOTHING
    """,
)


async def insert_expected(tx: Transaction, message_id: UUID, segment_bound: int) -> None:
    """Note a broadcast that was accepted and is not due yet; nothing is reserved."""
    await tx.execute(_INSERT_EXPECTED, message_id, tx.tenant, segment_bound)


_FIND = statement(
    "reservations.find",
    """
    SELECT version, status, segment_bound, used_segments, credited_segments, credited_cents
    FROM reservations
    WHERE message_id = $1
    """,
)


async def find(tx: Transaction, message_id: UUID) -> asyncpg.Record | None:
    """The reservation of a message; stable while the church's subscription is locked."""
    return await tx.fetch_row(_FIND, message_id)


_UPSERT = statement(
    "reservations.upsert",
    """
    INSERT INTO reservations (message_id, church_id, version, status, segment_bound, authorized_at)
    VALUES ($1, $2, $3, $4, $5, CASE WHEN $4 = 'reserved' THEN clock_timestamp() END)
    ON CONFLICT (message_id) DO UPDATE
    SET version = excluded.version, status = excluded.status, segment_bound = excluded.segment_bound,
        authorized_at = coalesce(reservations.authorized_at, excluded.authorized_at), changed_at = clock_timestamp()
    """,
)


async def upsert(tx: Transaction, message_id: UUID, *, version: int, status: str, segment_bound: int) -> None:
    """Store the answer to the question of this version."""
    await tx.execute(_UPSERT, message_id, tx.tenant, version, status, segment_bound)


_CREDIT = statement(
    "reservations.credit",
    """
    UPDATE reservations
    SET credited_segments = $2, credited_cents = $3, changed_at = clock_timestamp()
    WHERE message_id = $1
    """,
)


async def credit(tx: Transaction, message_id: UUID, *, segments: int, cents: int) -> None:
    """Note what a cancelled message has given back."""
    await tx.execute(_CREDIT, message_id, segments, cents)


_FIND_AUTHORIZED_AT = statement(
    "reservations.find_authorized_at",
    "SELECT authorized_at FROM reservations WHERE message_id = $1 AND church_id = $2",
)


async def find_authorized_at(tx: Transaction, message_id: UUID) -> datetime | None:
    """When a broadcast was first authorized."""
    found: datetime | None = await tx.fetch_value(_FIND_AUTHORIZED_AT, message_id, tx.tenant)
    return found


_USE = statement(
    "reservations.use",
    """
    UPDATE reservations
    SET used_segments = used_segments + change.segments
    FROM unnest($1::uuid[], $2::integer[]) AS change (message_id, segments)
    WHERE reservations.message_id = change.message_id
    RETURNING
        church_id,
        CASE WHEN status = 'reserved'
            THEN greatest(segment_bound - used_segments, 0)
                - greatest(segment_bound - used_segments + change.segments, 0)
            ELSE 0
        END AS reserved
    """,
)


async def use(tx: Transaction, message_ids: Sequence[UUID], segments: Sequence[int]) -> list[asyncpg.Record]:
    """Count what messages have used; answers ``church_id`` and the change of what each holds ``reserved`` (≤ 0)."""
    return await tx.fetch(_USE, message_ids, segments)
