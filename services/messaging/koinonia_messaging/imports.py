"""Members by the thousand: judged row by row, written batch by batch, in one transaction or one for each piece."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from uuid import UUID

from koinonia import clock
from koinonia.api.members import IMPORT_ROWS, ImportResult, ImportRowError
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, ValidationFailed
from koinonia.events import Event
from koinonia.events.messaging import CHUNK_SIZE, MembersChanged
from koinonia.ids import new_id
from koinonia.security import Identity, Keys
from koinonia_messaging import consents
from koinonia_messaging.domain.people import Directory, Draft, Person
from koinonia_messaging.domain.pieces import unpacked
from koinonia_messaging.domain.rows import ReadRows, Row, RowContext, read
from koinonia_messaging.members import row_context, surroundings_of
from koinonia_messaging.store import groups as group_store
from koinonia_messaging.store import imports as import_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store import projections as projection_store
from koinonia_messaging.store.members import Surroundings

BATCH_ROWS = 2000
IMPORTS_AT_ONCE = 5
"""In the background, of a church."""


async def run(
    tx: Transaction, actor: Identity, rows: Iterator[Row], group_ids: Sequence[UUID], keys: Keys
) -> tuple[UUID, ImportResult]:
    """Import rows: who is new goes in, who is there is updated, a bad row is reported; it lifts no opt-out.

    Raises:
        ValidationFailed: the file as a whole cannot be read, or one of ``group_ids`` is no group.
    """
    surroundings = await _surroundings(tx, group_ids)
    context = row_context(tx, surroundings, keys, group_ids)
    outcomes: Counter[str] = Counter()
    errors: list[ImportRowError] = []
    events: list[Event] = []
    while (batch := await asyncio.to_thread(_read_batch, rows, context, BATCH_ROWS)) is not None:
        if events:
            await outbox.add(tx, *events)
        errors += batch.errors
        events = await _write(tx, batch.drafts, surroundings.default_branch_id, outcomes)
    import_id = new_id()
    result = _result(outcomes, errors, import_id)
    await import_store.insert(tx, import_id, result)
    counts = {"created": str(result.created), "updated": str(result.updated), "errors": str(len(errors))}
    await outbox.add(tx, *events, acted(actor, "members.imported", "import", import_id, **counts))
    return import_id, result


async def rehearse(
    tx: Transaction,
    rows: Iterator[Row],
    group_ids: Sequence[UUID],
    keys: Keys,
    mapping: Mapping[str, str | None] | None,
) -> ImportResult:
    """What ``run`` would do with the rows, so many as a request may have; it writes nothing.

    Raises:
        ValidationFailed: one of ``group_ids`` is no group.
    """
    surroundings = await _surroundings(tx, group_ids)
    context = row_context(tx, surroundings, keys, group_ids)
    outcomes: Counter[str] = Counter()
    # All at once: a person whom an earlier row would make is found among those of the same batch alone.
    batch = await asyncio.to_thread(_read_batch, rows, context, IMPORT_ROWS) or ReadRows([], [])
    if batch.drafts:
        directory = await _directory(tx, batch.drafts, surroundings.default_branch_id)
        outcomes.update(directory.take(draft)[0] for draft in batch.drafts)
    return _result(outcomes, batch.errors, None, mapping)


async def start(
    tx: Transaction, actor: Identity, import_id: UUID, rows: int, group_ids: Sequence[UUID]
) -> ImportResult:
    """Let a file that was laid by in pieces be imported in the background.

    Raises:
        Conflict: too many are under way, or it was given up meanwhile.
        ValidationFailed: one of ``group_ids`` is no group.
    """
    await _surroundings(tx, group_ids)
    if await import_store.count_running(tx) >= IMPORTS_AT_ONCE:
        raise Conflict(f"{IMPORTS_AT_ONCE} imports are under way; wait until one of them is done.")
    if not await import_store.start(tx, import_id, rows, group_ids):
        raise Conflict("The file came too slowly.")
    await outbox.add(tx, acted(actor, "members.import_started", "import", import_id, rows=str(rows)))
    result = await import_store.find(tx, import_id)
    if result is None:
        raise Conflict("The file came too slowly.")
    return result


async def carry_on(tx: Transaction, import_id: UUID, keys: Keys) -> bool:
    """Write the next piece of an import in the background; whether there was one.

    The piece is deleted, its rows written, its progress counted and its events added at once, or none of it.
    """
    surroundings = await surroundings_of(tx)
    group_ids = await import_store.find_running(tx, import_id)
    piece = None if group_ids is None else await import_store.take_piece(tx, import_id)
    if group_ids is None or piece is None:
        return False
    # A group may have been deleted since.
    context = row_context(tx, surroundings, keys, [each for each in group_ids if each in surroundings.group_ids])
    batch = await asyncio.to_thread(_read_piece, piece, context)
    outcomes: Counter[str] = Counter()
    events = await _write(tx, batch.drafts, surroundings.default_branch_id, outcomes)
    if batch.errors:
        await import_store.add_errors(tx, import_id, batch.errors)
    await import_store.advance(
        tx,
        import_id,
        created=outcomes["created"],
        updated=outcomes["updated"],
        skipped=outcomes["skipped"],
        bad=len({error.row for error in batch.errors}),
    )
    if events:
        await outbox.add(tx, *events)
    return True


async def _surroundings(tx: Transaction, group_ids: Sequence[UUID]) -> Surroundings:
    surroundings = await surroundings_of(tx)
    if not surroundings.group_ids.issuperset(group_ids):
        raise ValidationFailed.field("groupIds", "No such group")
    return surroundings


def _result(
    outcomes: Mapping[str, int],
    errors: list[ImportRowError],
    import_id: UUID | None,
    mapping: Mapping[str, str | None] | None = None,
) -> ImportResult:
    bad = len({error.row for error in errors})
    rows = sum(outcomes.values()) + bad
    return ImportResult(
        created=outcomes.get("created", 0),
        updated=outcomes.get("updated", 0),
        skipped=outcomes.get("skipped", 0),
        errors=errors,
        id=import_id,
        rows=rows,
        done_rows=rows,
        bad_rows=bad,
        mapping=None if mapping is None else dict(mapping),
    )


def _read_batch(rows: Iterator[Row], context: RowContext, limit: int) -> ReadRows | None:
    """Judge the next rows; None when there are no more. Runs in a thread: it normalises and encrypts."""
    batch = list(islice(rows, limit))
    return read(batch, context) if batch else None


def _read_piece(piece: bytes, context: RowContext) -> ReadRows:
    return read(unpacked(context.keys.decrypt(piece, context.church_id, "rows")), context)


async def _directory(tx: Transaction, drafts: Sequence[Draft], default_branch_id: UUID) -> Directory:
    """Whom the drafts can mean."""
    phones = list({draft.phone.index for draft in drafts})
    external_ids = list({draft.external_id for draft in drafts if draft.external_id is not None})
    return Directory(
        await member_store.find_alike(tx, external_ids, phones),
        default_branch_id,
        await projection_store.find_opt_outs(tx, phones),
        await member_store.find_merged(tx, external_ids, phones),
    )


async def _write(
    tx: Transaction, drafts: Sequence[Draft], default_branch_id: UUID, outcomes: Counter[str]
) -> list[Event]:
    """Write what a batch makes and changes; returns the events that tell of it."""
    if not drafts:
        return []
    directory = await _directory(tx, drafts, default_branch_id)
    memberships: list[tuple[UUID, UUID]] = []
    for draft in drafts:
        outcome, member_id = directory.take(draft)
        outcomes[outcome] += 1
        memberships += [(group_id, member_id) for group_id in draft.group_ids]
    if directory.touched:
        await member_store.save(tx, directory.touched, clock.now())
    if memberships:
        await group_store.add_members(tx, memberships)
    return [*_changes(directory.touched), *consents.told(directory.consents, "import")]


def _changes(people: Sequence[Person]) -> list[MembersChanged]:
    states = [member_store.state_of(person) for person in people]
    return [
        MembersChanged(members=tuple(states[start : start + CHUNK_SIZE]), source="import")
        for start in range(0, len(states), CHUNK_SIZE)
    ]
