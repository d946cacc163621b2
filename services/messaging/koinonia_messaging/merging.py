"""Two records of one person made one. What was told of either is the kept one's from then on."""

from uuid import UUID

from koinonia import clock
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import NotFound, ValidationFailed
from koinonia.events.messaging import CHUNK_SIZE, MembersChanged
from koinonia.security import Identity
from koinonia_messaging import members
from koinonia_messaging.domain.people import merged
from koinonia_messaging.store import groups as group_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store import merging as merging_store
from koinonia_messaging.store.members import MemberRow


async def merge(tx: Transaction, actor: Identity, kept_id: UUID, other_id: UUID) -> MemberRow:
    """Merge a member into another. Said again, it changes nothing.

    Raises:
        NotFound: one of them is no member of the church, or is deleted.
        ValidationFailed: both are the same record.
    """
    if kept_id == other_id:
        raise ValidationFailed.field("memberId", "This is the same member")
    await member_store.lock(tx)
    known = {person.id: person for person in await member_store.find_persons(tx, [kept_id, other_id])}
    if kept_id in known and other_id not in known:
        gone = await member_store.find_deleted(tx, other_id)
        if gone is not None and gone.merged_into == kept_id:
            return await members.fetch(tx, kept_id)
    if len(known) < 2:
        raise NotFound("One of the members is not there.")
    now = clock.now()
    other = await members.fetch(tx, other_id)
    is_stopped = known[other_id].opted_in and not other.may_be_texted
    kept = merged(known[kept_id], known[other_id], is_stopped=is_stopped)
    gone_ones = await merging_store.merge(tx, other_id, kept_id, now)  # first: an external id is one member's
    await member_store.save(tx, [kept], now)
    await group_store.leave(tx, other_id)
    if other.group_ids:
        await group_store.add_members(tx, [(group, kept_id) for group in other.group_ids])
    await merging_store.retarget(tx, other_id, kept_id)
    states = [member_store.state_of(kept)]
    states += [member_store.state_of(each, deleted=True, merged_into=kept_id) for each in gone_ones]
    await outbox.add(
        tx,
        *(
            MembersChanged(members=tuple(states[start : start + CHUNK_SIZE]), source="admin")
            for start in range(0, len(states), CHUNK_SIZE)
        ),
        acted(actor, "member.merged", "member", kept_id, merged=str(other_id)),
    )
    return await members.fetch(tx, kept_id)
