"""Groups of members."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET

from koinonia import clock
from koinonia.api.groups import RESTORE, Group, GroupPatch, GroupQuery, GroupRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, Forbidden, NotFound, ValidationFailed
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import branches as branch_store
from koinonia_messaging.store import groups as group_store
from koinonia_messaging.store import members as member_store


async def fetch(tx: Transaction, group_id: UUID) -> Group:
    """One group.

    Raises:
        NotFound: the church has no such group.
    """
    group = await group_store.find(tx, group_id)
    if group is None:
        raise NotFound
    return group


async def create(tx: Transaction, actor: Identity, request: GroupRequest) -> Group:
    """Make a group.

    Raises:
        Conflict: its name is taken.
        ValidationFailed: there is no such branch.
    """
    await _check_branch(tx, request.branch_id)
    group_id = new_id()
    if not await group_store.insert(
        tx,
        group_id,
        name=request.name.strip(),
        description=request.description,
        branch_id=request.branch_id,
        at=clock.now(),
    ):
        raise Conflict("A group has this name.")
    await outbox.add(tx, acted(actor, "group.created", "group", group_id))
    return await fetch(tx, group_id)


async def change(tx: Transaction, actor: Identity, group_id: UUID, patch: GroupPatch) -> Group:
    """Change a group; a name that is taken ends in the door's 409.

    Raises:
        NotFound: the church has no such group.
        ValidationFailed: there is no such branch.
    """
    branch_id = None if patch.branch_id is UNSET else patch.branch_id
    await _check_branch(tx, branch_id)
    if not await group_store.update(
        tx,
        group_id,
        name=None if patch.name is UNSET else patch.name.strip(),
        description=None if patch.description is UNSET else patch.description,
        moves=patch.branch_id is not UNSET,
        branch_id=branch_id,
        at=clock.now(),
    ):
        raise NotFound
    await outbox.add(tx, acted(actor, "group.changed", "group", group_id))
    return await fetch(tx, group_id)


async def list_page(tx: Transaction, actor: Identity, query: GroupQuery, before: UUID | None) -> list[Group]:
    """Groups from a place on, or the deleted ones, one more than the page has; one statement.

    Raises:
        Forbidden: the deleted ones are not for this role.
    """
    if not query.deleted:
        return await group_store.list_page(tx, before, query.limit + 1)
    if actor.role not in RESTORE.roles:
        raise Forbidden
    return await group_store.list_deleted(tx, before, query.limit + 1)


async def restore(tx: Transaction, actor: Identity, group_id: UUID) -> Group:
    """Bring a deleted group back, with its members as far as they are there; one that is there stays as it is.

    A name that is taken by now ends in the door's 409.

    Raises:
        NotFound: the church has no such group.
    """
    await member_store.lock(tx)
    if await group_store.find(tx, group_id) is None:
        if not await group_store.restore(tx, group_id, clock.now()):
            raise NotFound
        await outbox.add(tx, acted(actor, "group.restored", "group", group_id))
    return await fetch(tx, group_id)


async def delete(tx: Transaction, actor: Identity, group_id: UUID) -> None:
    """Delete a group; its members stay, and it can be brought back with them.

    Raises:
        NotFound: the church has no such group.
        Conflict: a message that is not sent yet, or a recurring one, excludes it.
    """
    await member_store.lock(tx)  # whoever joins it now is in it before, or finds it gone
    if not await group_store.delete(tx, group_id, clock.now()):
        raise NotFound
    if await audience_store.is_excluded(tx, group_id):  # after: a message that excludes it since has been waited for
        raise Conflict(
            "This group is excluded from a message that is not sent yet, or a recurring one: change that first."
        )
    await outbox.add(tx, acted(actor, "group.deleted", "group", group_id))


async def add_members(tx: Transaction, actor: Identity, group_id: UUID, member_ids: Sequence[UUID]) -> Group:
    """Put members into a group, all or none.

    Raises:
        NotFound: the church has no such group, or one of the members is not there.
    """
    await member_store.lock(tx)
    await fetch(tx, group_id)
    people = await member_store.find_persons(tx, member_ids)
    if len(people) < len(set(member_ids)):
        raise NotFound("One of the members is not there.")
    await group_store.add_members(tx, [(group_id, person.id) for person in people])
    await outbox.add(tx, acted(actor, "group.members_added", "group", group_id, members=str(len(people))))
    return await fetch(tx, group_id)


async def remove_members(tx: Transaction, actor: Identity, group_id: UUID, member_ids: Sequence[UUID]) -> Group:
    """Take members out of a group.

    Raises:
        NotFound: the church has no such group.
    """
    await member_store.lock(tx)
    await fetch(tx, group_id)
    await group_store.remove_members(tx, group_id, member_ids)
    await outbox.add(tx, acted(actor, "group.members_removed", "group", group_id, members=str(len(member_ids))))
    return await fetch(tx, group_id)


async def _check_branch(tx: Transaction, branch_id: UUID | None) -> None:
    if branch_id is not None and await branch_store.find(tx, branch_id) is None:
        raise ValidationFailed.field("branchId", "No such branch")
