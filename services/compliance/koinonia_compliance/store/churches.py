"""Churches' names and admins, and the platform's own numbers."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.security.identity import Role

_SAVE_CHURCH = statement(
    "churches.save",
    """
    INSERT INTO churches (church_id, version, name)
    VALUES ($1, $2, $3)
    ON CONFLICT (church_id) DO UPDATE
    SET version = excluded.version, name = excluded.name
    WHERE churches.version < excluded.version
    """,
)


async def save_church(tx: Transaction, name: str, version: int) -> None:
    """Keep the church's name, unless a newer one is known."""
    await tx.execute(_SAVE_CHURCH, tx.tenant, version, name)


_SAVE_ADMIN = statement(
    "admins.save",
    """
    INSERT INTO admins (admin_id, church_id, version, role, status)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (admin_id) DO UPDATE
    SET version = excluded.version, role = excluded.role, status = excluded.status
    WHERE admins.version < excluded.version
    """,
)


async def save_admin(tx: Transaction, admin_id: UUID, *, version: int, role: str, status: str) -> None:
    """Keep an admin's role, unless a newer state is known."""
    await tx.execute(_SAVE_ADMIN, admin_id, tx.tenant, version, role, status)


_LIST_ROLES = statement(
    "admins.list_roles", "SELECT admin_id, role FROM admins WHERE admin_id = ANY ($1::uuid[]) AND status <> 'removed'"
)


async def list_roles(tx: Transaction, actor_ids: Sequence[UUID]) -> dict[UUID, Role]:
    """The roles of those among them who work for the church now."""
    return {row["admin_id"]: row["role"] for row in await tx.fetch(_LIST_ROLES, actor_ids)}


_SAVE_NUMBER = statement(
    "own_numbers.save",
    """
    INSERT INTO own_numbers (number_id, version, phone_index, is_ours)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (number_id) DO UPDATE
    SET version = excluded.version, phone_index = excluded.phone_index, is_ours = excluded.is_ours
    WHERE own_numbers.version < excluded.version
    """,
)


async def save_number(tx: Transaction, number_id: UUID, *, version: int, phone_index: bytes, is_ours: bool) -> None:
    """Keep a number of the platform, unless a newer state is known; ``phone_index`` is the platform's."""
    await tx.execute(_SAVE_NUMBER, number_id, version, phone_index, is_ours)


_FIND_NAME = statement(
    "churches.find_name",
    """
    SELECT
        (SELECT name FROM churches WHERE church_id = $1) AS name,
        EXISTS (SELECT FROM own_numbers WHERE phone_index = $2 AND is_ours) AS is_ours
    """,
)


async def find_name(tx: Transaction, phone_index: bytes) -> tuple[str | None, bool]:
    """The church's name, if it is known, and whether the number with this platform index is one of our own."""
    row = await tx.fetch_row(_FIND_NAME, tx.tenant, phone_index)
    return (row["name"], row["is_ours"]) if row is not None else (None, False)
