"""What sending would do, told before it is done: how long, how many segments, and what to look at first."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice

import msgspec

from koinonia import sms
from koinonia.api.messages import SegmentCount, SendWarning
from koinonia.quiet_hours import QuietHours
from koinonia_messaging.domain.audience import Text
from koinonia_messaging.domain.texts import Draft

PACE = 0.97
"""Delivery keeps a number's clock at this share of its rate."""
MOST_NIGHTS = 1000
"""Beyond so many, a plan takes quiet hours for none."""


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment costs, and how many a number sends in a second, by its kind."""

    segment_price_cents: float
    rates: Mapping[str, float]


def segment_counts(text: Text, shapes: Iterable[tuple[Mapping[str, str], int]]) -> list[SegmentCount]:
    """How many copies take how many segments; a shape counts like the fields of so many recipients."""
    counts: Counter[int] = Counter()
    for fields, recipients in shapes:
        counts[text.copy_segments(dict(fields))] += recipients
    return [SegmentCount(segments=each, recipients=counts[each]) for each in sorted(counts)]


def finishes_at(
    begins_at: datetime, segments: int, rate: float | None, quiet_hours: QuietHours | None = None
) -> datetime | None:
    """When the last segment is with the carrier, which gets none in quiet hours; None: nobody knows the rate."""
    if rate is None:
        return None
    at, left = begins_at, timedelta(seconds=segments / (rate * PACE))
    for quiet in islice(() if quiet_hours is None else quiet_hours.following(begins_at), MOST_NIGHTS):
        if at + left <= quiet.begins_at:
            break
        left -= max(quiet.begins_at - at, timedelta())
        at = quiet.ends_at
    return at + left


def warnings(
    draft: Draft,
    text: Text,
    first_texts: int,
    unknown: list[str],
    twin: object | None,
    *,
    is_too_late: bool,
    waits_until: datetime | None = None,
    limited: int = 0,
) -> list[SendWarning]:
    """What to look at before sending. ``waits_until``: for the end of quiet hours; ``limited``: people who have had as
    many texts this week as the church allows.
    """
    found = {}
    if unknown:
        found["unknown_fields"] = f"Nobody in there has a value for {', '.join(unknown)}."
    if sms.has_field_in_link(text.content):
        found["field_in_link"] = "A field stands in a link: a value with a space breaks it."
    whom = "1 person gets" if first_texts == 1 else f"{first_texts} people get"
    if first_texts and draft.church_name.casefold() not in sms.smart(text.content).casefold():
        found["first_text_without_name"] = f"{whom} the first text from you; it does not say {draft.church_name}."
    if first_texts and not (draft.has_line_added or sms.says_how_to_opt_out(text.content)):
        found["first_text_without_opt_out"] = f"{whom} the first text from you; it does not say how to opt out."
    if twin is not None:
        found["duplicate"] = f"Message {twin} says the same to the same people within a minute of this one."
    if waits_until is not None:
        found["quiet_hours"] = "It would wait for the end of your quiet hours: send it as urgent if it must not."
    if limited:
        whom = "1 person has" if limited == 1 else f"{limited} people have"
        found["weekly_limit"] = (
            f"{whom} had as many texts this week as you allow: send it as urgent if they must get it."
        )
    if is_too_late:
        found["too_late"] = "It would not be through by doNotSendAfter: what is left then expires."
    return [SendWarning(code=code, message=message) for code, message in found.items()]
