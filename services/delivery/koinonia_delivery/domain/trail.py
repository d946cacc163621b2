"""A recipient's trail as delivery knows it: what the row says, and what was noted beside it, in plain words."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.api.messages import RecipientStatus, TrailEntry, TrailEvent
from koinonia_delivery.domain.states import Kind, Reported

What = Literal[
    "accepted",
    "rejected",
    "refused",
    "unknown",
    "lost",
    "left",
    "receipt",
    "look_up",
    "record",
    "given_up",
    "resent",
    "closed",
]
"""What a note tells.

accepted, rejected, refused, unknown: how a call ended. lost: its worker's lease ended. left: an unknown one is not sent
again. receipt, look_up, record: the carrier's word, told, asked for by id, found on record. given_up: nobody can tell.
resent, closed: a person's decision.
"""

TURN = timedelta(seconds=1)
"""A number's clock that is further ahead is worth a word."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient as it is at ``now``, with what stands in its way."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    kind: Kind
    status: RecipientStatus
    phone_index: bytes
    error_code: str | None
    error_message: str | None
    accepted_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    settled_at: datetime | None
    traceparent: str | None
    work_state: str | None
    due_at: datetime | None
    resend: bool | None
    number_status: str | None
    next_free_at: datetime | None
    held_at: datetime | None  # since a text of this person that looks like an opt-out is judged
    blocked_at: datetime | None  # since the carrier blocks texts to this person
    is_fresh: bool
    now: datetime
    test: bool = False
    quiet_until: datetime | None = None  # it waits for the end of its church's quiet hours


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the trail."""

    at: datetime
    what: What
    was: RecipientStatus
    became: RecipientStatus
    said: Reported | None
    attempt: int
    began_at: datetime | None
    until: datetime | None
    error_code: str | None
    error_message: str | None


def tell(standing: Standing, notes: Sequence[Note]) -> list[TrailEntry]:
    """Everything that delivery knows of one recipient; who can read the church's pages understands it."""
    return [
        *(_noted(note) for note in notes),
        *_accepted(standing, notes),
        *_ending(standing, notes),
        *_obstacles(standing),
        *_present(standing),
    ]


_ENDED: dict[What, tuple[TrailEvent, str]] = {
    "accepted": ("accepted", "The carrier accepted it."),
    "rejected": ("failed", "The carrier refused it for good."),
    "refused": ("refused", "The carrier did not take it for now."),
    "unknown": ("unknown", "Nobody could tell whether the carrier had taken it."),
    "lost": ("unknown", "Nobody could tell whether the carrier had taken it."),
    "left": (
        "left_to_records",
        "It is not sent again, since it was cancelled, was opted out of, or is too late; the carrier is asked instead.",
    ),
    "given_up": ("unconfirmed", "Nobody can tell whether it was delivered."),
    "resent": ("resent", "Somebody decided to send it once more."),
    "closed": ("closed", "Somebody decided to leave it at that."),
}
_ASKED_AGAIN = "Asked again for the same text, the carrier says that it has it: it went out once."
_BY: dict[What, str] = {
    "receipt": "The carrier says that",
    "look_up": "Asked about it, the carrier says that",
    "record": "The carrier's records show that",
}
_SAID: dict[Reported, tuple[TrailEvent, str]] = {
    "sent": ("accepted", "it has the text."),
    "unconfirmed": ("unconfirmed", "it cannot tell whether it was delivered."),
    "undelivered": ("undelivered", "it could not be delivered."),
    "delivered": ("delivered", "it was delivered."),
}


def _noted(note: Note) -> TrailEntry:
    if note.said is not None:
        event, words = _SAID[note.said]
        sentence = f"{_BY[note.what]} {words}"
    else:
        event, sentence = _ENDED[note.what]
        if note.what == "accepted" and note.was == "unknown":
            sentence = _ASKED_AGAIN
    if note.error_message is not None:
        sentence = f"{sentence} {note.error_message}"
    if note.said is not None and note.was == note.became:
        sentence = f"{sentence} It had said otherwise before, which holds."
    return _entry(
        note.at,
        event,
        sentence,
        status=note.became if note.became != note.was else None,
        code=note.error_code,
        attempt=note.attempt or None,
        began_at=note.began_at,
        until=note.until,
    )


