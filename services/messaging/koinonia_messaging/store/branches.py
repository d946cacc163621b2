"""Branches, as rows."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.api.branches import Branch
from koinonia.db import Transaction, statement

_INSERT = statement(
    "branches.insert",
    """
    INSERT INTO branches (id, church_id, version, name, description, is_default, created_at, updated_at)
    VALUES ($1, $2, 1, $3, $4, $5, $6, $6)
    ON CONFLICT DO NOTHING
    """,
)


async def insert(
    tx: Transaction, branch_id: UUID, *, name: str, description: str, is_default: bool, at: datetime
) -> bool:
    """Add a branch; False when its name is taken."""
    return await tx.execute(_INSERT, branch_id, tx.tenant, name, description, is_default, at) > 0


_FIND = statement(
    "branches.find",
    "SELECT id, name, description, is_default, created_at, updated_at FROM branches WHERE id = $1",
)


async def find(tx: Transaction, branch_id: UUID) -> Branch | None:
    row = await tx.fetch_row(_FIND, branch_id)
    return None if row is None else _branch(row)


_LIST_PAGE = statement(
    "branches.list_page",
    """
    SELECT id, name, description, is_default, created_at, updated_at
    FROM branches
    WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[Branch]:
    """Branches, newest first, from after ``before`` on."""
    return [_branch(row) for row in await tx.fetch(_LIST_PAGE, before, limit)]


_UPDATE = statement(
    "branches.update",
    """
    UPDATE branches
    SET name = coalesce($2, name),
        description = coalesce($3, description),
        version = version + 1,
        updated_at = $4
    WHERE id = $1
    RETURNING version
    """,
)


async def update(
    tx: Transaction, branch_id: UUID, *, name: str | None, description: str | None, at: datetime
) -> int | None:
    """Change a branch; its new version, or None when there is none.

    Raises:
        asyncpg.UniqueViolationError: the name is taken.
    """
    version: int | None = await tx.fetch_value(_UPDATE, branch_id, name, description, at)
    return version


_DELETE = statement(
    "branches.delete",
    """
    DELETE FROM branches
    WHERE id = $1
        AND NOT is_default
        AND NOT EXISTS (SELECT FROM members WHERE branch_id = $1 AND deleted_at IS NULL)
        AND NOT EXISTS (SELECT FROM groups WHERE branch_id = $1)
    RETURNING version
    """,
)
_RELEASE_DELETED_MEMBERS = statement(
    "branches.release_deleted_members",
    """
    UPDATE members
    SET branch_id = (SELECT id FROM branches WHERE is_default)
    WHERE branch_id = $1 AND deleted_at IS NOT NULL
    """,
)


async def delete(tx: Transaction, branch_id: UUID) -> int | None:
    """Delete a branch that is empty and not the default; its last version, or None when it is not so."""
    await tx.execute(_RELEASE_DELETED_MEMBERS, branch_id)
    version: int | None = await tx.fetch_value(_DELETE, branch_id)
    return version


def _branch(row: asyncpg.Record) -> Branch:
    return Branch(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        is_default=row["is_default"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
