"""What the carrier refuses as a whole: a number, all numbers of a church, the platform's account. Across churches.

A refused number stays as claimable as it was: its clock rests for a while, then one text tries again. What is accepted
from it ends the refusal.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_delivery.store.numbers import Number


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier takes nothing from a number, or from any number of its church."""

    number_id: UUID
    church_id: UUID | None  # None: from this number alone
    code: str | None
    reason: str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A number that the carrier refuses from now on, or no more, and whose it is."""

    church_id: UUID
    number: Number


_COLUMNS = """
        numbers.id, numbers.church_id, numbers.phone, numbers.kind, numbers.segments_per_second, numbers.status,
        numbers.is_default, numbers.version, numbers.created_at, numbers.paused_at, numbers.refusal_reason"""

# One that is refused already is only dated anew. Numbers are locked in the order of their ids.
_REFUSE = statement(
    "numbers.refuse",
    f"""
    WITH refusal AS MATERIALIZED (
        SELECT refusal.*
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS refusal (number_id, church_id, code, reason)
    ),
    locked AS MATERIALIZED (
        SELECT numbers.id, numbers.church_id, numbers.refused_at IS NULL AS is_new
        FROM numbers
        WHERE numbers.id = ANY ($1::uuid[]) OR numbers.church_id = ANY ($2::uuid[])
        ORDER BY numbers.id
        FOR UPDATE OF numbers
    ),
    refused AS (
        SELECT DISTINCT ON (locked.id) locked.id, locked.is_new, refusal.code, refusal.reason
        FROM locked
        JOIN refusal ON refusal.number_id = locked.id OR refusal.church_id = locked.church_id
        ORDER BY locked.id
    )
    UPDATE numbers
    SET refused_at = clock_timestamp(), refusal_code = refused.code, refusal_reason = refused.reason,
        version = numbers.version + refused.is_new::integer
    FROM refused
    WHERE numbers.id = refused.id
    RETURNING {_COLUMNS}, refused.is_new
    """,
)


async def refuse(tx: Transaction, refusals: Sequence[Refusal]) -> list[Changed]:
    """Note refusals; answers the numbers of which it is news."""
    rows = await tx.fetch(
        _REFUSE,
        [each.number_id for each in refusals],
        [each.church_id for each in refusals],
        [each.code for each in refusals],
        [each.reason for each in refusals],
    )
    return [_changed(dict(row)) for row in rows if row["is_new"]]


_REFUSE_ACCOUNT = statement(
    "carrier_account.refuse",
    """
    WITH before AS MATERIALIZED (
        SELECT refused_at FROM carrier_account FOR UPDATE
    )
    UPDATE carrier_account
    SET refused_at = clock_timestamp(), refusal_code = $1, refusal_reason = $2
    RETURNING (SELECT before.refused_at IS NULL FROM before)
    """,
)


async def refuse_account(tx: Transaction, code: str | None, reason: str) -> bool:
    """Note that the carrier refuses the platform's account; whether it is news."""
    return bool(await tx.fetch_value(_REFUSE_ACCOUNT, code, reason))


# A call that began before the refusal may be accepted after it: only what was accepted long after ends it.
_ACCEPT = statement(
    "numbers.accept",
    f"""
    WITH account AS (
        UPDATE carrier_account
        SET refused_at = NULL, refusal_code = NULL, refusal_reason = NULL
        WHERE refused_at < clock_timestamp() - make_interval(secs => $2)
    )
    UPDATE numbers
    SET refused_at = NULL, refusal_code = NULL, refusal_reason = NULL, version = version + 1
    WHERE id = ANY ($1::uuid[]) AND refused_at < clock_timestamp() - make_interval(secs => $2)
    RETURNING {_COLUMNS}
    """,
)


async def accept(tx: Transaction, number_ids: Sequence[UUID], after_seconds: float) -> list[Changed]:
    """Note that the carrier has accepted texts of these numbers; answers those that it had refused."""
    return [_changed(dict(row)) for row in await tx.fetch(_ACCEPT, list(number_ids), after_seconds)]


def _changed(row: dict[str, object]) -> Changed:
    row.pop("is_new", None)
    return msgspec.convert({"church_id": row.pop("church_id"), "number": row}, Changed, builtin_types=())