def _accepted(standing: Standing, notes: Sequence[Note]) -> Iterator[TrailEntry]:
    if standing.sent_at is not None and not any(
        note.at == standing.sent_at and (note.what == "accepted" or note.said == "sent") for note in notes
    ):
        who = "The simulated carrier accepted it: it is a test." if standing.test else "The carrier accepted it."
        yield _entry(standing.sent_at, "accepted", who, status="sent")


_CLOSED: dict[RecipientStatus, tuple[TrailEvent, str]] = {
    "suppressed": ("left_out", "It was not sent."),
    "cancelled": ("cancelled", "It was not sent: the message was cancelled."),
    "expired": ("expired", "It was not sent."),
    "failed": ("failed", "The carrier refused it for good."),
    "unconfirmed": ("unconfirmed", "Nobody can tell whether it was delivered."),
    "undelivered": ("undelivered", "It could not be delivered."),
}


def _ending(standing: Standing, notes: Sequence[Note]) -> Iterator[TrailEntry]:
    """How it was closed, where no note has told it."""
    if standing.delivered_at is not None:
        if not any(note.said == "delivered" and note.at == standing.delivered_at for note in notes):
            yield _entry(standing.delivered_at, "delivered", "It was delivered.", status="delivered")
        return
    # A refusal says what the carrier did, not that it was the last.
    told = any(note.became == standing.status != note.was and note.what != "refused" for note in notes)
    if standing.settled_at is None or told or standing.status not in _CLOSED:
        return
    event, sentence = _CLOSED[standing.status]
    if standing.status == "cancelled":  # what its row still has is of an attempt before
        yield _entry(standing.settled_at, event, sentence, status=standing.status)
        return
    if standing.error_message is not None:
        sentence = f"{sentence} {standing.error_message}"
    yield _entry(standing.settled_at, event, sentence, status=standing.status, code=standing.error_code)


def _obstacles(standing: Standing) -> Iterator[TrailEntry]:
    if standing.blocked_at is not None and standing.status in ("suppressed", "failed"):
        yield _entry(
            standing.blocked_at, "blocked", "The carrier blocks texts to this person, who has opted out with it."
        )
    if standing.held_at is not None and standing.settled_at is None:
        sentence = "A text of this person looks like an opt-out, and is being judged."
        yield _entry(standing.held_at, "held", sentence)


def _present(standing: Standing) -> Iterator[TrailEntry]:
    """What an open one waits for."""
    if standing.settled_at is None:
        sentence, until = _waits_for(standing)
        yield _entry(standing.now, "waiting", sentence, until=until)


def _waits_for(standing: Standing) -> tuple[str, datetime | None]:
    if standing.test:
        return "It is a test: the simulated carrier answers in a moment, unless something stands in its way.", None
    if standing.status == "sent":
        return "The carrier has it; whether it was delivered is not known yet.", None
    if standing.work_state == "sending":
        return "It is being handed to the carrier.", None
    if standing.status == "unknown":
        what = (
            "the carrier is asked again for the same text, which goes out once"
            if standing.resend
            else "the carrier is asked"
        )
        until = standing.quiet_until if standing.resend and standing.quiet_until is not None else standing.due_at
        return f"Nobody knows yet whether the carrier has it; {what}.", until
    return _in_the_queue(standing)


def _in_the_queue(standing: Standing) -> tuple[str, datetime | None]:
    if standing.held_at is not None:
        return "It waits until it is clear whether this person has opted out.", standing.due_at
    if standing.work_state == "paused":
        return "It waits: its message is paused.", None
    if standing.number_status is not None and standing.number_status != "active":
        return "It waits: the number that it is sent from cannot send at the moment.", None
    if not standing.is_fresh:
        return "It waits: sending rests until it is sure that every opt-out is known.", None
    if standing.quiet_until is not None:
        return "It waits for the end of the church's quiet hours.", standing.quiet_until
    if standing.due_at is not None and standing.due_at > standing.now:
        return "It waits, and is tried again.", standing.due_at
    if standing.next_free_at is not None and standing.next_free_at > standing.now + TURN:
        return "It waits for its turn at the number that it is sent from.", standing.next_free_at
    return "It waits for its turn.", None


def _entry(
    at: datetime,
    event: TrailEvent,
    sentence: str,
    *,
    status: RecipientStatus | None = None,
    code: str | None = None,
    attempt: int | None = None,
    began_at: datetime | None = None,
    until: datetime | None = None,
) -> TrailEntry:
    return TrailEntry(
        at=at,
        service="delivery",
        event=event,
        sentence=sentence,
        status=status,
        code=code,
        attempt=attempt,
        began_at=began_at,
        until=until,
    )
