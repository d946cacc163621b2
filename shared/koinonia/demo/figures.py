"""The figures of the demo, each from every place that knows it, compared. No I/O.

Places: ``file`` (what the CSV file and the story make expect), ``api`` (the counters of the public API), ``copies``
(the API's list of each recipient's copy, counted), ``ledger`` (billing's table, read directly) and ``carrier`` (the
record of what arrived there). A place that cannot know a figure has no value for it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.api.billing import Usage
from koinonia.api.messages import Message, Recipient, RecipientStatus
from koinonia.demo.carrier import CarrierText

Place = Literal["file", "api", "copies", "ledger", "carrier"]
PLACES: tuple[Place, ...] = ("file", "api", "copies", "ledger", "carrier")

_FAILED: frozenset[RecipientStatus] = frozenset({"failed", "undelivered", "expired"})
_FAILED_THERE = frozenset({"delivery_failed", "sending_failed", "expired"})


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. ``note`` says how it comes about."""

    name: str
    values: Mapping[Place, float | None]
    agrees: bool
    note: str = ""


class Section(msgspec.Struct, frozen=True):
    """Figures that belong together."""

    title: str
    lines: tuple[Line, ...]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What file and story say of one broadcast. Its texts are known at the carrier by their ``ending``."""

    title: str
    message_id: UUID
    ending: str
    numbers: int
    suppressed: int
    failed: int
    note: str  # how many get it, and why


class Metered(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's sum for one message, reply or confirmation."""

    recipients: int
    segments: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. ``messages`` and ``copies`` are by message, ``ledger`` by what was sent."""

    messages: Mapping[UUID, Message]
    copies: Mapping[UUID, Sequence[Recipient]]
    usage: Usage
    ledger: Mapping[UUID, Metered]
    texts: Sequence[CarrierText]


def compare(broadcasts: Sequence[Expected], evidence: Evidence) -> list[Section]:
    """Every figure of the broadcasts, then of all texts together."""
    sections = [_broadcast(each, evidence) for each in broadcasts]
    return [*sections, _together([each.message_id for each in broadcasts], evidence)]


def exact(name: str, note: str = "", **values: int | None) -> Line:
    """A figure that is the same wherever it is known."""
    given = _by_place(values)
    known = {value for value in given.values() if value is not None}
    return Line(name=name, values=given, agrees=len(known) == 1, note=note)


def rate(name: str, note: str = "", **moments: Sequence[datetime]) -> Line:
    """So many a second; the spans may differ by a second and a tenth, as the clocks are read at other moments."""
    spans = {place: (max(times) - min(times)).total_seconds() if times else 0.0 for place, times in moments.items()}
    rates = {place: len(moments[place]) / span if span else None for place, span in spans.items()}
    shortest, longest = min(spans.values()), max(spans.values())
    agrees = longest > 0 and longest - shortest <= 1 + longest / 10
    return Line(name=name, values=_by_place(rates), agrees=agrees, note=note)


def all_agree(sections: Iterable[Section]) -> bool:
    """Whether nothing differs."""
    return all(line.agrees for section in sections for line in section.lines)


def disagreeing(sections: Iterable[Section]) -> list[str]:
    """The names of the figures that differ."""
    return [f"{section.title}: {line.name}" for section in sections for line in section.lines if not line.agrees]


def _broadcast(expected: Expected, evidence: Evidence) -> Section:
    message = evidence.messages[expected.message_id]
    counts, copies = message.counts, evidence.copies[expected.message_id]
    statuses = Counter(copy.status for copy in copies)
    handed = [copy for copy in copies if copy.sent_at is not None]
    metered = evidence.ledger.get(expected.message_id, Metered(recipients=0, segments=0))
    texts = [text for text in evidence.texts if (text.text or "").endswith(expected.ending)]
    there = Counter(text.status for text in texts)
    sent = expected.numbers - expected.suppressed
    lines = (
        exact("accepted", expected.note, file=expected.numbers, api=message.total_recipients, copies=len(copies)),
        exact("suppressed", file=expected.suppressed, api=counts.suppressed, copies=statuses["suppressed"]),
        exact(
            "sent",
            "accepted − suppressed",
            file=sent,
            api=counts.sent + counts.delivered + counts.undelivered,
            copies=len(handed),
            ledger=metered.recipients,
            carrier=len(texts),
        ),
        exact(
            "delivered",
            "sent − failed",
            file=sent - expected.failed,
            api=counts.delivered,
            copies=statuses["delivered"],
            carrier=there["delivered"],
        ),
        exact(
            "failed",
            "a phone out of service",
            file=expected.failed,
            api=counts.failed + counts.undelivered + counts.expired,
            copies=sum(statuses[status] for status in _FAILED),
            carrier=sum(there[status] for status in _FAILED_THERE),
        ),
        exact("duplicates at the carrier", file=0, carrier=_duplicates(texts)),
        exact(
            "billed segments",
            "a name such as Chloë takes two" if sum(text.parts for text in texts) > len(texts) else "",
            copies=sum(copy.segments for copy in handed),
            ledger=metered.segments,
            carrier=sum(text.parts for text in texts),
        ),
        rate(
            "recipients per second",
            "by each one's own clock",
            copies=[copy.sent_at for copy in handed if copy.sent_at is not None],
            carrier=[text.accepted_at for text in texts],
        ),
    )
    return Section(expected.title, lines)


def _together(message_ids: Sequence[UUID], evidence: Evidence) -> Section:
    usage, ledger, texts = evidence.usage, evidence.ledger.values(), evidence.texts
    parts = [evidence.ledger[sent].recipients for sent in message_ids if sent in evidence.ledger]
    others = sum(line.recipients for line in ledger) - sum(parts)
    lines = (
        exact(
            "texts",
            f"{' + '.join(map(str, parts))} + {others} to one person",
            api=usage.recipients,
            ledger=sum(line.recipients for line in ledger),
            carrier=len(texts),
        ),
        exact(
            "billed segments",
            api=usage.segments,
            ledger=sum(line.segments for line in ledger),
            carrier=sum(text.parts for text in texts),
        ),
        exact("used of the plan", api=usage.used_segments, ledger=sum(line.segments for line in ledger)),
        exact("still reserved", file=0, api=usage.reserved_segments),
        exact("duplicates at the carrier", file=0, carrier=_duplicates(texts)),
    )
    return Section("Everything together", lines)


def _duplicates(texts: Iterable[CarrierText]) -> int:
    """Texts that came again: the same words to the same number, or the same recipient's token, whichever shows it."""
    seen: set[tuple[str, str | None]] = set()
    tokens: set[str] = set()
    duplicates = 0
    for text in texts:
        copy = (text.recipient, text.text)
        duplicates += copy in seen or text.token in tokens
        seen.add(copy)
        tokens.update([text.token] if text.token else [])
    return duplicates


def _by_place(values: Mapping[str, float | None]) -> dict[Place, float | None]:
    return {place: values.get(place) for place in PLACES}
