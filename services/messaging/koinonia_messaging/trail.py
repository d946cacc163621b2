"""Messaging's part of a recipient's trail: the message, and consent that an admin withdrew."""

from datetime import datetime

import asyncpg

from koinonia.api.messages import TrailEntry, TrailEvent
from koinonia.db import Transaction
from koinonia.trail import Part, Question
from koinonia_messaging.store import trail as store


async def tell(tx: Transaction, question: Question) -> Part:
    """What messaging knows; at most two statements."""
    entries: list[TrailEntry] = []
    traceparent = None
    message = await store.find_message(tx, question.source_id) if question.kind == "broadcast" else None
    if message is not None:
        traceparent = message["traceparent"]
        entries += _of_message(message)
    if question.status == "suppressed":
        withdrawn_at = await store.find_opt_out(tx, question.phone_index)
        if withdrawn_at is not None and withdrawn_at <= question.until:
            entries.append(_entry(withdrawn_at, "consent_withdrawn", "An admin withdrew this person's consent."))
    return Part(entries=entries, traceparent=traceparent)


def _of_message(message: asyncpg.Record) -> list[TrailEntry]:
    entries: list[TrailEntry] = []
    sentence = "The message was asked for."
    if message["resend_of"] is not None:
        sentence = f"It was asked for, to those whom message {message['resend_of']} did not reach."
    if message["recurring_id"] is not None:
        sentence = f"It was made as a run of recurring message {message['recurring_id']}."
    undo_until = message["undo_until"]  # it begins with the approval, where one is needed
    asked_until, approved_until = (undo_until, None) if message["approved_at"] is None else (None, undo_until)
    entries.append(_entry(message["created_at"], "requested", sentence, until=asked_until))
    if message["scheduled_at"] is not None:
        sentence = "It was to wait for its time."
        entries.append(_entry(message["created_at"], "scheduled", sentence, until=message["scheduled_at"]))
    if message["approved_at"] is not None:
        entries.append(
            _entry(message["approved_at"], "authorized", "A second admin approved it.", until=approved_until)
        )
    if message["dispatched_at"] is not None:
        entries.append(_entry(message["dispatched_at"], "dispatched", "Sending began."))
    if message["pause_reason"] is not None:  # by a person: the audit log tells
        entries.append(_entry(message["paused_at"], "paused", f"The message paused itself: {message['pause_reason']}"))
    if message["cancelled_at"] is not None:
        sentence = "The message was cancelled."
        if message["rejection_reason"] is not None:
            sentence = f"It was not approved: {message['rejection_reason']}"
        entries.append(_entry(message["cancelled_at"], "cancelled", sentence))
    return entries


def _entry(at: datetime, event: TrailEvent, sentence: str, until: datetime | None = None) -> TrailEntry:
    return TrailEntry(at=at, service="messaging", event=event, sentence=sentence, until=until)
