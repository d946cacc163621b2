"""API keys."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_COLUMNS = "id, public_id, name, role, kind, created_at, last_used_at, expires_at, successor_id, created_by"

_INSERT = statement(
    "api_keys.insert",
    f"""
    INSERT INTO api_keys (id, church_id, public_id, secret_digest, name, role, kind, created_at, expires_at, created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING {_COLUMNS}
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
    kind: str,
    at: datetime,
    expires_at: datetime | None,
    admin_id: UUID | None,
) -> asyncpg.Record | None:
    """Store a new key; ``admin_id``: who made it."""
    values = (public_id, secret_digest, name, role, kind, at, expires_at, admin_id)
    return await tx.fetch_row(_INSERT, key_id, tx.tenant, *values)


_FIND = statement(
    "api_keys.find",
    f"""
    SELECT {_COLUMNS}
    FROM api_keys
    WHERE id = $1 AND revoked_at IS NULL
    """,
)


async def find(tx: Transaction, key_id: UUID) -> asyncpg.Record | None:
    """A key of the church that was not revoked."""
    return await tx.fetch_row(_FIND, key_id)


_LIST_PAGE = statement(
    "api_keys.list_page",
    f"""
    SELECT {_COLUMNS}
    FROM api_keys
    WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR id < $1)
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """The church's keys, newest first."""
    return await tx.fetch(_LIST_PAGE, before, limit)


# Of two rotations at once the second waits for the row, and then finds it succeeded.
_ROTATE = statement(
    "api_keys.rotate",
    f"""
    WITH before AS MATERIALIZED (
        SELECT id, church_id, name, role, kind, expires_at, created_by
        FROM api_keys
        WHERE id = $1 AND revoked_at IS NULL AND successor_id IS NULL AND (expires_at IS NULL OR expires_at > $5)
        FOR UPDATE
    ),
    ending AS (
        UPDATE api_keys
        SET successor_id = $2, expires_at = least(api_keys.expires_at, $6)
        FROM before
        WHERE api_keys.id = before.id
    )
    INSERT INTO api_keys (id, church_id, public_id, secret_digest, name, role, kind, created_at, expires_at, created_by)
    SELECT
        $2, before.church_id, $3, $4, before.name, before.role, before.kind, $5, before.expires_at,
        coalesce($7, before.created_by)
    FROM before
    RETURNING {_COLUMNS}
    """,
)


async def rotate(
    tx: Transaction,
    key_id: UUID,
    successor_id: UUID,
    *,
    public_id: str,
    secret_digest: bytes,
    at: datetime,
    ends_at: datetime,
    admin_id: UUID | None,
) -> asyncpg.Record | None:
    """Make a key's successor, and let the key itself end at ``ends_at``, or earlier if it was to; None: it has one
    already, has expired, was revoked, or there is none. ``admin_id``: who does so; None: the key itself, which stays
    whose it was.
    """
    return await tx.fetch_row(_ROTATE, key_id, successor_id, public_id, secret_digest, at, ends_at, admin_id)


_REVOKE = statement("api_keys.revoke", "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")


async def revoke(tx: Transaction, key_id: UUID, at: datetime) -> bool:
    """Revoke a key; False: there is none."""
    return await tx.execute(_REVOKE, key_id, at) == 1


_FIND_BY_PUBLIC_ID = statement(
    "api_keys.find_by_public_id",
    """
    SELECT
        id, church_id, secret_digest, role, kind, last_used_at, expires_at, churches.status AS church_status
    FROM api_keys
    JOIN churches USING (church_id)
    WHERE public_id = $1 AND revoked_at IS NULL AND churches.status <> 'erased'
    """,
)


async def find_by_public_id(tx: Transaction, public_id: str) -> asyncpg.Record | None:
    """The key that a caller names, of whichever church; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_BY_PUBLIC_ID, public_id)


_TOUCH = statement(
    "api_keys.touch",
    "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)",
)


async def touch(tx: Transaction, key_id: UUID, at: datetime, unless_since: datetime) -> None:
    """Note that a key was used, unless another replica has noted a use since a time."""
    await tx.execute(_TOUCH, key_id, at, unless_since)
