"""A recipient's trail through all services: "Why did she not get it?", in plain words and in the order of time.

Each service tells its own part from its own rows (``koinonia_<service>.trail``), so that nothing is kept twice and the
trail is as true as the rows are. The gateway asks the services inward for a church; an operator's command asks the same
functions in the database. delivery comes first: its part is the question that the others are asked.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.api import Endpoint, NoQuery, Request
from koinonia.api.endpoint import Owner
from koinonia.api.messages import Actor, RecipientStatus, TrailEntry, TrailEvent
from koinonia.db import Transaction
from koinonia.web import Call, Handler

ASKED: tuple[Owner, ...] = ("messaging", "conversation", "billing", "compliance")
"""Who is asked for a part, besides delivery."""

_NEAR = timedelta(minutes=1)
_DONE_BY = {
    "requested": "{} asked for it.",
    "paused": "{} paused it.",
    "resumed": "{} let it go on.",
    "cancelled": "{} cancelled the message.",
    "resent": "{} decided to send it once more.",
    "closed": "{} decided to leave it at that.",
}
_DECIDED = frozenset({"resent", "closed"})  # of one copy; the other acts are of the whole message
_OF_RECEIPTS = frozenset({"delivered", "undelivered", "unconfirmed"})
_ORDER = {event: place for place, event in enumerate(TrailEvent.__args__)}  # type: ignore[attr-defined]


class Question(Request, frozen=True, kw_only=True):
    """Whose trail is asked for. The phone is its blind index alone."""

    recipient_id: UUID
    source_id: UUID  # the message; for a reply the conversation's message; for compliance the event that it answers
    kind: Literal["broadcast", "reply", "compliance"]
    phone_index: bytes
    status: RecipientStatus
    accepted_at: datetime | None
    until: datetime  # nothing later matters: when it was closed, or now


class Act(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """That somebody did something, as the audit log has it: it names who is behind an entry of another service."""

    event: TrailEvent
    at: datetime
    actor_id: UUID


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one service tells."""

    entries: list[TrailEntry] = []
    acts: list[Act] = []
    traceparent: str | None = None  # of the request that began it all; for operators


class DeliveryPart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What delivery tells, and what the others are asked."""

    church_id: UUID
    question: Question
    part: Part


TELL = Endpoint(
    name="trail.tell",
    method="POST",
    path="/internal/trail",
    owner="messaging",  # and every other of ASKED
    summary="One service's part of a recipient's trail, for the gateway",
    request=Question,
    response=Part,
    for_tests=True,  # it changes nothing
)
BEGIN = Endpoint(
    name="trail.begin",
    method="GET",
    path="/internal/messages/{id}/recipients/{recipientId}/trail",
    owner="delivery",
    summary="Delivery's part of a recipient's trail, and the question to the others, for the gateway",
    response=DeliveryPart,
)


Tell = Callable[[Transaction, Question], Awaitable[Part]]
"""One service's part, from its own rows. Its statements name the church: an operator's transaction sees them all."""


def answering(tell: Tell) -> Mapping[Endpoint, Handler]:
    """The route at which the gateway asks for a part."""

    async def answer(call: Call[Question, NoQuery], tx: Transaction) -> Part:
        return await tell(tx, call.body)

    return {TELL: Handler(answer)}


def actors(parts: Iterable[Part]) -> list[UUID]:
    """Whose names are wanted."""
    found = {act.actor_id for part in parts for act in part.acts}
    return sorted(found)


def merge(parts: Sequence[Part], names: Mapping[UUID, Actor]) -> list[TrailEntry]:
    """All entries in the order of time, with who did what where the audit log knows.

    A receipt is dated by the carrier, its acceptance by us when the answer was settled: it never stands before that.
    """
    told = [entry for part in parts for entry in part.entries]
    entries = sorted(told, key=lambda entry: (_place_in_time(entry, told), _ORDER[entry.event]))
    for act in (act for part in parts for act in part.acts):
        actor = names.get(act.actor_id)
        place = _place(entries, act)
        if actor is not None and place is not None:
            sentence = _DONE_BY[act.event].format(actor.name)
            entries[place] = msgspec.structs.replace(entries[place], actor=actor, sentence=sentence)
    return entries


def _place_in_time(entry: TrailEntry, told: Sequence[TrailEntry]) -> datetime:
    if entry.event not in _OF_RECEIPTS:
        return entry.at
    begun = max((each.at for each in told if each.event == "resent" and each.at <= entry.at), default=None)
    accepted = [each.at for each in told if each.event == "accepted" and (begun is None or each.at >= begun)]
    first = min(accepted, default=entry.at)  # of this copy
    return first if entry.at < first < entry.at + _NEAR else entry.at


def _place(entries: Sequence[TrailEntry], act: Act) -> int | None:
    """Which entry tells of an act: of its kind, and next to it in time. Clocks differ a little."""
    near = [
        (abs(entry.at - act.at), place)
        for place, entry in enumerate(entries)
        if entry.event == act.event and entry.actor is None and (entry.service == "delivery") == (act.event in _DECIDED)
    ]
    distance, place = min(near, default=(_NEAR, None))
    return place if distance < _NEAR else None


def trace_id(parts: Iterable[Part]) -> str | None:
    """The id of the trace that the text belongs to, for an operator."""
    return next((part.traceparent[3:35] for part in parts if part.traceparent is not None), None)
