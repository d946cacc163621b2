"""Admins, and how a login finds its church."""

from collections.abc import Sequence
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
    SELECT admins.id, church_id, password_hash, password_version
    FROM admins
    JOIN churches USING (church_id)
    WHERE login_index = $1 AND admins.status = 'active' AND churches.status <> 'erased'
    """,
)


async def find_login(tx: Transaction, login_index: bytes) -> asyncpg.Record | None:
    """The account behind an e-mail, of whichever church; needs a transaction across churches."""
    return await tx.fetch_row(_FIND_LOGIN, login_index)


_WITH_CHURCH = """
    SELECT
        admins.id, admins.church_id, first_name, last_name, email_ciphertext, role, admins.created_at,
        EXISTS (
            SELECT FROM totp_factors WHERE admin_id = admins.id AND confirmed_at IS NOT NULL
        ) AS mfa_enabled,
        churches.name AS church_name, churches.timezone, churches.created_at AS church_created_at
    FROM admins
    JOIN churches USING (church_id)
    WHERE admins.id = $1 AND admins.status = 'active'
    """

_FIND_WITH_CHURCH = statement("admins.find_with_church", _WITH_CHURCH)


async def find_with_church(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """An admin who has a login, and the church."""
    return await tx.fetch_row(_FIND_WITH_CHURCH, admin_id)


_FIND_PASSWORD_HASH = statement("admins.find_password_hash", "SELECT password_hash FROM admins WHERE id = $1")


async def find_password_hash(tx: Transaction, admin_id: UUID) -> str | None:
    """What an admin's password is compared with."""
    found: str | None = await tx.fetch_value(_FIND_PASSWORD_HASH, admin_id)
    return found


# One lock from the beginning: two logins that both renew the hash would else wait for each other.
_LOCK_WITH_CHURCH = statement(
    "admins.lock_with_church",
    f"{_WITH_CHURCH} AND password_version = $2 FOR NO KEY UPDATE OF admins",
)


async def lock_with_church(tx: Transaction, admin_id: UUID, password_version: int) -> asyncpg.Record | None:
    """An admin and the church, while the password is this one; it stays so until the transaction ends."""
    return await tx.fetch_row(_LOCK_WITH_CHURCH, admin_id, password_version)


_LOCK = statement("admins.lock", "SELECT status = 'active' FROM admins WHERE id = $1 FOR NO KEY UPDATE")


async def lock(tx: Transaction, admin_id: UUID) -> bool:
    """Let nobody else change what belongs to an admin until the transaction ends; False: there is no login (any more).

    Who locks more than this row locks in one order, so that no two wait for each other: church, admin, second factor,
    sessions by their ids, refresh tokens.
    """
    return bool(await tx.fetch_value(_LOCK, admin_id))


_UPDATE_PASSWORD_HASH = statement(
    "admins.update_password_hash", "UPDATE admins SET password_hash = $2 WHERE id = $1 AND status = 'active'"
)


async def update_password_hash(tx: Transaction, admin_id: UUID, password_hash: str) -> None:
    """Store the hash of the same password at today's cost, unless the admin was removed meanwhile."""
    await tx.execute(_UPDATE_PASSWORD_HASH, admin_id, password_hash)


# Its key stays free: whoever logs in refers to the church's row.
_LOCK_CHURCH = statement("admins.lock_church", "SELECT name FROM churches FOR NO KEY UPDATE")


async def lock_church(tx: Transaction) -> str:
    """Let nobody else change the church's admins until the transaction ends; answers the church's name."""
    return str(await tx.fetch_value(_LOCK_CHURCH))


_SHOWN = """
        id, first_name, last_name, email_ciphertext, role, status, version, created_at,
        (SELECT expires_at FROM invitations WHERE admin_id = admins.id) AS invitation_expires_at"""

_LIST_DECIDING = statement(
    "admins.list_deciding",
    f"""
    SELECT {_SHOWN}
    FROM admins
    WHERE (id = ANY ($1::uuid[]) AND status <> 'removed') OR (role = 'owner' AND status = 'active')
    """,
)


async def list_deciding(tx: Transaction, *admin_ids: UUID) -> dict[UUID, asyncpg.Record]:
    """These admins, and all owners who have a login: what decides whether one may be changed."""
    return {row["id"]: row for row in await tx.fetch(_LIST_DECIDING, admin_ids)}


