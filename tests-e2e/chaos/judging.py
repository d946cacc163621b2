"""What must hold of a church's texts after a run, judged from what was read. Pure; each complaint is a sentence."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ..carrier import Text
from .books import OPEN, Books, Row
from .plan import WORKERS, Plan, Step

FINAL = {
    "delivered": "delivered",
    "delivery_failed": "undelivered",
    "sending_failed": "undelivered",
}
"""The carrier's last word on a text, and the state that it leads to."""


@dataclass(frozen=True)
class Facts:
    """What the run did that decides what may be."""

    idempotency: bool
    contents: Mapping[UUID, str]  # of the broadcasts that were answered 202
    people: Mapping[UUID, int]  # how many each of them is for
    lost_calls: int  # calls that got no readable answer, of which the carrier kept nothing
    ended_leases: int  # recipients whose worker let their lease end
    stopped: Collection[str] = ()  # the phones of those who said STOP
    late_claims: int = 0  # that were made after their number's hold


@dataclass(frozen=True)
class Copy:
    """A recipient's row, whose it is, and the carrier's texts under its token."""

    row: Row
    phone: str
    texts: Sequence[Text]


@dataclass(frozen=True)
class Fallen:
    """A process that was killed: what was open right before and after, read from Postgres."""

    step: Step
    process: str
    before: Counter[str]
    after: Counter[str]
    in_hands: int = 0  # recipients that a worker itself held, before and after
    note: str = ""

    def __str__(self) -> str:
        notes = [f"{open_of(self.before)} open"]
        notes += [f"{self.in_hands} in its hands"] if self.in_hands else []
        notes += [self.note] if self.note else []
        return f"{self.step.deed} {self.process} ({', '.join(notes)})"


def open_of(statuses: Counter[str]) -> int:
    """How many of the rows are open."""
    return sum(count for status, count in statuses.items() if status in OPEN)


def judge_kills(plan: Plan, fallen: Sequence[Fallen]) -> list[str]:
    """Each process of the plan was killed, while rows were open; a worker, while it held some of them itself."""
    missing = set(plan.kills) - {each.process for each in fallen}
    complaints = [f"{process} was not killed" for process in sorted(missing)]
    for each in fallen:
        if not open_of(each.before) or not open_of(each.after):
            complaints.append(f"no row was open when {each.process} was killed")
        if each.step.deed == "kill" and each.process in WORKERS and not each.in_hands:
            complaints.append(f"{each.process} held no recipient when it was killed")
    return complaints


def judge(books: Books, copies: Sequence[Copy], strangers: Sequence[Text], facts: Facts) -> list[str]:
    """Everything that is not as it must be. ``strangers`` are texts under a token of no row."""
    complaints = [f"{len(strangers)} texts belong to no recipient"] if strangers else []
    for copy in copies:
        complaints += [f"{_name(copy)}: {wrong}" for wrong in _judge_copy(copy, facts)]
    if facts.late_claims:
        complaints.append(f"{facts.late_claims} recipients were claimed after their STOP was stored")
    complaints += _judge_doubts(copies, facts)
    complaints += _judge_texts(copies)
    complaints += _judge_messages(books, facts)
    complaints += _judge_bill(books, copies)
    complaints += [
        f"{each.name} of {each.of} is kept as {each.kept}, counted {each.counted}" for each in books.wrong_figures
    ]
    return complaints


def _judge_copy(copy: Copy, facts: Facts) -> Iterator[str]:
    """One row against what the carrier has of it."""
    row = copy.row
    if len(copy.texts) > 1:
        yield f"the carrier got it {len(copy.texts)} times"
    # Nobody sends again without keys, nor to who has said STOP since: there an open outcome stays open, and is seen.
    may_stay_unknown = not facts.idempotency or copy.phone in facts.stopped
    if copy.texts:
        yield from _judge_sent(row, copy.texts[0], may_stay_unknown=may_stay_unknown)
    else:
        yield from _judge_unsent(copy, facts, may_stay_unknown=may_stay_unknown)
    if row.work_state != ("unknown" if row.status == "unknown" else None):
        yield f"{row.status} with work {row.work_state}"


def _judge_sent(row: Row, text: Text, *, may_stay_unknown: bool) -> Iterator[str]:
    allowed = _allowed(text, may_stay_unknown=may_stay_unknown)
    if row.status not in allowed:
        yield f"{row.status}, not {' or '.join(sorted(allowed))}; the carrier has it {text.status}, heard {text.heard}"
    elif row.status != "unknown" and (row.carrier_id, row.segments) != (text.id, text.parts):
        yield f"carrier id and parts are {row.carrier_id}, {row.segments} and not {text.id}, {text.parts}"
    if (row.accepted_at is None) != (row.status == "unknown"):
        yield f"{row.status} with accepted_at {row.accepted_at}"


