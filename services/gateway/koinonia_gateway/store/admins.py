"""Admins, and how a login finds its church."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.security.identity import Role

_INSERT = statement(
    "admins.insert",
    """
    INSERT INTO admins (
        id, church_id, first_name, last_name, email_ciphertext, login_index, password_hash, role, status, version,
        created_at
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'active', 1, $9)
    ON CONFLICT (login_index) DO NOTHING
    """,
)


async def insert(
    tx: Transaction,
    admin_id: UUID,
    *,
    first_name: str,
    last_name: str,
    email_ciphertext: bytes,
    login_index: bytes,
    password_hash: str,
    role: Role,
    at: datetime,
) -> bool:
    """Store an admin of the transaction's church; False: somebody logs in with this e-mail already."""
    values = (first_name, last_name, email_ciphertext, login_index, password_hash, role, at)
    return await tx.execute(_INSERT, admin_id, tx.tenant, *values) == 1


_FIND_LOGIN = statement(
    "admins.find_login",
    """
    SELECT admins.id, church_id, password_hash
    FROM admins
    JOIN churches USING (church_id)
    WHERE login_index = $1 AND admins.status = 'active' AND churches.status <> 'erased'
    """,
)


async def find_login(tx: Transaction, login_index: bytes) -> asyncpg.Record | None:
    """The account behind an e-mail, of whichever church; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_LOGIN, login_index)


_FIND_WITH_CHURCH = statement(
    "admins.find_with_church",
    """
    SELECT
        admins.id, admins.church_id, first_name, last_name, email_ciphertext, role, admins.created_at,
        churches.name AS church_name, churches.timezone, churches.created_at AS church_created_at
    FROM admins
    JOIN churches USING (church_id)
    WHERE admins.id = $1
    """,
)


async def find_with_church(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """An admin and the church."""
    return await tx.fetch_row(_FIND_WITH_CHURCH, admin_id)


_UPDATE_PASSWORD_HASH = statement("admins.update_password_hash", "UPDATE admins SET password_hash = $2 WHERE id = $1")


async def update_password_hash(tx: Transaction, admin_id: UUID, password_hash: str) -> None:
    """Store the hash of the same password at today's cost."""
    await tx.execute(_UPDATE_PASSWORD_HASH, admin_id, password_hash)
