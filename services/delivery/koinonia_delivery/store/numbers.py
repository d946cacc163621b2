"""A church's numbers, the wishes for them, and what is known of the church."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement

NumberKind = Literal["long_code", "toll_free", "short_code"]
NumberStatus = Literal["pending", "active", "held", "released"]
HoldReason = Literal["suspended", "church_paused", "paused", "carrier"]


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a church sends from. ``status`` is what claims go by: a refused one is tried again by itself."""

    id: UUID
    phone: str
    kind: NumberKind
    segments_per_second: float
    status: NumberStatus
    is_default: bool
    version: int
    created_at: datetime
    paused_at: datetime | None = None
    refusal_reason: str | None = None  # what the carrier says, of this number or of the platform's account
    church_status: str = "active"
    church_paused_at: datetime | None = None

    @property
    def hold_reason(self) -> HoldReason | None:
        """Why nothing is sent from it now, the weightiest first; None: it sends."""
        if self.status not in ("active", "held"):
            return None
        if self.church_status != "active":
            return "suspended"
        if self.church_paused_at is not None:
            return "church_paused"
        if self.paused_at is not None:
            return "paused"
        return "carrier" if self.refusal_reason is not None else None

    @property
    def shown_status(self) -> NumberStatus:
        """The status as others see it."""
        return "held" if self.hold_reason is not None else self.status


_SHOWN = """
        numbers.id, numbers.phone, numbers.kind, numbers.segments_per_second, numbers.status, numbers.is_default,
        numbers.version, numbers.created_at, numbers.paused_at,
        coalesce(numbers.refusal_reason, (SELECT refusal_reason FROM carrier_account)) AS refusal_reason,
        coalesce((SELECT status FROM churches), 'active') AS church_status,
        (SELECT sending_paused_at FROM churches) AS church_paused_at"""
"""A number's columns, in a transaction of its church."""