def _judge_unsent(copy: Copy, facts: Facts, *, may_stay_unknown: bool) -> Iterator[str]:
    row = copy.row
    if row.accepted_at is not None:
        yield f"{row.status}, accepted, and the carrier has never had it"
    elif row.status == "unknown" and may_stay_unknown:
        if row.attempt < 1:
            yield "unknown, and no attempt was made"
    elif row.status != "suppressed" or copy.phone not in facts.stopped:
        yield f"{row.status}, and the carrier has never had it"


def _allowed(text: Text, *, may_stay_unknown: bool) -> set[str]:
    """The states that a row may have whose text the carrier has accepted, once all is quiet."""
    final = FINAL[text.status]
    if text.status in text.heard:
        return {final}
    # Not heard as the carrier sees it: our answer may have died with the gateway, and records may have been looked up.
    allowed = {"sent", final}
    return allowed | {"unknown"} if may_stay_unknown and not text.heard else allowed


def _judge_doubts(copies: Sequence[Copy], facts: Facts) -> Iterator[str]:
    """Unknown without a trace at the carrier is only what somebody was seen to have begun."""
    doubted = sum(1 for copy in copies if copy.row.status == "unknown" and not copy.texts)
    begun = facts.lost_calls + facts.ended_leases
    if doubted > begun:
        yield f"{doubted} recipients are unknown, and only {begun} calls were begun without an answer"


def _judge_texts(copies: Sequence[Copy]) -> Iterator[str]:
    """Nobody has two rows of one broadcast, nor got one text under two tokens."""
    persons = Counter((copy.row.source_id, copy.phone) for copy in copies)
    if twice := sum(1 for count in persons.values() if count > 1):
        yield f"{twice} people have more than one row of a message"
    texts = Counter((text.recipient, text.text) for copy in copies for text in copy.texts)
    if twice := sum(1 for count in texts.values() if count > 1):
        yield f"{twice} people got a text more than once"
    for copy in copies:
        if any(text.recipient != copy.phone for text in copy.texts):
            yield f"{_name(copy)}: texted at another number"


def _judge_messages(books: Books, facts: Facts) -> Iterator[str]:
    """Each broadcast that was answered is there once, with counters that equal its rows."""
    found = Counter((message.id, message.content) for message in books.messages)
    if found != Counter(facts.contents.items()):
        yield f"{len(books.messages)} messages are there, and not the {len(facts.contents)} that were answered"
    for message in books.messages:
        statuses = Counter(row.status for row in books.of(message.id))
        if message.counts != dict(statuses):
            yield f"a message counts {message.counts}, and its rows are {dict(statuses)}"
        if not message.total_recipients == statuses.total() == facts.people.get(message.id):
            people = facts.people.get(message.id)
            yield f"a message for {people} people says {message.total_recipients} and has {statuses.total()} rows"
        if message.status != (wanted := _status(statuses)):
            yield f"a message is {message.status} and not {wanted}: {dict(statuses)}"


def _status(statuses: Counter[str]) -> str:
    open_ones = {status for status in statuses if status in OPEN}
    if not open_ones:
        return "completed"
    return "handed_over" if open_ones == {"sent"} else "sending"


def _judge_bill(books: Books, copies: Sequence[Copy]) -> Iterator[str]:
    """Metered is what the carrier accepted and is known of; reserved is what messages with open rows may still use."""
    accepted = sum(row.segments for row in books.rows if row.accepted_at is not None)
    theirs = sum(text.parts for copy in copies for text in copy.texts if copy.row.status != "unknown")
    metered = (books.used_segments, books.ledger_segments)
    if metered != (accepted, accepted) or accepted != theirs:
        yield f"metered {metered}, accepted by rows {accepted}, by the carrier {theirs}"
    if (people := sum(1 for row in books.rows if row.accepted_at is not None)) != books.ledger_recipients:
        yield f"{books.ledger_recipients} recipients are metered, {people} are accepted"
    held = 0
    for reservation in books.reservations:
        is_open = any(row.status in OPEN for row in books.of(reservation.message_id))
        if reservation.status != ("reserved" if is_open else "settled"):
            yield f"a reservation is {reservation.status}, its message {'has' if is_open else 'has no'} open rows"
        used = sum(row.segments for row in books.of(reservation.message_id) if row.accepted_at is not None)
        if reservation.used_segments != used:
            yield f"a reservation has used {reservation.used_segments}, its rows {used}"
        held += max(0, reservation.segment_bound - used) if is_open else 0
    if books.reserved_segments != held:
        yield f"{books.reserved_segments} segments are reserved, open rows justify {held}"
    if books.open_holds:
        yield f"{books.open_holds} holds are not settled"


def _name(copy: Copy) -> str:
    return f"{copy.row.kind} recipient {copy.row.id}"
