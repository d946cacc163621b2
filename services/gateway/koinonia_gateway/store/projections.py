"""What other services said of branches and numbers."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_UPSERT_BRANCH = statement(
    "branches.upsert",
    """
    INSERT INTO branches (branch_id, church_id, is_default, version)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (branch_id) DO UPDATE
    SET is_default = excluded.is_default, version = excluded.version
    WHERE branches.version < excluded.version
    """,
)


async def upsert_branch(tx: Transaction, branch_id: UUID, *, is_default: bool, version: int) -> None:
    """Note a branch, unless a newer state is known."""
    await tx.execute(_UPSERT_BRANCH, branch_id, tx.tenant, is_default, version)


_UPSERT_NUMBER = statement(
    "numbers.upsert",
    """
    INSERT INTO numbers (number_id, church_id, phone, status, version)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (number_id) DO UPDATE
    SET phone = excluded.phone, status = excluded.status, version = excluded.version
    WHERE numbers.version < excluded.version
    """,
)


async def upsert_number(tx: Transaction, number_id: UUID, *, phone: str, status: str, version: int) -> None:
    """Note a number, unless a newer state is known."""
    await tx.execute(_UPSERT_NUMBER, number_id, tx.tenant, phone, status, version)


_FIND_NUMBER = statement(
    "numbers.find_by_phone",
    """
    SELECT number_id, church_id
    FROM numbers
    WHERE phone = $1 AND status <> 'released'
    ORDER BY number_id DESC
    LIMIT 1
    """,
)


async def find_number(tx: Transaction, phone: str) -> asyncpg.Record | None:
    """Whose a number is; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_NUMBER, phone)


_FIND_OLDEST_INBOUND = statement(
    "outbox.find_oldest_inbound", "SELECT min(created_at) FROM outbox WHERE type = 'carrier.message.received'"
)


async def find_oldest_inbound(tx: Transaction) -> datetime | None:
    """Since when the oldest inbound text waits for the broker; None: none waits. Across churches."""
    oldest: datetime | None = await tx.fetch_value(_FIND_OLDEST_INBOUND)
    return oldest
