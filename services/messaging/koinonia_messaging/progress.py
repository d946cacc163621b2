"""The counters of messages: what delivery reports is added up, and says when a message is handed over or completed.

Differences commute: they may come in any order, twice (the inbox drops the second), and before the last page.
"""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from koinonia import clock
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.delivery import RecipientsUpdated
from koinonia.events.messaging import MessageCompleted
from koinonia_messaging.braking import brake
from koinonia_messaging.domain.brake import USUAL, Brake
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store import figures as figure_store
from koinonia_messaging.store import pauses as pause_store
from koinonia_messaging.store.broadcasts import Place


async def apply(tx: Transaction, received: Sequence[Envelope[RecipientsUpdated]], rule: Brake = USUAL) -> None:
    """Add a batch of reports to the counters of their messages, pause those of which too many texts fail, and complete
    those that are through.
    """
    changes: dict[Place, Counter[str]] = {}
    errors: dict[Place, Counter[str]] = {}
    branches: dict[tuple[Place, UUID], Counter[str]] = {}
    for envelope in received:
        if envelope.data.kind == "broadcast" and envelope.church_id is not None:
            place = Place(envelope.church_id, envelope.data.source_id)
            changes.setdefault(place, Counter()).update(envelope.data.changes)
            errors.setdefault(place, Counter()).update(envelope.data.errors)
            for branch in envelope.data.branches:
                branches.setdefault((place, branch.branch_id), Counter()).update(branch.changes)
    if not changes:
        return
    counted = await broadcast_store.count_recipients(tx, changes, rule.sample)
    if branches:
        await figure_store.count_branches(tx, branches)
    await pause_store.add_errors(tx, errors)
    paused = await brake(tx, counted, rule)
    completed = await finish(tx, [place.message_id for place in changes])
    envelopes = [outbox.envelope(tx, event, church_id=church_id) for church_id, event in [*paused, *completed]]
    if envelopes:
        await outbox.add_envelopes(tx, *envelopes)


async def finish(tx: Transaction, message_ids: Sequence[UUID]) -> list[tuple[UUID, MessageCompleted]]:
    """Complete the messages of which no row is open any more; the events to tell of it, with their churches.

    Called wherever the last piece can fall into place: a report, the last page, a cancel, a surplus declined.
    """
    return [
        (
            done.church_id,
            MessageCompleted(message_id=done.message_id, recipient_count=done.recipients, test=done.test),
        )
        for done in await broadcast_store.finish(tx, message_ids, clock.now())
    ]
