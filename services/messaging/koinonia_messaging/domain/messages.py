"""What a message costs at most, and what its counters show."""

from collections.abc import Mapping

import msgspec

from koinonia import sms
from koinonia.api.messages import Encoding, MessageCounts
from koinonia.errors import ValidationFailed
from koinonia_messaging.domain.audience import Text

OPEN = ("queued", "sending", "sent", "unknown")
CLOSED = ("delivered", "undelivered", "unconfirmed", "failed", "suppressed", "cancelled", "expired")
STATUSES = (*OPEN, *CLOSED)
BUILT_IN_FIELDS = ("firstName", "lastName")


class AudienceEmpty(ValidationFailed):
    """Nobody in the audience can be texted."""


class AudienceFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An audience as counted: distinct numbers, and the longest values that its text's fields can have."""

    numbers: int  # left-out ones included
    textable: int
    suppressed: int = 0  # of the others, those that have opted out
    digest: int = 0  # of the textable numbers, whatever their order: the same people have the same
    longest: Mapping[str, int] = msgspec.field(default_factory=dict)  # characters, by field
    plain: bool = True  # no value holds a character that GSM-7 does not send in one septet


class Outline(msgspec.Struct, frozen=True):
    """What sending would take."""

    encoding: Encoding
    segments: int  # of one copy, at most
    segment_bound: int  # of all copies, at most


def outline(text: Text, figures: AudienceFigures) -> Outline:
    """Bound a message from above: whatever the values of its fields, it takes no more segments than these."""
    written = sms.segments(text.content).encoding
    encoding: Encoding = written if figures.plain else "UCS-2"
    segments = 1 if text.has_media else max(1, sms.segment_bound(text.content, figures.longest, figures.plain))
    return Outline(encoding, segments, segments * figures.textable)


def check_length(outlined: Outline) -> None:
    """Refuse a text that carriers would not take.

    Raises:
        ValidationFailed: it may take more than ten segments.
    """
    if outlined.segments > sms.MOST_SEGMENTS:
        raise ValidationFailed.field("content", f"Over {sms.MOST_SEGMENTS} segments once its fields are filled in")


def unknown_fields(content: str, figures: AudienceFigures) -> list[str]:
    """The fields of a text for which nobody in the audience has a value."""
    known = {*BUILT_IN_FIELDS, *(name for name, length in figures.longest.items() if length)}
    return list(sms.unknown_fields(content, known))


def shown_counts(counters: Mapping[str, int], total: int) -> MessageCounts:
    """Counters as people see them: none below zero, and together ``total``.

    Recipients of whom delivery has not told yet are queued. Differences come in any order: where for a moment they show
    more than there are, the least final statuses give way.
    """
    shown = {status: max(0, counters[status]) for status in STATUSES}
    shown["queued"] = 0
    surplus = sum(shown.values()) - total
    for status in STATUSES:
        taken = min(max(surplus, 0), shown[status])
        shown[status] -= taken
        surplus -= taken
    shown["queued"] = total - sum(shown.values())
    return MessageCounts(**shown)
