"""Churches."""

from datetime import datetime

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


_FIND = statement(
    "churches.find",
    """
    SELECT
        church_id, name, timezone, region, status, version, created_at, updated_at,
        subscription_version > 0
            AND EXISTS (SELECT FROM branches WHERE is_default)
            AND EXISTS (SELECT FROM numbers WHERE status = 'active') AS ready
    FROM churches
    """,
)


async def find(tx: Transaction) -> asyncpg.Record | None:
    """The transaction's church, and whether it is ``ready`` to send."""
    return await tx.fetch_row(_FIND)


_UPDATE = statement(
    "churches.update",
    """
    UPDATE churches
    SET name = coalesce($1, name), timezone = coalesce($2, timezone), version = version + 1, updated_at = $3
    RETURNING name, timezone, region, status, version
    """,
)


async def update(tx: Transaction, *, name: str | None, timezone: str | None, at: datetime) -> asyncpg.Record | None:
    """Change what is given; answers the church at its next version."""
    return await tx.fetch_row(_UPDATE, name, timezone, at)


_UPDATE_SUBSCRIPTION = statement(
    "churches.update_subscription",
    "UPDATE churches SET subscription_status = $1, subscription_version = $2 WHERE subscription_version < $2",
)


async def update_subscription(tx: Transaction, status: str, version: int) -> None:
    """Note the subscription, unless a newer one is known."""
    await tx.execute(_UPDATE_SUBSCRIPTION, status, version)
