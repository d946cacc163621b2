"""API keys."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "api_keys.insert",
    """
    INSERT INTO api_keys (id, church_id, public_id, secret_digest, name, role, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    RETURNING id, public_id, name, role, created_at, last_used_at, expires_at
    """,
)


async def insert(
    tx: Transaction,
    key_id: UUID,
    *,
    public_id: str,
    secret_digest: bytes,
    name: str,
    role: str,
    at: datetime,
    expires_at: datetime | None,
) -> asyncpg.Record | None:
    """Store a new key."""
    return await tx.fetch_row(_INSERT, key_id, tx.tenant, public_id, secret_digest, name, role, at, expires_at)


_FIND = statement(
    "api_keys.find",
    """
    SELECT id, public_id, name, role, created_at, last_used_at, expires_at
    FROM api_keys
    WHERE id = $1 AND revoked_at IS NULL
    """,
)


async def find(tx: Transaction, key_id: UUID) -> asyncpg.Record | None:
    """A key of the church that was not revoked."""
    return await tx.fetch_row(_FIND, key_id)


_LIST_PAGE = statement(
    "api_keys.list_page",
    """
    SELECT id, public_id, name, role, created_at, last_used_at, expires_at
    FROM api_keys
    WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR id < $1)
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """The church's keys, newest first."""
    return await tx.fetch(_LIST_PAGE, before, limit)


_ROTATE = statement(
    "api_keys.rotate",
    """
    UPDATE api_keys
    SET public_id = $2, secret_digest = $3
    WHERE id = $1 AND revoked_at IS NULL
    RETURNING id, public_id, name, role, created_at, last_used_at, expires_at
    """,
)


async def rotate(tx: Transaction, key_id: UUID, public_id: str, secret_digest: bytes) -> asyncpg.Record | None:
    """Give a key another secret; the old one opens nothing any more."""
    return await tx.fetch_row(_ROTATE, key_id, public_id, secret_digest)


_REVOKE = statement("api_keys.revoke", "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")


async def revoke(tx: Transaction, key_id: UUID, at: datetime) -> bool:
    """Revoke a key; False: there is none."""
    return await tx.execute(_REVOKE, key_id, at) == 1


_FIND_BY_PUBLIC_ID = statement(
    "api_keys.find_by_public_id",
    """
    SELECT id, church_id, secret_digest, role, last_used_at, expires_at
    FROM api_keys
    JOIN churches USING (church_id)
    WHERE public_id = $1 AND revoked_at IS NULL AND churches.status <> 'erased'
    """,
)


async def find_by_public_id(tx: Transaction, public_id: str) -> asyncpg.Record | None:
    """The key that a caller names, of whichever church; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_BY_PUBLIC_ID, public_id)


_TOUCH = statement("api_keys.touch", "UPDATE api_keys SET last_used_at = $2 WHERE id = $1")


async def touch(tx: Transaction, key_id: UUID, at: datetime) -> None:
    """Note that a key was used."""
    await tx.execute(_TOUCH, key_id, at)
