"""Members, one by one. Every change leaves as ``messaging.members.changed``."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET

from koinonia import clock
from koinonia.api.members import MemberPatch, MemberRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, DependencyUnavailable, NotFound, ValidationFailed
from koinonia.events.messaging import MembersChanged
from koinonia.security import Identity, Keys
from koinonia_messaging import consents
from koinonia_messaging.domain.people import (
    Change,
    Consent,
    Directory,
    Person,
    changed,
    comes_to_consent,
    is_same,
    new_person,
)
from koinonia_messaging.domain.rows import RowContext, checked_source, draft_of, seal_email, seal_phone
from koinonia_messaging.store import groups as group_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store import projections as projection_store
from koinonia_messaging.store.members import MemberRow, Surroundings


async def fetch(tx: Transaction, member_id: UUID) -> MemberRow:
    """One member.

    Raises:
        NotFound: the church has no such member.
    """
    row = await member_store.find(tx, member_id)
    if row is None:
        raise NotFound
    return row


async def surroundings_of(tx: Transaction) -> Surroundings:
    """Lock the church's members, and say what they can belong to.

    Raises:
        DependencyUnavailable: the church was registered a moment ago and is not known here yet.
    """
    surroundings = await member_store.lock(tx)
    if surroundings is None:
        raise DependencyUnavailable("The church is still being set up.", retry_after_seconds=1)
    return surroundings


def row_context(tx: Transaction, surroundings: Surroundings, keys: Keys, groups: Sequence[UUID] = ()) -> RowContext:
    """What the church's rows and requests are judged by."""
    return RowContext(
        keys=keys,
        church_id=tx.tenant,
        region=surroundings.region,
        branch_ids=surroundings.branch_ids,
        group_ids=surroundings.group_ids,
        all_groups=tuple(groups),
    )


async def create(tx: Transaction, actor: Identity, request: MemberRequest, keys: Keys) -> MemberRow:
    """Add a member. To say that they consented ends an opt-out that an admin noted, never a person's own STOP.

    Raises:
        Conflict: the person is there already.
        ValidationFailed: no valid phone, no such branch or group.
    """
    surroundings = await surroundings_of(tx)
    draft = draft_of(request, row_context(tx, surroundings, keys))
    alike = await member_store.find_alike(tx, [draft.external_id] if draft.external_id else [], [draft.phone.index])
    if Directory(alike, surroundings.default_branch_id).find(draft) is not None:
        raise Conflict("This person is a member already.")
    person = new_person(draft, surroundings.default_branch_id)
    await member_store.save(tx, [person], clock.now())
    if person.opted_in:
        await projection_store.remove_opt_out(tx, person.phone.index)
    if draft.group_ids:
        await group_store.add_members(tx, [(group, person.id) for group in draft.group_ids])
    said = [Consent(person, draft.consent_source)] if person.opted_in and draft.consent_source is not None else []
    act = acted(actor, "member.created", "member", person.id)
    await outbox.add(tx, _changed_by_admin([person]), *consents.told(said, "admin"), act)
    return await fetch(tx, person.id)


async def change(tx: Transaction, actor: Identity, member_id: UUID, patch: MemberPatch, keys: Keys) -> MemberRow:
    """Change a member. Consent is the number's: withdrawn from one, it is withdrawn from all who share the number.

    Raises:
        NotFound: the church has no such member.
        Conflict: the change makes two members the same person.
        ValidationFailed: no valid phone, no such branch or group, or a source of consent that names a person.
    """
    surroundings = await surroundings_of(tx)
    context = row_context(tx, surroundings, keys)
    _check_belonging(patch, context)
    source = checked_source(None if patch.consent_source is UNSET else patch.consent_source, context.region)
    known = await member_store.find_persons(tx, [member_id])
    if not known:
        raise NotFound
    before, after = known[0], changed(known[0], _change_of(patch, context))
    if after.phone.index != before.phone.index and patch.opt_in_sms is UNSET:
        after = await _without_lost_consent(tx, after)
    if after is not before:
        await _check_unique(tx, after)
        await member_store.save(tx, [after], clock.now())
    touched = [after] if after is not before else []
    touched += await _apply_consent(tx, patch, after)
    await _apply_groups(tx, patch, member_id)
    events = [_changed_by_admin(touched)] if touched else []
    said = [Consent(after, source)] if source is not None and comes_to_consent(before, after) else []
    await outbox.add(tx, *events, *consents.told(said, "admin"), acted(actor, "member.changed", "member", member_id))
    return await fetch(tx, member_id)


