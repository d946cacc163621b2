"""Figures that people look at: what the counters of many messages come to, day by day."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from koinonia.api.analytics import USUAL_DAYS, DeliveryDay, Fared

SENT = ("sent", "delivered", "undelivered", "unconfirmed")
FAILED = ("failed", "undelivered", "expired")


class Sums(msgspec.Struct, kw_only=True):
    """Counters of some messages by status, as a row of figures has them."""

    messages: int = 0
    queued: int = 0
    sending: int = 0
    sent: int = 0
    unknown: int = 0
    delivered: int = 0
    undelivered: int = 0
    unconfirmed: int = 0
    failed: int = 0
    suppressed: int = 0
    cancelled: int = 0
    expired: int = 0


COLUMNS = Sums.__struct_fields__
NOTHING = Sums()


def total(parts: Iterable[Sums]) -> Sums:
    """Several together."""
    both = [*parts]
    return Sums(**{name: sum(getattr(each, name) for each in both) for name in COLUMNS})


def fared(sums: Sums) -> Fared:
    """Figures as people see them; differences come in any order, so that for a moment one may be below zero."""
    counts = msgspec.structs.asdict(sums)
    shown = {name: max(0, count) for name, count in counts.items()}
    failed = sum(shown[name] for name in FAILED)
    settled = shown["delivered"] + failed
    return Fared(
        messages=shown["messages"],
        recipients=max(0, sum(counts.values()) - counts["messages"]),
        sent=sum(shown[name] for name in SENT),
        delivered=shown["delivered"],
        failed=failed,
        suppressed=shown["suppressed"],
        delivery_rate=shown["delivered"] / settled if settled else None,
    )


def zone_of(timezone: str | None) -> ZoneInfo:
    """A church's zone; UTC while it is not known, or where this machine does not know it."""
    try:
        return ZoneInfo(timezone or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def church_day(at: datetime, timezone: str | None) -> date:
    """The day that it is then in a church's zone."""
    return at.astimezone(zone_of(timezone)).date()


class Span(msgspec.Struct, frozen=True):
    """Days, both included."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))


def span(since: date | None, until: date | None, today: date) -> Span:
    """The days that are asked for: thirty to ``until``, or from ``since`` on, where only one of them is said."""
    length = timedelta(days=USUAL_DAYS - 1)
    if since is not None:
        return Span(since, until if until is not None else since + length)
    last = until if until is not None else today
    return Span(last - length, last)


def months(today: date) -> tuple[Span, Span]:
    """This month and the one before, each from its first day to its last that has come."""
    first = today.replace(day=1)
    before = first - timedelta(days=1)
    return Span(first, today), Span(before.replace(day=1), before)


def at_most(now: datetime) -> date:
    """No zone has a later day than this."""
    return now.astimezone(UTC).date() + timedelta(days=1)


def in_days(known: Mapping[date, Sums], days: Span) -> list[DeliveryDay]:
    """A line for each day, also for those without texts."""
    lines = ((day, fared(known.get(day, NOTHING))) for day in days)
    return [DeliveryDay(date=day, **msgspec.structs.asdict(line)) for day, line in lines]
