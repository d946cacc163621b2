"""Invitations that wait to be accepted."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "invitations.insert",
    """
    INSERT INTO invitations (admin_id, church_id, digest, login_index, expires_at)
    VALUES ($1, $2, $3, $4, $5)
    """,
)


async def insert(tx: Transaction, admin_id: UUID, *, digest: bytes, login_index: bytes, expires_at: datetime) -> None:
    """Store an invitation; of its token the digest alone."""
    await tx.execute(_INSERT, admin_id, tx.tenant, digest, login_index, expires_at)


_FIND = statement(
    "invitations.find",
    """
    SELECT
        admin_id, invitations.church_id, expires_at, email_ciphertext, name AS church_name,
        EXISTS (SELECT FROM admins AS other WHERE other.login_index = invitations.login_index) AS is_taken
    FROM invitations
    JOIN admins ON admins.id = admin_id
    JOIN churches ON churches.church_id = invitations.church_id
    WHERE digest = $1 AND churches.status <> 'erased'
    """,
)


async def find(tx: Transaction, digest: bytes) -> asyncpg.Record | None:
    """The invitation behind a token, of whichever church, and whether its e-mail is somebody's login by now; needs a
    transaction across churches.
    """
    return await tx.fetch_row(_FIND, digest)


_DELETE = statement("invitations.delete", "DELETE FROM invitations WHERE admin_id = $1")


async def delete(tx: Transaction, admin_id: UUID) -> None:
    """Withdraw an invitation, if there is one."""
    await tx.execute(_DELETE, admin_id)


_LIST_CHURCHES_WITH_EXPIRED = statement(
    "invitations.list_churches_with_expired",
    "SELECT DISTINCT church_id FROM invitations WHERE expires_at <= $1 LIMIT $2",
)


async def list_churches_with_expired(tx: Transaction, now: datetime, limit: int) -> list[UUID]:
    """Churches that have invitations which have expired; needs a transaction across churches."""
    return [row["church_id"] for row in await tx.fetch(_LIST_CHURCHES_WITH_EXPIRED, now, limit)]
