"""Other services' facts, as far as messaging needs them: the newest version wins, and of two opt-outs the later act."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.quiet_hours import QuietHours
from koinonia_messaging.domain.approvals import SendingRules

_SAVE_CHURCH = statement(
    "churches.save",
    """
    INSERT INTO churches (
        church_id, version, name, timezone, region, status, undo_seconds, approval_above, opt_out_line,
        default_number_id, quiet_from, quiet_until, weekly_limit
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (church_id) DO UPDATE
    SET version = excluded.version,
        name = excluded.name,
        timezone = excluded.timezone,
        region = excluded.region,
        status = excluded.status,
        undo_seconds = excluded.undo_seconds,
        approval_above = excluded.approval_above,
        opt_out_line = excluded.opt_out_line,
        default_number_id = excluded.default_number_id,
        quiet_from = excluded.quiet_from,
        quiet_until = excluded.quiet_until,
        weekly_limit = excluded.weekly_limit
    WHERE churches.version < excluded.version
    RETURNING xmax = 0
    """,
)


async def save_church(tx: Transaction, church: ChurchChanged) -> bool:
    """Keep a church's state unless a newer one is known; whether the church was unknown so far."""
    return bool(
        await tx.fetch_value(
            _SAVE_CHURCH,
            tx.tenant,
            church.version,
            church.name,
            church.timezone,
            church.region,
            church.status,
            church.undo_seconds,
            church.approval_above,
            church.opt_out_line,
            church.default_number_id,
            church.quiet_from,
            church.quiet_until,
            church.weekly_limit,
        )
    )


QUIET_HOURS = """(
            SELECT ARRAY[timezone, quiet_from, quiet_until] FROM churches WHERE quiet_from IS NOT NULL
        ) AS quiet_hours"""


def hours_of(row: asyncpg.Record) -> QuietHours | None:
    """The church's quiet hours, by the column of ``QUIET_HOURS``."""
    return None if row["quiet_hours"] is None else QuietHours(*row["quiet_hours"])


RULES = f"""
        undo_seconds, approval_above, weekly_limit, {QUIET_HOURS},
        (
            SELECT number_id
            FROM numbers
            WHERE number_id = churches.default_number_id AND status IN ('active', 'held')
        ) AS rule_number_id"""
_FIND_RULES = statement("churches.find_rules", f"SELECT {RULES} FROM churches")


async def find_rules(tx: Transaction) -> SendingRules:
    """What the church wants of each message; nothing while it is not known."""
    row = await tx.fetch_row(_FIND_RULES)
    return SendingRules() if row is None else rules_of(row)


def rules_of(row: asyncpg.Record) -> SendingRules:
    """The rules by the columns of ``RULES``; a number that cannot send is none."""
    return SendingRules(
        undo_seconds=row["undo_seconds"] or 0,
        approval_above=row["approval_above"],
        number_id=row["rule_number_id"],
        quiet_hours=hours_of(row),
        weekly_limit=row["weekly_limit"],
    )


_FIND_TIMEZONE = statement("churches.find_timezone", "SELECT timezone FROM churches")


async def find_timezone(tx: Transaction) -> str | None:
    """The church's zone; None while it is not known."""
    timezone: str | None = await tx.fetch_value(_FIND_TIMEZONE)
    return timezone


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


_IS_SUPPRESSED = statement(
    "suppressions.is_suppressed", "SELECT EXISTS (SELECT FROM suppressions WHERE phone_index = $1 AND suppressed)"
)


async def is_suppressed(tx: Transaction, phone_index: bytes) -> bool:
    """Whether a number has opted out, as far as compliance has told."""
    return bool(await tx.fetch_value(_IS_SUPPRESSED, phone_index))


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
