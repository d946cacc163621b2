"""Rules against dateutil, over gaps and folds of the clock; and what becomes of runs that were missed."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from koinonia_messaging.domain.recurrence import WEEKDAYS, BadRule, instant, parse, slots
from koinonia_messaging.domain.recurring import MissedRuns, Schedule, take_turn

UTC_ZONE = ZoneInfo("UTC")
CHICAGO = "America/Chicago"


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules that both sides know, dense enough for dateutil to end."""
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {"FREQ": frequency, "INTERVAL": str(draw(st.integers(1, 5)))}
    dated = draw(st.sampled_from(["none", "days", "dates", "both"]))
    numbers = st.sampled_from(["", "1", "-1", "2"]) if frequency in ("MONTHLY", "YEARLY") else st.just("")
    if dated in ("days", "both"):
        # Of days with and without a number, dateutil finds those that are both; RFC 5545 means either.
        if dated == "both" or draw(st.booleans()):
            numbers = st.just("")
        else:
            numbers = numbers.filter(bool) if frequency in ("MONTHLY", "YEARLY") else numbers
        days = draw(st.lists(st.tuples(numbers, st.sampled_from(WEEKDAYS)), min_size=1, max_size=3, unique=True))
        parts["BYDAY"] = ",".join(f"{number}{day}" for number, day in days)
    if dated in ("dates", "both") and frequency != "WEEKLY":
        dates = draw(st.lists(st.sampled_from([1, 2, 15, 29, 30, 31, -1, -2]), min_size=1, max_size=3, unique=True))
        parts["BYMONTHDAY"] = ",".join(map(str, dates))
    if draw(st.booleans()):
        parts["BYMONTH"] = ",".join(map(str, draw(st.lists(st.integers(1, 12), min_size=4, max_size=8, unique=True))))
    # dateutil's first week is a part of one.
    if frequency != "WEEKLY" and len(parts) > 2 and draw(st.booleans()):
        parts["BYSETPOS"] = draw(st.sampled_from(["1", "-1", "1,-1"]))
    end = draw(st.sampled_from(["", "COUNT", "UNTIL"]))
    if end:
        parts[end] = {"COUNT": "4", "UNTIL": "20290301T120000"}[end]
    if draw(st.booleans()):
        parts["WKST"] = draw(st.sampled_from(WEEKDAYS))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@settings(deadline=None)
@given(rules(), st.integers(0, 800), st.integers(0, 1200))
def test_slots_are_those_that_dateutil_finds(text: str, start_day: int, since_day: int) -> None:
    start = datetime(2026, 1, 1, 9, 30) + timedelta(days=start_day)  # noqa: DTZ001 - a wall time
    since = start + timedelta(days=since_day)
    end = since + timedelta(days=4 * 366)
    theirs = [slot for slot in rrulestr(text, dtstart=start).between(start, end, inc=True) if slot >= since]
    ours = list(takewhile(lambda slot: slot <= end, slots(parse(text, UTC_ZONE), start, since)))
    assert ours == theirs


def test_days_with_and_without_a_number_are_either() -> None:
    rule = parse("FREQ=MONTHLY;BYDAY=MO,1TU", UTC_ZONE)
    start = datetime(2026, 6, 1, 9)  # noqa: DTZ001 - a wall time, of a Monday
    assert [slot.day for slot in islice(slots(rule, start, start), 6)] == [1, 2, 8, 15, 22, 29]


@pytest.mark.parametrize("text", ["FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=9"])
def test_a_rule_that_never_comes_ends(text: str) -> None:
    assert Schedule(rrule=text, timezone=CHICAGO, start_at=datetime(2026, 1, 1, 9)).upcoming(datetime.now(UTC)) == []  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FREQ=HOURLY",
        "FREQ=DAILY;BYHOUR=1,2",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=1000",
        "FREQ=DAILY;INTERVAL=²",
        "FREQ=DAILY;COUNT=2;UNTIL=20270101",
        "FREQ=DAILY;COUNT=2;COUNT=3",
        "FREQ=DAILY;UNTIL=20270231",
        "FREQ=DAILY;UNTIL=99991231T235959Z0",
        "FREQ=WEEKLY;BYDAY=1MO",
        "FREQ=WEEKLY;BYDAY=XX",
        "FREQ=WEEKLY;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYDAY=1MO;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYMONTHDAY=32",
        "FREQ=MONTHLY;BYMONTHDAY=--1",
        "FREQ=MONTHLY;BYSETPOS=1",
        "RRULE:FREQ=DAILY",
        "FREQ=DAILY;X",
    ],
)
def test_a_rule_that_is_none_or_too_frequent_is_refused(text: str) -> None:
    with pytest.raises(BadRule):
        parse(text, UTC_ZONE)


