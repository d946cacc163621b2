"""Which recipients go next: transactional texts first, then church by church, within each number's rate."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

HORIZON_SECONDS = 0.2
"""How far ahead of a number's clock a claim may take: less than a call may wait for its beginning."""

Obstacle = Literal["suppressed", "withdrawn", "cancelled", "expired", "held", "busy"]
"""Why a candidate may not go now.

suppressed, withdrawn, cancelled, expired: never. held: an inbound text that looks like an opt-out is not answered yet.
busy: an earlier text to this person is under way.
"""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A number's clock: no text of its may begin before ``next_free_at``."""

    number_id: UUID
    church_id: UUID
    next_free_at: datetime
    segments_per_second: float
    sender: str
    messaging_profile_id: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient whose time has come."""

    recipient_id: UUID
    church_id: UUID
    number_id: UUID
    phone_index: bytes
    priority: int
    due_at: datetime
    segments: int
    is_repeat: bool  # its outcome is unknown: sent again under its key
    traceparent: str | None = None
    obstacle: Obstacle | None = None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient whose call begins in so many seconds."""

    candidate: Candidate
    begins_after_seconds: float


class Choice(msgspec.Struct, kw_only=True):
    """What a claim does with its candidates."""

    taken: list[Taken] = []
    closed: list[tuple[Candidate, Literal["suppressed", "withdrawn", "cancelled", "expired"]]] = []
    postponed: list[Candidate] = []  # held ones: they come again in a while
    doubtful: list[Candidate] = []  # unknown ones that must not be sent again: they are looked up instead
    next_free_at: dict[UUID, datetime] = {}


def choose(clocks: Mapping[UUID, Clock], candidates: Sequence[Candidate], *, now: datetime, places: int) -> Choice:
    """Pick at most ``places``; a number's texts follow each other at its rate, from its clock or from now."""
    choice = Choice()
    people: set[tuple[UUID, bytes]] = set()
    for candidate in _fair_order(_free(candidates, choice)):
        if len(choice.taken) == places:
            break
        person = (candidate.church_id, candidate.phone_index)
        if person in people:
            continue
        people.add(person)  # also when it must wait: what was accepted later does not overtake it
        clock = clocks[candidate.number_id]
        begins_at = max(choice.next_free_at.get(candidate.number_id, clock.next_free_at), now)
        wait_seconds = (begins_at - now).total_seconds()
        if wait_seconds > HORIZON_SECONDS:
            continue
        choice.taken.append(Taken(candidate=candidate, begins_after_seconds=wait_seconds))
        # A text of no segments cannot be, but would stop the clock.
        seconds = max(candidate.segments, 1) / clock.segments_per_second
        choice.next_free_at[candidate.number_id] = begins_at + timedelta(seconds=seconds)
    return choice


def _free(candidates: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """Those with nothing in their way; the others are sorted into the choice."""
    free = []
    for candidate in candidates:
        obstacle = candidate.obstacle
        if obstacle is None:
            free.append(candidate)
        elif obstacle == "held":
            choice.postponed.append(candidate)
        elif obstacle == "busy":
            continue
        elif candidate.is_repeat:
            choice.doubtful.append(candidate)
        else:
            choice.closed.append((candidate, obstacle))
    return free


def _fair_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By priority; within one, the churches take turns, each in the order in which its texts were accepted."""
    places: dict[tuple[int, UUID], int] = {}
    keyed = []
    for candidate in sorted(candidates, key=lambda each: (each.priority, each.due_at, each.recipient_id)):
        lane = (candidate.priority, candidate.church_id)
        turn = places.get(lane, 0)
        places[lane] = turn + 1
        keyed.append(((candidate.priority, turn, candidate.due_at, candidate.recipient_id), candidate))
    return [candidate for _, candidate in sorted(keyed, key=lambda pair: pair[0])]
