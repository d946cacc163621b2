"""Sessions and their refresh tokens."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "sessions.insert",
    """
    WITH session AS (
        INSERT INTO sessions (
            id, church_id, admin_id, user_agent, address, created_at, last_used_at, expires_at, mfa_verified
        )
        VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $10)
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
    mfa_verified: bool = False,
) -> None:
    """Begin a session with its first refresh token."""
    values = (user_agent, address, at, expires_at, digest, refresh_expires_at, mfa_verified)
    await tx.execute(_INSERT, session_id, tx.tenant, admin_id, *values)


_FIND_STATE = statement(
    "sessions.find_state",
    """
    SELECT sessions.admin_id, mfa_verified, role, require_mfa, churches.status AS church_status
    FROM sessions
    JOIN admins ON admins.id = sessions.admin_id
    JOIN churches ON churches.church_id = sessions.church_id
    WHERE sessions.id = $1 AND ended_at IS NULL AND expires_at > $2
        -- One that awaits the second factor, and one whose login was on its way while its admin turned that on.
        AND (
            mfa_verified
            OR NOT EXISTS (
                SELECT FROM totp_factors WHERE admin_id = sessions.admin_id AND confirmed_at IS NOT NULL
            )
        )
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


# Both rows are locked: of a row that is not, a waiter would go on with what it saw before it waited. The session comes
# first, as where it is deleted with its tokens.
_LOCK_TOKEN = statement(
    "refresh_tokens.lock",
    """
    SELECT
        token.expires_at, token.replaced_at,
        session.id AS session_id, session.admin_id, session.ended_at, session.expires_at AS session_expires_at,
        session.mfa_verified
    FROM refresh_tokens AS token
    JOIN sessions AS session ON session.id = token.session_id
    WHERE token.digest = $1
    FOR UPDATE OF session, token
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


# In the order of their ids: two that end them at once must not wait for each other.
_END_ALL = statement(
    "sessions.end_all",
    """
    UPDATE sessions
    SET ended_at = $3, end_reason = $4
    WHERE ended_at IS NULL AND id = ANY (ARRAY(
        SELECT id
        FROM sessions
        WHERE admin_id = $1 AND id IS DISTINCT FROM $2::uuid AND ended_at IS NULL
        ORDER BY id
        FOR UPDATE
    ))
    RETURNING id
    """,
)


async def end_all(tx: Transaction, admin_id: UUID, keep: UUID | None, reason: str, at: datetime) -> list[UUID]:
    """End an admin's sessions, but for the one to ``keep``; answers which."""
    return [row["id"] for row in await tx.fetch(_END_ALL, admin_id, keep, at, reason)]


_END_OWN = statement(
    "sessions.end_own",
    "UPDATE sessions SET ended_at = $3, end_reason = $4 WHERE id = $1 AND admin_id = $2 AND ended_at IS NULL",
)


async def end_own(tx: Transaction, session_id: UUID, admin_id: UUID, reason: str, at: datetime) -> bool:
    """End a session of this admin; False: there is none that has not ended."""
    return await tx.execute(_END_OWN, session_id, admin_id, at, reason) == 1


_LIST_PAGE = statement(
    "sessions.list_page",
    """
    SELECT id, user_agent, address, created_at, last_used_at, expires_at
    FROM sessions
    WHERE admin_id = $1 AND NOT awaits_mfa AND ended_at IS NULL AND expires_at > $2 AND last_used_at > $3
        AND ($4::uuid IS NULL OR id < $4)
    ORDER BY id DESC
    LIMIT $5
    """,
)


async def list_page(
    tx: Transaction, admin_id: UUID, *, now: datetime, used_after: datetime, before: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """An admin's sessions that can still be used, newest first."""
    return await tx.fetch(_LIST_PAGE, admin_id, now, used_after, before, limit)


_DELETE_OF_ADMIN = statement(
    "sessions.delete_of_admin",
    """
    DELETE FROM sessions
    WHERE id = ANY (ARRAY(SELECT id FROM sessions WHERE admin_id = $1 ORDER BY id FOR UPDATE))
    RETURNING id
    """,
)


async def delete_of_admin(tx: Transaction, admin_id: UUID) -> list[UUID]:
    """Delete all sessions of an admin, with their tokens; answers which."""
    return [row["id"] for row in await tx.fetch(_DELETE_OF_ADMIN, admin_id)]


# It waits for nobody: what somebody holds is deleted next time.
_DELETE_EXPIRED = statement(
    "sessions.delete_expired",
    """
    DELETE FROM sessions
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM sessions
        WHERE expires_at < $1
        ORDER BY expires_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ))
    """,
)


async def delete_expired(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete sessions that expired before a time, with their tokens; answers how many. Across churches."""
    return await tx.execute(_DELETE_EXPIRED, before, limit)


_INSERT_AWAITING = statement(
    "sessions.insert_awaiting",
    """
    INSERT INTO sessions (
        id, church_id, admin_id, awaits_mfa, user_agent, address, created_at, last_used_at, expires_at
    )
    VALUES ($1, $2, $3, true, $4, $5, $6, $6, $7)
    """,
)


async def insert_awaiting(
    tx: Transaction,
    session_id: UUID,
    admin_id: UUID,
    *,
    user_agent: str,
    address: str,
    at: datetime,
    expires_at: datetime,
) -> None:
    """Note a login that still awaits the second factor: a session that nothing opens yet."""
    await tx.execute(_INSERT_AWAITING, session_id, tx.tenant, admin_id, user_agent, address, at, expires_at)


_ADMIT = statement(
    "sessions.admit",
    """
    WITH admitted AS (
        UPDATE sessions
        SET awaits_mfa = false, mfa_verified = true, last_used_at = $3, expires_at = $4
        WHERE id = $1 AND admin_id = $2 AND awaits_mfa AND ended_at IS NULL AND expires_at > $3
        RETURNING id, church_id
    )
    INSERT INTO refresh_tokens (digest, church_id, session_id, expires_at)
    SELECT $5, church_id, id, $6 FROM admitted
    """,
)


async def admit(
    tx: Transaction,
    session_id: UUID,
    admin_id: UUID,
    *,
    at: datetime,
    expires_at: datetime,
    digest: bytes,
    refresh_expires_at: datetime,
) -> bool:
    """Begin an awaiting session with its first refresh token; False: it has begun before, has ended or run out."""
    return await tx.execute(_ADMIT, session_id, admin_id, at, expires_at, digest, refresh_expires_at) == 1


_AWAITS = statement(
    "sessions.awaits",
    """
    SELECT true
    FROM sessions
    WHERE id = $1 AND admin_id = $2 AND awaits_mfa AND ended_at IS NULL AND expires_at > $3
    """,
)


async def awaits(tx: Transaction, session_id: UUID, admin_id: UUID, now: datetime) -> bool:
    """Whether a session still awaits the second factor of this admin."""
    return bool(await tx.fetch_value(_AWAITS, session_id, admin_id, now))


_FIND_EXPIRY = statement(
    "sessions.find_expiry",
    "SELECT expires_at FROM sessions WHERE id = $1 AND admin_id = $2 AND ended_at IS NULL",
)


async def find_expiry(tx: Transaction, session_id: UUID, admin_id: UUID) -> datetime | None:
    """Until when an admin's session lives in any case; None: it has ended."""
    expires_at: datetime | None = await tx.fetch_value(_FIND_EXPIRY, session_id, admin_id)
    return expires_at