_LIST = statement(
    "numbers.list_page",
    f"""
    SELECT {_SHOWN}
    FROM numbers
    WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[Number]:
    """A page of the church's numbers, newest first."""
    return [_number(row) for row in await tx.fetch(_LIST, before, limit)]


_FIND = statement("numbers.find", f"SELECT {_SHOWN} FROM numbers WHERE id = $1")


async def find(tx: Transaction, number_id: UUID) -> Number | None:
    """One of the church's numbers."""
    row = await tx.fetch_row(_FIND, number_id)
    return None if row is None else _number(row)


# The church's row is locked: its pause either is seen here, or sees this number.
_INSERT = statement(
    "numbers.insert",
    f"""
    WITH church AS MATERIALIZED (
        SELECT status, sending_paused_at FROM churches FOR SHARE
    )
    INSERT INTO numbers (id, church_id, phone, kind, segments_per_second, messaging_profile_id, status, is_default)
    SELECT
        $1, $2, $3, $4, $5, $6,
        CASE WHEN EXISTS (SELECT FROM church WHERE status <> 'active' OR sending_paused_at IS NOT NULL)
            THEN 'held' ELSE 'active'
        END,
        NOT EXISTS (SELECT FROM numbers WHERE numbers.church_id = $2 AND numbers.is_default)
    ON CONFLICT (id) DO NOTHING
    RETURNING {_SHOWN}
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
    """Add a number that sends unless its church rests, the default if there is none; None: it is there already."""
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


_PAUSE_CHURCH = statement(
    "churches.pause_sending",
    """
    INSERT INTO churches (church_id, version, status, sending_version, sending_paused_at)
    VALUES ($1, 0, 'active', $2, $3)
    ON CONFLICT (church_id) DO UPDATE
    SET sending_version = excluded.sending_version, sending_paused_at = excluded.sending_paused_at
    WHERE churches.sending_version < excluded.sending_version
    """,
)


async def pause_church(tx: Transaction, version: int, paused_at: datetime | None) -> bool:
    """Note whether the church has paused its sending, as of ``version``; False: a newer state is known already."""
    return await tx.execute(_PAUSE_CHURCH, tx.tenant, version, paused_at) == 1


_JUDGE = statement(
    "numbers.judge",
    f"""
    WITH judged AS MATERIALIZED (
        SELECT
            numbers.id,
            CASE
                WHEN numbers.paused_at IS NOT NULL
                    OR EXISTS (SELECT FROM churches WHERE status <> 'active' OR sending_paused_at IS NOT NULL)
                    THEN 'held'
                ELSE 'active'
            END AS status
        FROM numbers
        WHERE numbers.status IN ('active', 'held')
        ORDER BY numbers.id
        FOR UPDATE OF numbers
    )
    UPDATE numbers
    SET status = judged.status, version = version + 1
    FROM judged
    WHERE numbers.id = judged.id AND numbers.status <> judged.status
    RETURNING {_SHOWN}
    """,
)


async def judge(tx: Transaction) -> list[Number]:
    """Hold or free the church's numbers by what was noted of it and of them; answers those that changed."""
    return [_number(row) for row in await tx.fetch(_JUDGE)]


_PAUSE = statement(
    "numbers.pause",
    f"""
    UPDATE numbers
    SET paused_at = clock_timestamp(), version = version + 1
    WHERE id = $1 AND paused_at IS NULL AND status IN ('active', 'held')
    RETURNING {_SHOWN}
    """,
)


async def pause(tx: Transaction, number_id: UUID) -> Number | None:
    """Note that a person pauses a number; None: it is paused, or there is no such one. `judge` follows."""
    row = await tx.fetch_row(_PAUSE, number_id)
    return None if row is None else _number(row)


_FORGIVEN = "refused_at = NULL, refusal_code = NULL, refusal_reason = NULL, version = version + 1"
_RESUME = statement(
    "numbers.resume",
    f"""
    UPDATE numbers
    SET paused_at = NULL, {_FORGIVEN},
        next_free_at = CASE WHEN refused_at IS NULL THEN next_free_at ELSE clock_timestamp() END
    WHERE id = $1 AND (paused_at IS NOT NULL OR refused_at IS NOT NULL)
    RETURNING {_SHOWN}
    """,
)


async def resume(tx: Transaction, number_id: UUID) -> Number | None:
    """End a number's pause and what the carrier's refusal holds; None: nothing holds it. `judge` follows."""
    row = await tx.fetch_row(_RESUME, number_id)
    return None if row is None else _number(row)


_FORGIVE = statement(
    "numbers.forgive",
    f"""
    UPDATE numbers
    SET {_FORGIVEN}, next_free_at = clock_timestamp()
    WHERE refused_at IS NOT NULL
    RETURNING {_SHOWN}
    """,
)


async def forgive(tx: Transaction) -> list[Number]:
    """End what the carrier's refusals hold of the church's numbers; answers those that changed."""
    return [_number(row) for row in await tx.fetch(_FORGIVE)]


# The lanes are locked before the numbers, as in a claim: whoever changes a clock holds its church's lane.
_REST = statement(
    "numbers.rest",
    """
    WITH rest AS MATERIALIZED (
        SELECT rest.* FROM unnest($1::uuid[], $2::uuid[], $3::float8[]) AS rest (church_id, number_id, seconds)
    ),
    lane AS MATERIALIZED (
        SELECT lanes.church_id
        FROM lanes
        WHERE lanes.church_id = ANY ($1::uuid[])
        ORDER BY lanes.church_id
        FOR UPDATE
    )
    UPDATE numbers
    SET next_free_at = greatest(numbers.next_free_at, clock_timestamp() + make_interval(secs => resting.seconds))
    FROM (
        SELECT numbers.id, max(rest.seconds) AS seconds
        FROM rest
        JOIN numbers
            ON numbers.church_id = rest.church_id AND (rest.number_id IS NULL OR numbers.id = rest.number_id)
        WHERE (SELECT count(*) FROM lane) >= 0
        GROUP BY numbers.id
    ) AS resting
    WHERE numbers.id = resting.id
    """,
)


async def rest(tx: Transaction, rests: Sequence[tuple[UUID, UUID | None, float]]) -> None:
    """Let numbers rest: churches, the number or None for all of its church, and seconds."""
    await tx.execute(
        _REST,
        [church_id for church_id, _, _ in rests],
        [number_id for _, number_id, _ in rests],
        [seconds for _, _, seconds in rests],
    )


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
        paused_at=row["paused_at"],
        refusal_reason=row["refusal_reason"],
        church_status=row["church_status"],
        church_paused_at=row["church_paused_at"],
    )
