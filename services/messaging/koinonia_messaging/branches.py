"""Branches: a church's places."""

from uuid import UUID

from msgspec import UNSET

from koinonia import clock
from koinonia.api.branches import Branch, BranchPatch, BranchRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, NotFound
from koinonia.events.messaging import BranchChanged
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import branches as branch_store


async def fetch(tx: Transaction, branch_id: UUID) -> Branch:
    """One branch.

    Raises:
        NotFound: the church has no such branch.
    """
    branch = await branch_store.find(tx, branch_id)
    if branch is None:
        raise NotFound
    return branch


async def create(tx: Transaction, actor: Identity, request: BranchRequest) -> Branch:
    """Make a branch.

    Raises:
        Conflict: its name is taken.
    """
    branch = Branch(
        id=new_id(),
        name=request.name.strip(),
        description=request.description,
        is_default=False,
        created_at=(now := clock.now()),
        updated_at=now,
    )
    if not await branch_store.insert(
        tx, branch.id, name=branch.name, description=branch.description, is_default=False, at=now
    ):
        raise Conflict("A branch has this name.")
    await outbox.add(tx, _changed(branch, version=1), acted(actor, "branch.created", "branch", branch.id))
    return branch


async def change(tx: Transaction, actor: Identity, branch_id: UUID, patch: BranchPatch) -> Branch:
    """Change a branch; a name that is taken ends in the door's 409.

    Raises:
        NotFound: the church has no such branch.
    """
    version = await branch_store.update(
        tx,
        branch_id,
        name=None if patch.name is UNSET else patch.name.strip(),
        description=None if patch.description is UNSET else patch.description,
        at=clock.now(),
    )
    if version is None:
        raise NotFound
    branch = await fetch(tx, branch_id)
    await outbox.add(tx, _changed(branch, version), acted(actor, "branch.changed", "branch", branch_id))
    return branch


async def delete(tx: Transaction, actor: Identity, branch_id: UUID) -> None:
    """Delete an empty branch.

    Raises:
        NotFound: the church has no such branch.
        Conflict: it is the default one, still has members or groups, or a message that is not sent yet, or a
            recurring one, excludes it.
    """
    branch = await fetch(tx, branch_id)
    version = await branch_store.delete(tx, branch_id)
    if version is None:
        raise Conflict("The default branch, or one that has members or groups, cannot be deleted.")
    if await audience_store.is_excluded(tx, branch_id):
        raise Conflict(
            "This branch is excluded from a message that is not sent yet, or a recurring one: change that first."
        )
    gone = _changed(branch, version + 1, deleted=True)
    await outbox.add(tx, gone, acted(actor, "branch.deleted", "branch", branch_id))


def _changed(branch: Branch, version: int, *, deleted: bool = False) -> BranchChanged:
    return BranchChanged(
        branch_id=branch.id, version=version, name=branch.name, is_default=branch.is_default, deleted=deleted
    )