def test_until_is_a_day_a_wall_time_or_a_moment() -> None:
    zone = ZoneInfo(CHICAGO)
    start = datetime(2026, 12, 1, 9)  # noqa: DTZ001
    for until, count in (("20261203", 3), ("20261203T090000", 3), ("20261203T085959", 2), ("20261203T150000Z", 3)):
        assert len(list(slots(parse(f"FREQ=DAILY;UNTIL={until}", zone), start, start))) == count


@pytest.mark.parametrize(
    ("start", "runs"),
    [
        # The clocks go from 02:00 to 03:00 on 8 March: nine o'clock stays nine, half past two is half past three.
        ("2026-03-07T09:00", ["2026-03-07T15:00", "2026-03-08T14:00", "2026-03-09T14:00"]),
        ("2026-03-07T02:30", ["2026-03-07T08:30", "2026-03-08T08:30", "2026-03-09T07:30"]),
        # Back from 02:00 to 01:00 on 1 November: half past one comes twice, the first is meant, and only that.
        ("2026-10-31T01:30", ["2026-10-31T06:30", "2026-11-01T06:30", "2026-11-02T07:30"]),
    ],
)
def test_wall_time_is_kept_over_the_change_of_clocks(start: str, runs: list[str]) -> None:
    schedule = Schedule(rrule="FREQ=DAILY", timezone=CHICAGO, start_at=datetime.fromisoformat(start))
    now = schedule.at(schedule.start_at) - timedelta(seconds=1)
    found = [f"{schedule.at(slot):%Y-%m-%dT%H:%M}" for slot in schedule.upcoming(now)]
    assert found[:3] == runs


@given(
    st.sampled_from([CHICAGO, "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2031, 1, 1)),  # noqa: DTZ001
    st.integers(0, 40),
)
def test_upcoming_runs_are_later_than_now_in_order_and_none_is_left_out(
    zone: str, start: datetime, later_hours: int
) -> None:
    schedule = Schedule(rrule="FREQ=DAILY", timezone=zone, start_at=start)
    now = schedule.at(start) + timedelta(hours=later_hours)
    runs = schedule.upcoming(now)
    every = list(islice(slots(parse("FREQ=DAILY", schedule.zone), start, start), 10))
    assert len(runs) == 5
    assert runs == [slot for slot in every if instant(slot, schedule.zone) > now][:5]


def test_the_end_of_the_month_is_a_day_of_its_own() -> None:
    start = datetime(2026, 1, 31, 9)  # noqa: DTZ001
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = {
        rule: [slot.strftime("%m-%d") for slot in Schedule(rrule=rule, timezone=CHICAGO, start_at=start).upcoming(now)]
        for rule in ("FREQ=MONTHLY", "FREQ=MONTHLY;BYMONTHDAY=-1")
    }
    assert found["FREQ=MONTHLY"] == ["01-31", "03-31", "05-31", "07-31", "08-31"]
    assert found["FREQ=MONTHLY;BYMONTHDAY=-1"] == ["01-31", "02-28", "03-31", "04-30", "05-31"]


@pytest.mark.parametrize(
    ("missed_runs", "late", "run", "passed"),
    [
        ("skip", timedelta(minutes=15), 3, [1, 2]),
        ("skip", timedelta(minutes=16), None, [1, 2, 3]),
        ("once", timedelta(hours=5), 3, [1, 2]),
        ("once", timedelta(days=-3), None, []),
    ],
)
def test_what_was_missed_is_one_message_or_none(
    missed_runs: MissedRuns, late: timedelta, run: int | None, passed: list[int]
) -> None:
    start = datetime(2026, 12, 1, 9)  # noqa: DTZ001
    schedule = Schedule(rrule="FREQ=DAILY", timezone=CHICAGO, start_at=start)
    now = schedule.at(start + timedelta(days=2)) + late
    turn = take_turn(schedule, start, now, missed_runs)
    assert (turn.run.day if turn.run else None, [slot.day for slot in turn.passed]) == (run, passed)
    assert turn.upcoming == tuple(schedule.upcoming(now))
