"""Which recipients go next, churches in turn, each number within its rate; and when to look again.

The churches stand in a lane each, the longest waiting first. Whoever had a turn stands behind all others, in the order
of the last turns: so a claim with fewer places than churches goes on where the one before it ended, and a church with
ten numbers has no more turns than one with one. Within its turns a church's numbers take turns.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Literal
from uuid import UUID

import msgspec

from koinonia_delivery.domain.priorities import IN_TURN, PERSON

HORIZON_SECONDS = 0.2
"""How far ahead of a number's clock a claim may take: less than a call may wait for its beginning."""
BEGIN_SECONDS = 0.25
"""A call that has not begun so long after its time gives its place back: what the claim knew may be stale by then."""
LEAD_SECONDS = 0.1
"""How long before a number's clock runs out it is looked at again: a claim that comes so late loses nothing."""
LOOK_AGAIN_SECONDS = 0.1
"""When a church is looked at again whose texts all wait for others to end."""
PACE = 0.97
"""A number's clock runs at this share of its rate.

A call begins up to ``BEGIN_SECONDS`` after its time by the clock, never before it. So what the carrier sees in
any ten seconds was timed within 10.25 s: at most 10.25 × 0.97 = 9.94 seconds' worth and one text. What is left, 0.06 s
of its rate, is for the way to the carrier, which is not always equally long.
"""

Obstacle = Literal["suppressed", "withdrawn", "cancelled", "expired", "paused", "held", "busy"]
"""Why a candidate may not go now.

suppressed, withdrawn, cancelled, expired: never. paused: its broadcast rests; it stands aside until that is
resumed. held: an inbound text that looks like an opt-out is not answered yet.
busy: an earlier text to this person is under way.
"""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A number's clock: no text of its may begin before ``next_free_at``.

    ``following_at``, by priority: when the first one is due that is no candidate, or may go after quiet hours.
    """

    number_id: UUID
    church_id: UUID
    next_free_at: datetime
    segments_per_second: float
    sender: str
    messaging_profile_id: str
    following_at: Mapping[int, datetime | None] = msgspec.field(default_factory=dict)


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


class Waking(msgspec.Struct, frozen=True, kw_only=True):
    """From when on the next claim for a church can do something; ``urgent_at``: for its urgent texts. None: never."""

    wake_at: datetime | None
    urgent_at: datetime | None


class Choice(msgspec.Struct, kw_only=True):
    """What a claim does with its candidates."""

    taken: list[Taken] = []
    closed: list[tuple[Candidate, Literal["suppressed", "withdrawn", "cancelled", "expired"]]] = []
    paused: list[Candidate] = []  # they stand aside until their broadcast is resumed
    postponed: list[Candidate] = []  # held ones, and unknown ones of a paused broadcast: they come again in a while
    doubtful: list[Candidate] = []  # unknown ones that must not be sent again: they are looked up instead
    next_free_at: dict[UUID, datetime] = {}
    lanes: dict[UUID, Waking] = {}  # one that had no turn for want of places is not in it: it keeps its place


def choose(
    church_ids: Sequence[UUID],
    clocks: Mapping[UUID, Clock],
    candidates: Sequence[Candidate],
    *,
    now: datetime,
    places: int,
) -> Choice:
    """Pick at most ``places``; a number's texts follow each other at its rate, from its clock or from now.

    ``church_ids``: the lanes, the longest waiting first.
    """
    choice = Choice()
    waiting = sorted(
        _free(candidates, choice), key=lambda each: (IN_TURN.index(each.priority), each.due_at, each.recipient_id)
    )
    unserved = _take_turns(choice, church_ids, clocks, waiting, now=now, places=places)
    served = [church_id for church_id in church_ids if church_id not in unserved]
    _wake_again(choice, served, clocks, candidates, now)
    return choice


def _free(candidates: Sequence[Candidate], choice: Choice) -> list[Candidate]:
    """Those with nothing in their way; the others are sorted into the choice."""
    free = []
    for candidate in candidates:
        obstacle = candidate.obstacle
        if obstacle is None:
            free.append(candidate)
        elif obstacle == "held" or (obstacle == "paused" and candidate.is_repeat):
            choice.postponed.append(candidate)
        elif obstacle == "paused":
            choice.paused.append(candidate)
        elif obstacle == "busy":
            continue
        elif candidate.is_repeat:
            choice.doubtful.append(candidate)
        else:
            choice.closed.append((candidate, obstacle))
    return free


def _take_turns(
    choice: Choice,
    church_ids: Sequence[UUID],
    clocks: Mapping[UUID, Clock],
    waiting: Sequence[Candidate],
    *,
    now: datetime,
    places: int,
) -> set[UUID]:
    """One text of each church in turn, first of what persons wait for, then of broadcasts: an urgent one goes ahead of
    its own church's alone. Answers the churches that had no turn for want of places.
    """
    # What was accepted later does not overtake, on another number neither.
    firsts: dict[tuple[UUID, bytes], UUID] = {}
    for candidate in waiting:
        firsts.setdefault((candidate.church_id, candidate.phone_index), candidate.recipient_id)
    lanes = _in_turn(clocks, waiting)
    unserved: set[UUID] = set()
    for is_broadcast in (False, True):
        turns = deque(iter(lanes[is_broadcast, each]) for each in church_ids if (is_broadcast, each) in lanes)
        while turns and len(choice.taken) < places:
            turn = turns.popleft()
            if _take_next(choice, clocks, turn, firsts, now):
                turns.append(turn)
        unserved.update(candidate.church_id for turn in turns for candidate in turn)
    return unserved - {taken.candidate.church_id for taken in choice.taken}


def _in_turn(clocks: Mapping[UUID, Clock], waiting: Sequence[Candidate]) -> dict[tuple[bool, UUID], list[Candidate]]:
    """The candidates of each church, what persons wait for and broadcasts apart: of the same priority its numbers in
    turn, the one whose clock is furthest back first.
    """
    counts: dict[tuple[int, UUID], int] = {}
    keyed: dict[tuple[bool, UUID], list[tuple[tuple[int, int, datetime, int], Candidate]]] = {}
    for order, candidate in enumerate(waiting):
        number = (candidate.priority, candidate.number_id)
        turn = counts[number] = counts.get(number, -1) + 1
        key = (IN_TURN.index(candidate.priority), turn, clocks[candidate.number_id].next_free_at, order)
        keyed.setdefault((candidate.priority != PERSON, candidate.church_id), []).append((key, candidate))
    by_key = itemgetter(0)
    return {lane: [candidate for _, candidate in sorted(each, key=by_key)] for lane, each in keyed.items()}


def _take_next(
    choice: Choice,
    clocks: Mapping[UUID, Clock],
    turn: Iterator[Candidate],
    firsts: Mapping[tuple[UUID, bytes], UUID],
    now: datetime,
) -> bool:
    """Take a church's next text that may go; False: it has none."""
    for candidate in turn:
        if firsts[candidate.church_id, candidate.phone_index] != candidate.recipient_id:
            continue
        clock = clocks[candidate.number_id]
        begins_at = max(choice.next_free_at.get(candidate.number_id, clock.next_free_at), now)
        wait_seconds = (begins_at - now).total_seconds()
        if wait_seconds > HORIZON_SECONDS:
            continue
        choice.taken.append(Taken(candidate=candidate, begins_after_seconds=wait_seconds))
        # A text of no segments cannot be, but would stop the clock.
        seconds = max(candidate.segments, 1) / (clock.segments_per_second * PACE)
        choice.next_free_at[candidate.number_id] = begins_at + timedelta(seconds=seconds)
        return True
    return False