async def delete(tx: Transaction, actor: Identity, member_id: UUID) -> None:
    """Delete a member.

    Raises:
        NotFound: the church has no such member.
    """
    await member_store.lock(tx)
    person = await member_store.delete(tx, member_id, clock.now())
    if person is None:
        raise NotFound
    await group_store.leave(tx, member_id)
    gone = MembersChanged(members=(member_store.state_of(person, deleted=True),), source="admin")
    await outbox.add(tx, gone, acted(actor, "member.deleted", "member", member_id))


async def restore(tx: Transaction, actor: Identity, member_id: UUID) -> MemberRow:
    """Bring a deleted member back, into the groups that are there, or with them; who is there already stays.

    Raises:
        NotFound: the church has no such member.
        Conflict: the person was added again, or the record was merged into another.
    """
    surroundings = await surroundings_of(tx)
    deleted = await member_store.find_deleted(tx, member_id)
    if deleted is None:
        return await fetch(tx, member_id)
    if deleted.merged_into is not None:
        raise Conflict("This member was merged into another.")
    await _check_unique(tx, deleted.person)
    guarded = await _without_lost_consent(tx, deleted.person)
    person = await member_store.restore(tx, member_id, clock.now(), opted_in=guarded.opted_in)
    groups = surroundings.group_ids.intersection(deleted.left_groups)
    if groups:
        await group_store.add_members(tx, [(group, member_id) for group in sorted(groups)])
    if len(groups) < len(deleted.left_groups):
        await group_store.await_groups(tx, member_id, deleted.left_groups)
    await outbox.add(tx, _changed_by_admin([person]), acted(actor, "member.restored", "member", member_id))
    return await fetch(tx, member_id)


def _check_belonging(patch: MemberPatch, context: RowContext) -> None:
    if patch.branch_id is not UNSET and patch.branch_id not in context.branch_ids:
        raise ValidationFailed.field("branchId", "No such branch")
    if patch.group_ids is not UNSET and not context.group_ids.issuperset(patch.group_ids):
        raise ValidationFailed.field("groupIds", "No such group")


def _change_of(patch: MemberPatch, context: RowContext) -> Change:
    phone, email = patch.phone, patch.email
    return Change(
        first_name=UNSET if patch.first_name is UNSET else patch.first_name.strip(),
        last_name=UNSET if patch.last_name is UNSET else patch.last_name.strip(),
        phone=UNSET if phone is UNSET else seal_phone(phone, context.keys, context.church_id, context.region),
        email=seal_email(email, context.keys, context.church_id) if isinstance(email, str) else email,
        branch_id=patch.branch_id,
        opted_in=patch.opt_in_sms,
        external_id=patch.external_id,
        custom_fields=patch.custom_fields,
    )


async def _check_unique(tx: Transaction, person: Person) -> None:
    external_ids = [person.external_id] if person.external_id is not None else []
    alike = await member_store.find_alike(tx, external_ids, [person.phone.index])
    if any(other.id != person.id and is_same(person, other) for other in alike):
        raise Conflict("Another member is the same person.")


async def _without_lost_consent(tx: Transaction, person: Person) -> Person:
    """A person who moved to another number has no consent where that number's was withdrawn."""
    if person.opted_in and await projection_store.find_opt_outs(tx, [person.phone.index]):
        return changed(person, Change(opted_in=False))
    return person


async def _apply_consent(tx: Transaction, patch: MemberPatch, person: Person) -> list[Person]:
    """Note what an admin says of a number's consent; returns who else has lost theirs."""
    if patch.opt_in_sms is UNSET:
        return []
    if patch.opt_in_sms:
        await projection_store.remove_opt_out(tx, person.phone.index)
        return []
    others = await projection_store.add_opt_out(tx, person.phone.index, person.id)
    return await member_store.find_persons(tx, others) if others else []


async def _apply_groups(tx: Transaction, patch: MemberPatch, member_id: UUID) -> None:
    if patch.group_ids is UNSET:
        return
    await group_store.leave(tx, member_id, staying_in=patch.group_ids)
    if patch.group_ids:
        await group_store.add_members(tx, [(group, member_id) for group in patch.group_ids])


def _changed_by_admin(people: Sequence[Person]) -> MembersChanged:
    return MembersChanged(members=tuple(member_store.state_of(person) for person in people), source="admin")
