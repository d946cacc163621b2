"""Members by the thousand: judged row by row, written batch by batch, all in one transaction and flat memory."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

from koinonia import clock
from koinonia.api.members import ImportResult, ImportRowError
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import ValidationFailed
from koinonia.events.messaging import CHUNK_SIZE, MembersChanged
from koinonia.ids import new_id
from koinonia.security import Identity, Keys
from koinonia_messaging.domain.people import Directory, Draft, Person
from koinonia_messaging.domain.rows import ReadRows, Row, RowContext, read
from koinonia_messaging.members import row_context, surroundings_of
from koinonia_messaging.store import groups as group_store
from koinonia_messaging.store import imports as import_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store import projections as projection_store

BATCH_ROWS = 2000


async def run(
    tx: Transaction, actor: Identity, rows: Iterator[Row], group_ids: Sequence[UUID], keys: Keys
) -> tuple[UUID, ImportResult]:
    """Import rows: who is new goes in, who is there is updated, a bad row is reported; it lifts no opt-out.

    Raises:
        ValidationFailed: the file as a whole cannot be read, or one of ``group_ids`` is no group.
    """
    surroundings = await surroundings_of(tx)
    if not surroundings.group_ids.issuperset(group_ids):
        raise ValidationFailed.field("groupIds", "No such group")
    context = row_context(tx, surroundings, keys, group_ids)
    outcomes: Counter[str] = Counter()
    errors: list[ImportRowError] = []
    events: list[MembersChanged] = []
    while (batch := await asyncio.to_thread(_read_batch, rows, context)) is not None:
        if events:
            await outbox.add(tx, *events)
        errors += batch.errors
        people = await _write(tx, batch.drafts, surroundings.default_branch_id, outcomes)
        events = _changes(people)
    result = ImportResult(
        created=outcomes["created"], updated=outcomes["updated"], skipped=outcomes["skipped"], errors=errors
    )
    import_id = new_id()
    await import_store.insert(tx, import_id, result)
    counts = {"created": str(result.created), "updated": str(result.updated), "errors": str(len(errors))}
    await outbox.add(tx, *events, acted(actor, "members.imported", "import", import_id, **counts))
    return import_id, result


def _read_batch(rows: Iterator[Row], context: RowContext) -> ReadRows | None:
    """Judge the next rows; None when there are no more. Runs in a thread: it normalises and encrypts."""
    batch = list(islice(rows, BATCH_ROWS))
    return read(batch, context) if batch else None


async def _write(
    tx: Transaction, drafts: Sequence[Draft], default_branch_id: UUID, outcomes: Counter[str]
) -> list[Person]:
    """Write what a batch makes and changes; returns those people."""
    if not drafts:
        return []
    phones = list({draft.phone.index for draft in drafts})
    external_ids = list({draft.external_id for draft in drafts if draft.external_id is not None})
    directory = Directory(
        await member_store.find_alike(tx, external_ids, phones),
        default_branch_id,
        await projection_store.find_opt_outs(tx, phones),
    )
    memberships: list[tuple[UUID, UUID]] = []
    for draft in drafts:
        outcome, member_id = directory.take(draft)
        outcomes[outcome] += 1
        memberships += [(group_id, member_id) for group_id in draft.group_ids]
    if directory.touched:
        await member_store.save(tx, directory.touched, clock.now())
    if memberships:
        await group_store.add_members(tx, memberships)
    return directory.touched


def _changes(people: Sequence[Person]) -> list[MembersChanged]:
    states = [member_store.state_of(person) for person in people]
    return [
        MembersChanged(members=tuple(states[start : start + CHUNK_SIZE]), source="import")
        for start in range(0, len(states), CHUNK_SIZE)
    ]
