"""A church's numbers, the wishes for them, and what is known of the church."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement

NumberKind = Literal["long_code", "toll_free", "short_code"]
NumberStatus = Literal["pending", "active", "held", "released"]


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a church sends from."""

    id: UUID
    phone: str
    kind: NumberKind
    segments_per_second: float
    status: NumberStatus
    is_default: bool
    version: int
    created_at: datetime


_LIST = statement(
    "numbers.list_page",
    """
    SELECT id, phone, kind, segments_per_second, status, is_default, version, created_at
    FROM numbers
    WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[Number]:
    """A page of the church's numbers, newest first."""
    return [_number(row) for row in await tx.fetch(_LIST, before, limit)]


_INSERT = statement(
    "numbers.insert",
    """
    INSERT INTO numbers (id, church_id, phone, kind, segments_per_second, messaging_profile_id, status, is_default)
    SELECT
        $1, $2, $3, $4, $5, $6, 'active',
        NOT EXISTS (SELECT FROM numbers WHERE numbers.church_id = $2 AND numbers.is_default)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, phone, kind, segments_per_second, status, is_default, version, created_at
    """,
)


async def insert(
    tx: Transaction,
    number_id: UUID,
    *,
    phone: str,
    kind: NumberKind,
    segments_per_second: float,
    messaging_profile_id: str,
) -> Number | None:
    """Add an active number, the church's default if it has none; None: it is there already."""
    row = await tx.fetch_row(_INSERT, number_id, tx.tenant, phone, kind, segments_per_second, messaging_profile_id)
    return None if row is None else _number(row)


_CHANGE_CHURCH = statement(
    "churches.change",
    """
    INSERT INTO churches (church_id, version, status)
    VALUES ($1, $2, $3)
    ON CONFLICT (church_id) DO UPDATE
    SET version = excluded.version, status = excluded.status
    WHERE churches.version < excluded.version
    """,
)


async def change_church(tx: Transaction, version: int, status: str) -> bool:
    """Note a church as of ``version``; False: a newer state is known already."""
    return await tx.execute(_CHANGE_CHURCH, tx.tenant, version, status) == 1


_ORDER = statement(
    "number_orders.insert",
    """
    INSERT INTO number_orders (id, church_id)
    VALUES ($1, $2)
    ON CONFLICT (church_id) DO NOTHING
    """,
)


async def order(tx: Transaction, order_id: UUID) -> None:
    """Save the wish for the church's first number, once."""
    await tx.execute(_ORDER, order_id, tx.tenant)


_SET_STATUS = statement(
    "numbers.set_status",
    """
    UPDATE numbers
    SET status = $2, version = version + 1
    WHERE status = $1
    RETURNING id, phone, kind, segments_per_second, status, is_default, version, created_at
    """,
)


async def set_status(tx: Transaction, was: NumberStatus, becomes: NumberStatus) -> list[Number]:
    """Move all numbers of the church from one status to another; answers those that moved."""
    return [_number(row) for row in await tx.fetch(_SET_STATUS, was, becomes)]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for a number, and how far the carrier has come with it. Its id is the reference at the carrier."""

    id: UUID
    church_id: UUID
    messaging_profile_id: str | None
    phone: str | None
    order_id: str | None
    tries: int


_TAKE_DUE = statement(
    "number_orders.take_due",
    """
    WITH due AS MATERIALIZED (
        SELECT id
        FROM number_orders
        WHERE completed_at IS NULL AND next_try_at <= clock_timestamp()
        ORDER BY next_try_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE number_orders
    SET next_try_at = clock_timestamp() + make_interval(secs => $2), tries = number_orders.tries + 1
    FROM due
    WHERE number_orders.id = due.id
    RETURNING
        number_orders.id, number_orders.church_id, number_orders.messaging_profile_id, number_orders.phone,
        number_orders.order_id, number_orders.tries
    """,
)


async def take_due(tx: Transaction, limit: int, lease_seconds: float) -> list[Order]:
    """Wishes to work on, across churches; nobody else takes them for so long."""
    return [
        Order(
            id=row["id"],
            church_id=row["church_id"],
            messaging_profile_id=row["messaging_profile_id"],
            phone=row["phone"],
            order_id=row["order_id"],
            tries=row["tries"],
        )
        for row in await tx.fetch(_TAKE_DUE, limit, lease_seconds)
    ]


_NOTE_PROGRESS = statement(
    "number_orders.note_progress",
    """
    UPDATE number_orders
    SET messaging_profile_id = $2, phone = $3, order_id = $4
    WHERE id = $1
    """,
)


async def note_progress(tx: Transaction, order: Order) -> None:
    """Keep how far a wish has come."""
    await tx.execute(_NOTE_PROGRESS, order.id, order.messaging_profile_id, order.phone, order.order_id)


_TRY_AGAIN = statement(
    "number_orders.try_again",
    "UPDATE number_orders SET next_try_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
)


async def try_again(tx: Transaction, order_id: UUID, seconds: float) -> None:
    """Take a wish up again in so many seconds."""
    await tx.execute(_TRY_AGAIN, order_id, seconds)


_COMPLETE = statement(
    "number_orders.complete",
    "UPDATE number_orders SET completed_at = clock_timestamp() WHERE id = $1 AND completed_at IS NULL",
)


async def complete(tx: Transaction, order_id: UUID) -> None:
    """The wish is fulfilled."""
    await tx.execute(_COMPLETE, order_id)


def _number(row: asyncpg.Record) -> Number:
    return Number(
        id=row["id"],
        phone=row["phone"],
        kind=row["kind"],
        segments_per_second=row["segments_per_second"],
        status=row["status"],
        is_default=row["is_default"],
        version=row["version"],
        created_at=row["created_at"],
    )
