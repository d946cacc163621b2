"""Recurrence rules, as far as churches need them: on which days something happens, at most once a day.

Days are expanded here and not by a library: dateutil looks for the next match until the year 9999 and cannot be told to
stop (14 s for 30 February), so that one rule could hold up a process. The tests hold this against dateutil.

Source: RFC 5545, 3.3.10. A day that does not exist (31 April) is left out; ``BYMONTHDAY=-1`` is a month's last day.
"""

import calendar
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, islice
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

Frequency = Literal["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]
HORIZON = timedelta(days=50 * 366)
"""Beyond it nothing is looked for."""
MOST_INTERVAL = 999
MOST_COUNT = 1000
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


class BadRule(ValueError):
    """A rule that is none, or none that is kept here; the message says why, for people."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as read. ``weekdays``: (which of the month or year, or 0 for each; 0 for Monday)."""

    frequency: Frequency
    interval: int = 1
    count: int | None = None
    until: datetime | None = None  # wall time, included
    weekdays: tuple[tuple[int, int], ...] = ()
    month_days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0


def parse(text: str, zone: ZoneInfo) -> Rule:
    """Read a rule without its ``RRULE:``, in any case.

    Raises:
        BadRule: it is none, or asks for more than once a day, or for what is not kept here.
    """
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise BadRule(f"{part!r} is no part of a rule")
        if name in parts:
            raise BadRule(f"{name} is there twice")
        parts[name] = value
    frequency = parts.pop("FREQ", "")
    if frequency not in get_args(Frequency):
        raise BadRule("FREQ must be DAILY, WEEKLY, MONTHLY or YEARLY: at most once a day")
    if unknown := sorted(parts.keys() - _READERS.keys()):
        raise BadRule(f"{unknown[0]} is not kept here; the time of day is that of startAt")
    values = {field: read(parts[name], zone) for name, (field, read) in _READERS.items() if name in parts}
    rule = msgspec.convert({"frequency": frequency, **values}, Rule)
    _check(rule)
    return rule


def _check(rule: Rule) -> None:
    numbered = any(which for which, _ in rule.weekdays)
    if rule.count is not None and rule.until is not None:
        raise BadRule("COUNT and UNTIL do not go together")
    if numbered and rule.frequency in ("DAILY", "WEEKLY"):
        raise BadRule("BYDAY takes numbers with MONTHLY and YEARLY alone")
    if numbered and rule.month_days:
        raise BadRule("BYDAY with numbers and BYMONTHDAY do not go together")
    if rule.month_days and rule.frequency == "WEEKLY":
        raise BadRule("BYMONTHDAY and WEEKLY do not go together")
    if rule.positions and not (rule.weekdays or rule.month_days or rule.months):
        raise BadRule("BYSETPOS needs another BY part")


def slots(rule: Rule, start: datetime, since: datetime) -> Iterator[datetime]:
    """The wall times of a rule from ``since`` on, in order, none before ``start`` and none beyond the horizon.

    ``start`` gives the time of day, and what the rule leaves open; it is a slot only if the rule says so.
    """
    last = min(max(start, since) + HORIZON, rule.until or datetime.max)  # noqa: DTZ901 - a wall time
    first = start.date() if rule.count is not None else max(start, since).date()  # counted from the beginning on
    found = (datetime.combine(day, start.time()) for day in _days(rule, start.date(), first, last.date()))
    counted = islice((slot for slot in found if start <= slot <= last), rule.count)
    return (slot for slot in counted if slot >= since)


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a wall time is, in UTC. One that the clocks skip is read by the offset before, so 02:30 is 03:30 that day;
    of one that comes twice the first is meant.

    Source: RFC 5545, 3.3.5.
    """
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def wall_time(at: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in the zone show."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _days(rule: Rule, start: date, since: date, last: date) -> Iterator[date]:
    for period in _periods(rule, start, since, last):
        days = sorted({day for day in _expand(rule, period, start) if not rule.months or day.month in rule.months})
        chosen = {days[_index(each)] for each in rule.positions if abs(each) <= len(days)} if rule.positions else days
        yield from (day for day in sorted(chosen) if start <= day and since <= day <= last)


def _index(position: int) -> int:
    return position - 1 if position > 0 else position


def _periods(rule: Rule, start: date, since: date, last: date) -> Iterator[date]:
    """The first days of the days, weeks, months or years that the rule looks into."""
    step = rule.interval
    if rule.frequency in ("DAILY", "WEEKLY"):
        length = step * (7 if rule.frequency == "WEEKLY" else 1)
        if rule.frequency == "WEEKLY":
            start -= timedelta(days=(start.weekday() - rule.week_start) % 7)
        passed = max(0, (since - start).days // length)
        for turn in range(passed, (last - start).days // length + 1):
            yield start + timedelta(days=turn * length)
        return
    months = step * (12 if rule.frequency == "YEARLY" else 1)
    begin = start.year * 12 + (start.month - 1 if rule.frequency == "MONTHLY" else 0)
    passed = max(0, (since.year * 12 + since.month - 1 - begin) // months)
    for month in range(begin + passed * months, last.year * 12 + last.month, months):
        yield date(month // 12, month % 12 + 1, 1)


def _expand(rule: Rule, period: date, start: date) -> Iterable[date]:
    """The days of one period, in any order; those of other months than the rule's may be among them."""
    if rule.frequency == "DAILY":
        return [period] if _matches(rule, period) else []
    if rule.frequency == "WEEKLY":
        week = [period + timedelta(days=each) for each in range(7)]
        weekdays = {weekday for _, weekday in rule.weekdays} or {start.weekday()}
        return [day for day in week if day.weekday() in weekdays]
    if rule.frequency == "MONTHLY":
        return _in_month(rule, period, start)
    if rule.weekdays and not rule.months and not rule.month_days:
        return _weekdays([period + timedelta(days=each) for each in range(365 + calendar.isleap(period.year))], rule)
    dated = rule.weekdays or rule.month_days
    months = rule.months or (range(1, 13) if dated else (start.month,))
    return chain.from_iterable(_in_month(rule, period.replace(month=month), start) for month in months)


def _in_month(rule: Rule, first: date, start: date) -> list[date]:
    month = [first.replace(day=each + 1) for each in range(calendar.monthrange(first.year, first.month)[1])]
    if rule.weekdays and not rule.month_days:
        return _weekdays(month, rule)
    if not rule.month_days:
        return [day for day in month if day.day == start.day]
    return [day for day in month if _matches(rule, day)]


def _matches(rule: Rule, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    dated = not rule.month_days or day.day in rule.month_days or day.day - length - 1 in rule.month_days
    return dated and (not rule.weekdays or any(day.weekday() == weekday for _, weekday in rule.weekdays))


def _weekdays(days: list[date], rule: Rule) -> list[date]:
    """Those that ``BYDAY`` names, a number counting within ``days``."""
    found: list[date] = []
    for which, weekday in rule.weekdays:
        these = [day for day in days if day.weekday() == weekday]
        if which == 0:
            found += these
        elif abs(which) <= len(these):
            found.append(these[_index(which)])
    return found


def _number(value: str, most: int, *, signed: bool = False) -> int:
    digits = value.removeprefix("-").removeprefix("+") if signed else value
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 4 and 1 <= int(digits) <= most):
        raise BadRule(f"{value!r} must be a number from 1 to {most}")
    return -int(digits) if value.startswith("-") else int(digits)


def _numbers(most: int, *, signed: bool) -> Callable[[str, ZoneInfo], tuple[int, ...]]:
    def read(value: str, _zone: ZoneInfo) -> tuple[int, ...]:
        return tuple(sorted({_number(each, most, signed=signed) for each in value.split(",")}))

    return read


def _weekday(value: str) -> int:
    if value not in WEEKDAYS:
        raise BadRule(f"{value!r} must end in one of {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(value)


def _by_day(value: str, _zone: ZoneInfo) -> tuple[tuple[int, int], ...]:
    days = value.split(",")
    return tuple((_number(each[:-2], 53, signed=True) if each[:-2] else 0, _weekday(each[-2:])) for each in days)


def _until(value: str, zone: ZoneInfo) -> datetime:
    """A day (included), a wall time, or a moment in UTC."""
    digits = value.replace("T", "", 1).removesuffix("Z")
    if not digits.isascii() or not digits.isdigit():
        raise BadRule("UNTIL must be like 20271231 or 20271231T235959Z")
    try:
        if len(value) == 8:
            return datetime.combine(datetime.strptime(value, "%Y%m%d"), time.max)  # noqa: DTZ007 - a wall time
        if not value.endswith("Z"):
            return datetime.strptime(value, "%Y%m%dT%H%M%S")  # noqa: DTZ007 - a wall time
        return wall_time(datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC), zone)
    except (ValueError, OverflowError) as error:
        raise BadRule("UNTIL must be like 20271231 or 20271231T235959Z") from error


_READERS: dict[str, tuple[str, Callable[[str, ZoneInfo], object]]] = {
    "INTERVAL": ("interval", lambda value, _zone: _number(value, MOST_INTERVAL)),
    "COUNT": ("count", lambda value, _zone: _number(value, MOST_COUNT)),
    "UNTIL": ("until", _until),
    "BYDAY": ("weekdays", _by_day),
    "BYMONTHDAY": ("month_days", _numbers(31, signed=True)),
    "BYMONTH": ("months", _numbers(12, signed=False)),
    "BYSETPOS": ("positions", _numbers(366, signed=True)),
    "WKST": ("week_start", lambda value, _zone: _weekday(value)),
}
