"""Other services' facts, as far as messaging needs them: the newest version wins, and of two opt-outs the later act."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged

_SAVE_CHURCH = statement(
    "churches.save",
    """
    INSERT INTO churches (church_id, version, name, timezone, region, status)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (church_id) DO UPDATE
    SET version = excluded.version,
        name = excluded.name,
        timezone = excluded.timezone,
        region = excluded.region,
        status = excluded.status
    WHERE churches.version < excluded.version
    RETURNING xmax = 0
    """,
)


async def save_church(tx: Transaction, church: ChurchChanged) -> bool:
    """Keep a church's state unless a newer one is known; whether the church was unknown so far."""
    return bool(
        await tx.fetch_value(
            _SAVE_CHURCH, tx.tenant, church.version, church.name, church.timezone, church.region, church.status
        )
    )


_SAVE_NUMBER = statement(
    "numbers.save",
    """
    INSERT INTO numbers (number_id, church_id, version, phone, kind, status, is_default)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (number_id) DO UPDATE
    SET version = excluded.version,
        phone = excluded.phone,
        kind = excluded.kind,
        status = excluded.status,
        is_default = excluded.is_default
    WHERE numbers.version < excluded.version
    """,
)


async def save_number(tx: Transaction, number: NumberChanged) -> None:
    """Keep the state of one of the church's own numbers unless a newer one is known."""
    await tx.execute(
        _SAVE_NUMBER,
        number.number_id,
        tx.tenant,
        number.version,
        number.phone,
        number.kind,
        number.status,
        number.is_default,
    )


_SAVE_SUPPRESSION = statement(
    "suppressions.save",
    """
    INSERT INTO suppressions (church_id, phone_index, suppressed, occurred_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (church_id, phone_index) DO UPDATE
    SET suppressed = excluded.suppressed, occurred_at = excluded.occurred_at
    WHERE suppressions.occurred_at < excluded.occurred_at
        OR (suppressions.occurred_at = excluded.occurred_at AND excluded.suppressed)
    """,
)


async def save_suppression(tx: Transaction, change: SuppressionAdded | SuppressionRemoved) -> None:
    """Keep a number's last opt-out or its end: the later act holds, an opt-out on a tie."""
    suppressed = isinstance(change, SuppressionAdded)
    await tx.execute(_SAVE_SUPPRESSION, tx.tenant, change.phone_index, suppressed, change.occurred_at)


_FIND_OPT_OUTS = statement(
    "opt_outs.find",
    "SELECT phone_index FROM opt_outs WHERE phone_index = ANY($1::bytea[])",
)


async def find_opt_outs(tx: Transaction, phone_indexes: Sequence[bytes]) -> list[bytes]:
    """Those of the numbers whose consent an admin withdrew."""
    return [row["phone_index"] for row in await tx.fetch(_FIND_OPT_OUTS, phone_indexes)]


_ADD_OPT_OUT = statement(
    "opt_outs.add",
    """
    WITH added AS (
        INSERT INTO opt_outs (church_id, phone_index, occurred_at)
        VALUES ($1, $2, now())
        ON CONFLICT DO NOTHING
    )
    UPDATE members
    SET opted_in = false, version = version + 1, updated_at = now()
    WHERE phone_index = $2 AND id <> $3 AND opted_in AND deleted_at IS NULL
    RETURNING id
    """,
)


async def add_opt_out(tx: Transaction, phone_index: bytes, member_id: UUID) -> list[UUID]:
    """An admin withdraws consent of a number; returns who else shared it and has lost theirs."""
    return [row["id"] for row in await tx.fetch(_ADD_OPT_OUT, tx.tenant, phone_index, member_id)]


_REMOVE_OPT_OUT = statement("opt_outs.remove", "DELETE FROM opt_outs WHERE phone_index = $1")


async def remove_opt_out(tx: Transaction, phone_index: bytes) -> None:
    """An admin says that the number's people have consented again."""
    await tx.execute(_REMOVE_OPT_OUT, phone_index)
