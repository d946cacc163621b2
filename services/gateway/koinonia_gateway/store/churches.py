"""Churches."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "churches.insert",
    """
    INSERT INTO churches (church_id, name, timezone, region, status, version, created_at, updated_at)
    VALUES ($1, $2, $3, $4, 'active', 1, $5, $5)
    """,
)


async def insert(tx: Transaction, *, name: str, timezone: str, region: str, at: datetime) -> None:
    """Store the transaction's church, at version 1."""
    await tx.execute(_INSERT, tx.tenant, name, timezone, region, at)


_STATE = """
        church_id, name, timezone, region, status, version,
        quiet_from, quiet_until, require_mfa, default_number_id, retention_days,
        undo_seconds, approval_above, opt_out_line, weekly_limit"""

_FIND = statement(
    "churches.find",
    f"""
    SELECT
        {_STATE.strip()},
        created_at, updated_at,
        subscription_version > 0
            AND EXISTS (SELECT FROM branches WHERE is_default)
            AND EXISTS (SELECT FROM numbers WHERE status IN ('active', 'held')) AS ready
    FROM churches
    """,
)


async def find(tx: Transaction) -> asyncpg.Record | None:
    """The transaction's church, and whether it is ``ready`` to send: with a number, though that may be held."""
    return await tx.fetch_row(_FIND)


# Who waits here for another's change goes on with what that has written.
_LOCK = statement("churches.lock", f"SELECT {_STATE.strip()} FROM churches WHERE church_id = $1 FOR NO KEY UPDATE")


async def lock(tx: Transaction) -> asyncpg.Record | None:
    """The transaction's church; nobody else changes it until the transaction ends."""
    return await tx.fetch_row(_LOCK, tx.tenant)


_UPDATE = statement(
    "churches.update",
    f"""
    UPDATE churches
    SET
        name = $2, timezone = $3, quiet_from = $4, quiet_until = $5, require_mfa = $6, default_number_id = $7,
        retention_days = $8, undo_seconds = $9, approval_above = $10, opt_out_line = $11, weekly_limit = $12,
        version = version + 1, updated_at = $13
    WHERE church_id = $1
    RETURNING {_STATE.strip()}
    """,
)


async def update(
    tx: Transaction,
    *,
    name: str,
    timezone: str,
    quiet_from: str | None,
    quiet_until: str | None,
    require_mfa: bool,
    default_number_id: UUID | None,
    retention_days: int | None,
    undo_seconds: int,
    approval_above: int | None,
    opt_out_line: str | None,
    weekly_limit: int | None,
    at: datetime,
) -> asyncpg.Record | None:
    """Write the settings of a locked church; answers it at its next version."""
    values = (name, timezone, quiet_from, quiet_until, require_mfa, default_number_id, retention_days)
    return await tx.fetch_row(_UPDATE, tx.tenant, *values, undo_seconds, approval_above, opt_out_line, weekly_limit, at)


_UPDATE_STATUS = statement(
    "churches.update_status",
    f"""
    UPDATE churches
    SET status = $2, version = version + 1, updated_at = $3
    WHERE church_id = $1
    RETURNING {_STATE.strip()}
    """,
)


async def update_status(tx: Transaction, status: str, at: datetime) -> asyncpg.Record | None:
    """Suspend a locked church, or let it go on; answers it at its next version."""
    return await tx.fetch_row(_UPDATE_STATUS, tx.tenant, status, at)


# Locked in their order, so that two who tell of all do not wait for each other.
_ADVANCE = statement(
    "churches.advance",
    f"""
    WITH next AS MATERIALIZED (
        SELECT church_id AS id
        FROM churches
        WHERE ($1::uuid IS NULL OR church_id > $1) AND ($2::uuid IS NULL OR church_id = $2) AND status <> 'erased'
        ORDER BY church_id
        LIMIT $3
        FOR NO KEY UPDATE
    )
    UPDATE churches
    SET version = version + 1
    FROM next
    WHERE churches.church_id = next.id
    RETURNING {_STATE.strip()}
    """,
)


async def advance(
    tx: Transaction, limit: int, *, church_id: UUID | None = None, after: UUID | None = None
) -> list[asyncpg.Record]:
    """Give churches their next versions, settings as they are: this one, or in the order of their ids ``limit`` that
    come ``after``. Erased ones stay as they are. Needs a transaction across churches.
    """
    return await tx.fetch(_ADVANCE, after, church_id, limit)


_HAS_NUMBER = statement(
    "numbers.is_ours", "SELECT EXISTS (SELECT FROM numbers WHERE number_id = $1 AND status <> 'released')"
)


async def has_number(tx: Transaction, number_id: UUID) -> bool:
    """Whether a number is the church's own."""
    return bool(await tx.fetch_value(_HAS_NUMBER, number_id))


_UPDATE_SUBSCRIPTION = statement(
    "churches.update_subscription",
    """
    UPDATE churches
    SET subscription_status = $1, subscription_plan = $2, subscription_version = $3
    WHERE subscription_version < $3
    """,
)


async def update_subscription(tx: Transaction, status: str, plan: str, version: int) -> None:
    """Note the subscription, unless a newer one is known."""
    await tx.execute(_UPDATE_SUBSCRIPTION, status, plan, version)


_FIND_PLAN = statement(
    "churches.find_plan", "SELECT subscription_plan FROM churches WHERE subscription_status <> 'canceled'"
)


async def find_plan(tx: Transaction) -> str | None:
    """The plan that the transaction's church has; None: none, or it was told of before plans were noted."""
    plan: str | None = await tx.fetch_value(_FIND_PLAN)
    return plan
