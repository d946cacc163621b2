"""Quiet hours: wall times of a zone become moments, over midnight and over changes of clocks."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from koinonia.quiet_hours import QuietHours, QuietTime

NIGHT = QuietHours("America/Chicago", "21:00", "08:00")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


def test_a_night_lasts_over_midnight() -> None:
    night = QuietTime(utc(2026, 11, 22, 3), utc(2026, 11, 22, 14))  # Chicago is six hours behind
    for moment in (utc(2026, 11, 22, 3), utc(2026, 11, 22, 5, 59), utc(2026, 11, 22, 6), utc(2026, 11, 22, 13, 59)):
        assert NIGHT.next(moment) == night
        assert NIGHT.end_for(moment) == night.ends_at


def test_before_its_first_moment_and_from_its_last_on_nothing_waits() -> None:
    assert NIGHT.end_for(utc(2026, 11, 22, 2, 59)) is None
    assert NIGHT.next(utc(2026, 11, 22, 2, 59)).begins_at == utc(2026, 11, 22, 3)
    assert NIGHT.end_for(utc(2026, 11, 22, 14)) is None
    assert NIGHT.next(utc(2026, 11, 22, 14)).begins_at == utc(2026, 11, 23, 3)


def test_hours_within_a_day_do_not_reach_into_the_next() -> None:
    service = QuietHours("Europe/Berlin", "09:30", "12:00")
    assert service.end_for(utc(2026, 11, 22, 8, 30)) == utc(2026, 11, 22, 11)
    assert service.end_for(utc(2026, 11, 22, 11)) is None
    assert service.end_for(utc(2026, 11, 22, 23)) is None


def test_a_night_is_an_hour_shorter_when_clocks_are_set_ahead() -> None:
    assert NIGHT.next(utc(2026, 3, 8, 6)) == QuietTime(utc(2026, 3, 8, 3), utc(2026, 3, 8, 13))


def test_a_night_is_an_hour_longer_when_clocks_are_set_back() -> None:
    assert NIGHT.next(utc(2026, 11, 1, 6)) == QuietTime(utc(2026, 11, 1, 2), utc(2026, 11, 1, 14))


def test_hours_end_when_the_clocks_jump_over_their_end() -> None:
    early = QuietHours("America/Chicago", "22:00", "02:30")
    assert early.next(utc(2026, 3, 8, 6)).ends_at == utc(2026, 3, 8, 8)  # 01:59 is followed by 03:00


def test_hours_begin_when_the_clocks_jump_over_their_beginning() -> None:
    late = QuietHours("America/Chicago", "02:30", "08:00")
    assert late.next(utc(2026, 3, 8, 6)) == QuietTime(utc(2026, 3, 8, 8), utc(2026, 3, 8, 13))


def test_a_time_that_comes_twice_begins_them_at_once_and_ends_them_at_last() -> None:
    assert QuietHours("America/Chicago", "01:30", "08:00").next(utc(2026, 11, 1, 5)).begins_at == utc(
        2026, 11, 1, 6, 30
    )
    assert QuietHours("America/Chicago", "22:00", "01:30").next(utc(2026, 11, 1, 5)).ends_at == utc(2026, 11, 1, 7, 30)


def test_midnight_may_be_what_the_clocks_skip() -> None:
    beirut = QuietHours("Asia/Beirut", "20:00", "00:00")
    assert beirut.next(utc(2026, 3, 28, 19)) == QuietTime(utc(2026, 3, 28, 18), utc(2026, 3, 28, 22))


@pytest.mark.parametrize("zone", ["America/Chicago", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "UTC"])
@pytest.mark.parametrize(("start", "until"), [("21:00", "08:00"), ("09:00", "17:30"), ("00:00", "00:01")])
def test_it_is_quiet_whenever_clocks_show_a_quiet_time(zone: str, start: str, until: str) -> None:
    """Through a year, by the quarter of an hour; where clocks are set back, also between two comings of an end."""
    hours, moment = QuietHours(zone, start, until), utc(2026, 1, 1)
    while moment < utc(2027, 1, 1):
        shown = moment.astimezone(ZoneInfo(zone)).strftime("%H:%M")
        is_shown = start <= shown < until if start < until else shown >= start or shown < until
        assert (hours.end_for(moment) is not None) == is_shown, moment
        moment += timedelta(minutes=15)


def test_quiet_times_follow_each_other_for_good() -> None:
    nights = list(islice(NIGHT.following(utc(2026, 11, 22, 5)), 3))
    assert [night.begins_at for night in nights] == [utc(2026, 11, 22 + day, 3) for day in range(3)]


@pytest.mark.parametrize("name", ["Mars/Olympus_Mons", "", "America", "../../etc/passwd"])
def test_a_zone_that_nobody_knows_is_read_as_utc(name: str) -> None:
    assert QuietHours(name, "21:00", "08:00").end_for(utc(2026, 11, 22, 22)) == utc(2026, 11, 23, 8)


@pytest.mark.parametrize(
    ("start", "until", "moment", "end"),
    [
        ("02:30", "02:15", utc(2026, 3, 8, 7), utc(2026, 3, 9, 7, 15)),  # both are jumped over
        ("01:45", "01:15", utc(2026, 11, 1, 5), utc(2026, 11, 2, 7, 15)),  # the next begin before the last have ended
    ],
    ids=["clocks set ahead", "clocks set back"],
)
def test_hours_between_which_a_change_of_clocks_leaves_no_time_are_one(
    start: str, until: str, moment: datetime, end: datetime
) -> None:
    long = QuietHours("America/Chicago", start, until)
    assert long.end_for(moment) == end
    times = list(islice(long.following(moment - timedelta(days=3)), 6))
    assert all(one.ends_at < other.begins_at for one, other in pairwise(times))
