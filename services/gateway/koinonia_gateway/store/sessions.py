"""Sessions and their refresh tokens."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "sessions.insert",
    """
    WITH session AS (
        INSERT INTO sessions (id, church_id, admin_id, user_agent, address, created_at, last_used_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
        RETURNING id, church_id
    )
    INSERT INTO refresh_tokens (digest, church_id, session_id, expires_at)
    SELECT $8, church_id, id, $9 FROM session
    """,
)


async def insert(
    tx: Transaction,
    session_id: UUID,
    admin_id: UUID,
    *,
    user_agent: str,
    address: str,
    at: datetime,
    expires_at: datetime,
    digest: bytes,
    refresh_expires_at: datetime,
) -> None:
    """Begin a session with its first refresh token."""
    values = (user_agent, address, at, expires_at, digest, refresh_expires_at)
    await tx.execute(_INSERT, session_id, tx.tenant, admin_id, *values)


_FIND_STATE = statement(
    "sessions.find_state",
    """
    SELECT sessions.admin_id, mfa_verified, role
    FROM sessions
    JOIN admins ON admins.id = sessions.admin_id
    JOIN churches ON churches.church_id = sessions.church_id
    WHERE sessions.id = $1 AND ended_at IS NULL AND expires_at > $2
        AND admins.status = 'active' AND churches.status <> 'erased'
    """,
)


async def find_state(tx: Transaction, session_id: UUID, now: datetime) -> asyncpg.Record | None:
    """Who a session is and what that admin may, while it lives."""
    return await tx.fetch_row(_FIND_STATE, session_id, now)


_FIND_TOKEN = statement(
    "refresh_tokens.find", "SELECT church_id, session_id, expires_at FROM refresh_tokens WHERE digest = $1"
)


async def find_token(tx: Transaction, digest: bytes) -> asyncpg.Record | None:
    """Whose a refresh token is; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_TOKEN, digest)


# Both rows are locked: of a row that is not, a waiter would go on with what it saw before it waited.
_LOCK_TOKEN = statement(
    "refresh_tokens.lock",
    """
    SELECT
        token.expires_at, token.replaced_at,
        session.id AS session_id, session.admin_id, session.ended_at, session.expires_at AS session_expires_at
    FROM refresh_tokens AS token
    JOIN sessions AS session ON session.id = token.session_id
    WHERE token.digest = $1
    FOR UPDATE OF token, session
    """,
)


async def lock_token(tx: Transaction, digest: bytes) -> asyncpg.Record | None:
    """A refresh token with its session; nobody else turns them until the transaction ends."""
    return await tx.fetch_row(_LOCK_TOKEN, digest)


_REPLACE_TOKEN = statement(
    "refresh_tokens.replace",
    """
    WITH replaced AS (
        UPDATE refresh_tokens SET replaced_at = $3 WHERE digest = $1 RETURNING church_id, session_id
    ), used AS (
        UPDATE sessions SET last_used_at = $3 FROM replaced WHERE sessions.id = replaced.session_id
    )
    INSERT INTO refresh_tokens (digest, church_id, session_id, expires_at)
    SELECT $2, church_id, session_id, $4 FROM replaced
    """,
)


async def replace_token(tx: Transaction, old: bytes, new: bytes, *, at: datetime, expires_at: datetime) -> None:
    """Put a new refresh token in the place of a locked one."""
    await tx.execute(_REPLACE_TOKEN, old, new, at, expires_at)


_END = statement(
    "sessions.end",
    """
    UPDATE sessions
    SET ended_at = $2, end_reason = $3
    WHERE id = $1 AND ended_at IS NULL
    RETURNING admin_id
    """,
)


async def end(tx: Transaction, session_id: UUID, reason: str, at: datetime) -> UUID | None:
    """End a session with all its tokens; answers whose it was, None when it had ended."""
    admin_id: UUID | None = await tx.fetch_value(_END, session_id, at, reason)
    return admin_id


_DELETE_EXPIRED = statement(
    "sessions.delete_expired",
    """
    DELETE FROM sessions
    WHERE id = ANY (ARRAY(SELECT id FROM sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2))
    """,
)


async def delete_expired(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete sessions that expired before a time, with their tokens; answers how many. Across churches."""
    return await tx.execute(_DELETE_EXPIRED, before, limit)
