"""Billing's part of a recipient's trail: what was reserved for its message, and that it is on the bill."""

from koinonia.api.messages import TrailEntry
from koinonia.db import Transaction
from koinonia.trail import Part, Question
from koinonia_billing.store import ledger, reservations


async def tell(tx: Transaction, question: Question) -> Part:
    """What billing knows; at most two statements."""
    entries: list[TrailEntry] = []
    if question.kind == "broadcast":
        authorized_at = await reservations.find_authorized_at(tx, question.source_id)
        if authorized_at is not None:
            sentence = "The plan covers it: the segments of the message were reserved."
            entries.append(TrailEntry(at=authorized_at, service="billing", event="authorized", sentence=sentence))
    if question.accepted_at is not None:
        metered_at = await ledger.find_metered_at(tx, question.source_id, question.accepted_at)
        if metered_at is not None:
            sentence = "It was counted for the bill."
            entries.append(TrailEntry(at=metered_at, service="billing", event="metered", sentence=sentence))
    return Part(entries=entries)