def _wake_again(
    choice: Choice,
    church_ids: Sequence[UUID],
    clocks: Mapping[UUID, Clock],
    candidates: Sequence[Candidate],
    now: datetime,
) -> None:
    """When the next claim for each church can do something; that of what is postponed comes when it is written."""
    gone = {taken.candidate.recipient_id for taken in choice.taken}
    gone.update(candidate.recipient_id for candidate, _ in choice.closed)
    gone.update(candidate.recipient_id for candidate in (*choice.postponed, *choice.doubtful))
    left = {(each.number_id, each.priority) for each in candidates if each.recipient_id not in gone}
    # One that got ahead may go on at once, behind whoever was served before it.
    again = {candidate.church_id: now for candidate, _ in choice.closed}
    again.update({candidate.church_id: now for candidate in (*choice.postponed, *choice.doubtful)})
    again.update(
        {each.candidate.church_id: now + timedelta(microseconds=turn) for turn, each in enumerate(choice.taken)}
    )
    moments: dict[UUID, tuple[list[datetime], list[datetime]]] = {church_id: ([], []) for church_id in church_ids}
    for clock in clocks.values():
        if clock.church_id not in moments:
            continue
        free_at = choice.next_free_at.get(clock.number_id, clock.next_free_at) - timedelta(seconds=LEAD_SECONDS)
        for priority in IN_TURN:
            due_at = clock.following_at.get(priority)
            if (clock.number_id, priority) in left or (due_at is not None and due_at <= now):
                due_at = again.get(clock.church_id, now + timedelta(seconds=LOOK_AGAIN_SECONDS))
            if due_at is not None:
                moments[clock.church_id][priority != PERSON].append(max(due_at, free_at))
    for church_id, (urgent, broadcast) in moments.items():
        wake_at = min((*urgent, *broadcast), default=None)
        choice.lanes[church_id] = Waking(wake_at=wake_at, urgent_at=min(urgent, default=None))