_LIST_PAGE = statement(
    "admins.list_page",
    f"""
    SELECT {_SHOWN}
    FROM admins
    WHERE status <> 'removed' AND ($1::uuid IS NULL OR id < $1)
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[asyncpg.Record]:
    """The church's admins and who is invited, newest first."""
    return await tx.fetch(_LIST_PAGE, before, limit)


_FIND = statement("admins.find", f"SELECT {_SHOWN} FROM admins WHERE id = $1 AND status <> 'removed'")


async def find(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """An admin of the church, or who is invited."""
    return await tx.fetch_row(_FIND, admin_id)


_LIST_BY_ROLES = statement(
    "admins.list_by_roles",
    """
    SELECT admins.id, first_name, last_name, email_ciphertext, churches.name AS church_name
    FROM admins
    JOIN churches USING (church_id)
    WHERE admins.status = 'active' AND churches.status = 'active' AND (role = ANY ($1::text[]) OR admins.id = $2)
    ORDER BY admins.id
    """,
)


async def list_by_roles(tx: Transaction, roles: Sequence[Role], also: UUID | None) -> list[asyncpg.Record]:
    """The admins of an active church who have one of these roles, and this one whatever the role."""
    return await tx.fetch(_LIST_BY_ROLES, list(roles), also)


_IS_KNOWN = statement(
    "admins.is_known",
    """
    SELECT EXISTS (SELECT FROM admins WHERE login_index = $1)
        OR EXISTS (SELECT FROM invitations WHERE login_index = $1)
    """,
)


async def is_known(tx: Transaction, login_index: bytes) -> bool:
    """Whether somebody with this e-mail is an admin of the transaction's church, or invited."""
    return bool(await tx.fetch_value(_IS_KNOWN, login_index))


_INVITE = statement(
    "admins.invite",
    """
    INSERT INTO admins (id, church_id, first_name, last_name, email_ciphertext, role, status, version, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, 'invited', 1, $7)
    """,
)


async def invite(
    tx: Transaction,
    admin_id: UUID,
    *,
    first_name: str,
    last_name: str,
    email_ciphertext: bytes,
    role: Role,
    at: datetime,
) -> None:
    """Store who is invited: without a login."""
    await tx.execute(_INVITE, admin_id, tx.tenant, first_name, last_name, email_ciphertext, role, at)


# The token is good once: of two who show it the second waits for the row, and finds it gone.
_JOIN = statement(
    "admins.join",
    """
    WITH invitation AS (
        DELETE FROM invitations
        WHERE digest = $1 AND expires_at > $2
        RETURNING admin_id, login_index
    )
    UPDATE admins
    SET
        first_name = $3, last_name = $4, password_hash = $5, login_index = invitation.login_index,
        status = 'active', version = version + 1
    FROM invitation
    WHERE id = invitation.admin_id
    RETURNING
        id, admins.first_name, admins.last_name, email_ciphertext, role, status, version, created_at,
        NULL::timestamptz AS invitation_expires_at
    """,
)


async def join(
    tx: Transaction, digest: bytes, *, first_name: str, last_name: str, password_hash: str, at: datetime
) -> asyncpg.Record | None:
    """Give who shows an invitation's token a login; None: it is no longer good."""
    return await tx.fetch_row(_JOIN, digest, at, first_name, last_name, password_hash)


_UPDATE_ROLE = statement(
    "admins.update_role",
    f"UPDATE admins SET role = $2, version = version + 1 WHERE id = $1 RETURNING {_SHOWN}",
)


async def update_role(tx: Transaction, admin_id: UUID, role: Role) -> asyncpg.Record | None:
    """Give an admin another role."""
    return await tx.fetch_row(_UPDATE_ROLE, admin_id, role)


_REMOVE_EXPIRED = statement(
    "admins.remove_expired",
    """
    WITH expired AS (
        DELETE FROM invitations WHERE expires_at <= $1 RETURNING admin_id
    )
    UPDATE admins
    SET status = 'removed', version = version + 1, email_ciphertext = NULL
    FROM expired
    WHERE id = expired.admin_id AND status = 'invited'
    RETURNING id, role, status, version
    """,
)


async def remove_expired(tx: Transaction, now: datetime) -> list[asyncpg.Record]:
    """Take away the church's invitations that have expired, and the e-mails of who was invited."""
    return await tx.fetch(_REMOVE_EXPIRED, now)


_REMOVE = statement(
    "admins.remove",
    """
    UPDATE admins
    SET
        status = 'removed', version = version + 1,
        login_index = NULL, password_hash = NULL, email_ciphertext = NULL
    WHERE id = $1
    RETURNING version
    """,
)


async def remove(tx: Transaction, admin_id: UUID) -> int:
    """Take an admin's login and e-mail away; the name stays. Answers the next version."""
    return int(await tx.fetch_value(_REMOVE, admin_id))
