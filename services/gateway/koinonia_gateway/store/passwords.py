"""Passwords of admins, and the tokens that set a forgotten one anew."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_FIND = statement(
    "passwords.find",
    """
    SELECT password_hash, password_version, email_ciphertext, churches.name AS church_name
    FROM admins
    JOIN churches USING (church_id)
    WHERE admins.id = $1 AND admins.status = 'active'
    """,
)


async def find(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """An admin's password, and what a new one may not contain."""
    return await tx.fetch_row(_FIND, admin_id)


# Who comes second waits for the row, and then sees another version.
_CHANGE = statement(
    "passwords.change",
    """
    UPDATE admins
    SET password_hash = $3, password_version = password_version + 1
    FROM churches
    WHERE admins.id = $1 AND password_version = $2 AND admins.status = 'active'
        AND churches.church_id = admins.church_id
    RETURNING admins.id, first_name, email_ciphertext, churches.name AS church_name
    """,
)


async def change(tx: Transaction, admin_id: UUID, version: int, password_hash: str) -> asyncpg.Record | None:
    """Replace this version of an admin's password; None: another has replaced it already."""
    return await tx.fetch_row(_CHANGE, admin_id, version, password_hash)


_INSERT_RESET = statement(
    "password_resets.insert",
    """
    WITH account AS (
        SELECT admins.id, church_id, password_version, first_name, email_ciphertext, churches.name AS church_name
        FROM admins
        JOIN churches USING (church_id)
        WHERE login_index = $1 AND admins.status = 'active' AND churches.status <> 'erased'
    ), made AS (
        INSERT INTO password_resets (digest, church_id, admin_id, password_version, expires_at)
        SELECT $2, church_id, id, password_version, $3 FROM account
    )
    SELECT id, church_id, first_name, email_ciphertext, church_name FROM account
    """,
)


async def insert_reset(
    tx: Transaction, login_index: bytes, digest: bytes, expires_at: datetime
) -> asyncpg.Record | None:
    """Store a token for the account behind an e-mail, of any church; None: there is no account. Across churches."""
    return await tx.fetch_row(_INSERT_RESET, login_index, digest, expires_at)


_FIND_RESET = statement(
    "password_resets.find",
    """
    SELECT admins.church_id, email_ciphertext, churches.name AS church_name
    FROM password_resets AS reset
    JOIN admins ON admins.id = reset.admin_id AND admins.password_version = reset.password_version
    JOIN churches ON churches.church_id = admins.church_id
    WHERE digest = $1 AND expires_at > $2 AND admins.status = 'active' AND churches.status <> 'erased'
    """,
)


async def find_reset(tx: Transaction, digest: bytes, now: datetime) -> asyncpg.Record | None:
    """Whose password a token sets, while it is good; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_RESET, digest, now)


_RESET = statement(
    "passwords.reset",
    """
    UPDATE admins
    SET password_hash = $3, password_version = admins.password_version + 1
    FROM password_resets AS reset, churches
    WHERE reset.digest = $1 AND reset.expires_at > $2 AND admins.id = reset.admin_id
        AND admins.password_version = reset.password_version AND admins.status = 'active'
        AND churches.church_id = admins.church_id
    RETURNING admins.id, first_name, email_ciphertext, churches.name AS church_name
    """,
)


async def reset(tx: Transaction, digest: bytes, now: datetime, password_hash: str) -> asyncpg.Record | None:
    """Set the password that a token is for; None: it is not good any more."""
    return await tx.fetch_row(_RESET, digest, now, password_hash)


_DELETE_EXPIRED_RESETS = statement(
    "password_resets.delete_expired",
    """
    DELETE FROM password_resets
    WHERE digest = ANY (ARRAY(SELECT digest FROM password_resets WHERE expires_at < $1 ORDER BY expires_at LIMIT $2))
    """,
)


async def delete_expired_resets(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete tokens that expired before a time; answers how many. Across churches."""
    return await tx.execute(_DELETE_EXPIRED_RESETS, before, limit)
