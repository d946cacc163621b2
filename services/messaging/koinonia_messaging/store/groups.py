"""Groups and who is in them, as rows; each group keeps its count.

Whoever changes members or memberships holds ``members.lock`` of the church, so that counts stay true and locks have one
order.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.api.groups import Group
from koinonia.db import Transaction, statement

_COLUMNS = "id, name, description, branch_id, member_count, created_at, updated_at"

_INSERT = statement(
    "groups.insert",
    """
    INSERT INTO groups (id, church_id, name, description, branch_id, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $6)
    ON CONFLICT DO NOTHING
    """,
)


async def insert(
    tx: Transaction, group_id: UUID, *, name: str, description: str, branch_id: UUID | None, at: datetime
) -> bool:
    """Add a group; False when its name is taken."""
    return await tx.execute(_INSERT, group_id, tx.tenant, name, description, branch_id, at) > 0


_FIND = statement("groups.find", f"SELECT {_COLUMNS} FROM groups WHERE id = $1")


async def find(tx: Transaction, group_id: UUID) -> Group | None:
    row = await tx.fetch_row(_FIND, group_id)
    return None if row is None else _group(row)


_LIST_PAGE = statement(
    "groups.list_page",
    f"SELECT {_COLUMNS} FROM groups WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[Group]:
    """Groups, newest first, from after ``before`` on."""
    return [_group(row) for row in await tx.fetch(_LIST_PAGE, before, limit)]


_UPDATE = statement(
    "groups.update",
    """
    UPDATE groups
    SET name = coalesce($2, name),
        description = coalesce($3, description),
        branch_id = CASE WHEN $4 THEN $5::uuid ELSE branch_id END,
        updated_at = $6
    WHERE id = $1
    """,
)


async def update(
    tx: Transaction,
    group_id: UUID,
    *,
    name: str | None,
    description: str | None,
    moves: bool,
    branch_id: UUID | None,
    at: datetime,
) -> bool:
    """Change a group, its branch where it ``moves``; False when there is none.

    Raises:
        asyncpg.UniqueViolationError: the name is taken.
    """
    return await tx.execute(_UPDATE, group_id, name, description, moves, branch_id, at) > 0


_DELETE = statement(
    "groups.delete",
    """
    WITH gone AS (
        DELETE FROM groups WHERE id = $1 RETURNING *
    )
    INSERT INTO deleted_groups (
        id, church_id, name, description, branch_id, member_count, member_ids, created_at, updated_at, deleted_at
    )
    SELECT
        id, church_id, name, description, branch_id, member_count,
        ARRAY(SELECT member_id FROM group_members WHERE group_id = $1),  -- as they were before this statement
        created_at, updated_at, $2
    FROM gone
    """,
)


async def delete(tx: Transaction, group_id: UUID, at: datetime) -> bool:
    """Delete a group, and keep who was in it; its members stay."""
    return await tx.execute(_DELETE, group_id, at) > 0


_LIST_DELETED = statement(
    "groups.list_deleted",
    f"""
    SELECT {_COLUMNS}, deleted_at
    FROM deleted_groups
    WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_deleted(tx: Transaction, before: UUID | None, limit: int) -> list[Group]:
    """Deleted groups, made last first, from after ``before`` on."""
    return [_group(row, row["deleted_at"]) for row in await tx.fetch(_LIST_DELETED, before, limit)]


# Whoever was merged into another meanwhile comes as that one; whoever is deleted comes with their own return.
_RESTORE = statement(
    "groups.restore",
    """
    WITH back AS (
        DELETE FROM deleted_groups WHERE id = $1 RETURNING *
    ),
    person AS (
        SELECT DISTINCT coalesce(members.merged_into, members.id) AS id
        FROM back
        CROSS JOIN unnest(back.member_ids) AS was (id)
        JOIN members ON members.id = was.id
    ),
    joined AS (
        INSERT INTO group_members (group_id, member_id, church_id)
        SELECT $1, members.id, members.church_id
        FROM person
        JOIN members ON members.id = person.id
        WHERE members.deleted_at IS NULL
        RETURNING member_id
    ),
    awaited AS (
        UPDATE members
        SET left_groups = array_append(array_remove(left_groups, $1), $1)
        FROM person
        WHERE members.id = person.id AND members.deleted_at IS NOT NULL
    )
    INSERT INTO groups (id, church_id, name, description, branch_id, member_count, created_at, updated_at)
    SELECT
        back.id, back.church_id, back.name, back.description, branches.id, (SELECT count(*) FROM joined),
        back.created_at, $2
    FROM back
    LEFT JOIN branches ON branches.id = back.branch_id
    """,
)


async def restore(tx: Transaction, group_id: UUID, at: datetime) -> bool:
    """Bring a deleted group back with who was in it and is there; of the whole church, where its branch is gone.

    False when there is none.

    Raises:
        asyncpg.UniqueViolationError: another group has its name by now.
    """
    return await tx.execute(_RESTORE, group_id, at) > 0


_AWAIT_GROUPS = statement(
    "groups.await",
    "UPDATE deleted_groups SET member_ids = array_append(member_ids, $1) WHERE id = ANY ($2::uuid[])",
)


async def await_groups(tx: Transaction, member_id: UUID, group_ids: Sequence[UUID]) -> None:
    """Let a member come into those of these groups that are deleted, when they are brought back."""
    await tx.execute(_AWAIT_GROUPS, member_id, group_ids)


_ADD_MEMBERS = statement(
    "groups.add_members",
    """
    WITH added AS (
        INSERT INTO group_members (group_id, member_id, church_id)
        SELECT DISTINCT group_id, member_id, $3::uuid
        FROM unnest($1::uuid[], $2::uuid[]) AS wanted (group_id, member_id)
        ON CONFLICT DO NOTHING
        RETURNING group_id
    ), counted AS (
        SELECT group_id, count(*) AS members FROM added GROUP BY group_id
    )
    UPDATE groups SET member_count = member_count + members FROM counted WHERE groups.id = counted.group_id
    """,
)


async def add_members(tx: Transaction, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Put members into groups, ``(group, member)`` each; both are the church's. Who is in already stays."""
    await tx.execute(_ADD_MEMBERS, [group for group, _ in pairs], [member for _, member in pairs], tx.tenant)


_REMOVE_MEMBERS = statement(
    "groups.remove_members",
    """
    WITH removed AS (
        DELETE FROM group_members WHERE group_id = $1 AND member_id = ANY($2::uuid[]) RETURNING group_id
    )
    UPDATE groups SET member_count = member_count - (SELECT count(*) FROM removed) WHERE id = $1
    """,
)


async def remove_members(tx: Transaction, group_id: UUID, member_ids: Sequence[UUID]) -> None:
    """Take members out of a group; who is out already stays so."""
    await tx.execute(_REMOVE_MEMBERS, group_id, member_ids)


_LEAVE = statement(
    "groups.leave",
    """
    WITH removed AS (
        DELETE FROM group_members WHERE member_id = $1 AND group_id <> ALL($2::uuid[]) RETURNING group_id
    )
    UPDATE groups SET member_count = member_count - 1 FROM removed WHERE groups.id = removed.group_id
    """,
)


async def leave(tx: Transaction, member_id: UUID, staying_in: Sequence[UUID] = ()) -> None:
    """Take a member out of all groups but some."""
    await tx.execute(_LEAVE, member_id, staying_in)


def _group(row: asyncpg.Record, deleted_at: datetime | None = None) -> Group:
    return Group(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        branch_id=row["branch_id"],
        member_count=row["member_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=deleted_at,
    )
