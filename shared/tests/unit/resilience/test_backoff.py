from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koinonia import clock
from koinonia.resilience.backoff import LONGEST_RETRY_AFTER_SECONDS, Backoff, RetryAfter

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def test_the_longest_wait_doubles_with_each_failure_up_to_its_cap() -> None:
    backoff = Backoff(base_seconds=1, max_seconds=5, random=lambda: 1.0)
    assert [backoff.delay_seconds(attempt) for attempt in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 100))
def test_a_wait_is_the_random_share_of_its_ceiling(share: float, attempt: int) -> None:
    backoff = Backoff(base_seconds=0.5, max_seconds=60, random=lambda: share)
    assert backoff.delay_seconds(attempt) == share * backoff.ceiling_seconds(attempt)


def test_by_default_chance_decides() -> None:
    assert len({Backoff().delay_seconds(5) for _ in range(10)}) > 1


def test_what_the_server_asked_for_is_never_undercut_and_still_spread() -> None:
    backoff = Backoff(base_seconds=1, random=lambda: 0.5)
    assert backoff.delay_seconds(1, RetryAfter(7)) == 7.5


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        Backoff().delay_seconds(0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30),
        (" 0 ", 0),
        ("Fri, 20 Nov 2026 12:01:00 GMT", 60),
        ("Fri, 20 Nov 2026 12:01:00 -0000", 60),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
        ("99999999999999999999999", LONGEST_RETRY_AFTER_SECONDS),
    ],
)
def test_a_retry_after_header_is_read(header: str, seconds: float) -> None:
    with clock.frozen(NOON):
        assert RetryAfter.parse(header) == RetryAfter(seconds)


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "²", "Fri, 99 Nov 2026 12:00:00 GMT"])
def test_an_unreadable_retry_after_header_is_none(header: str | None) -> None:
    assert RetryAfter.parse(header) is None
