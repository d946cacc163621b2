import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from koinonia.errors import is_transient
from koinonia.resilience.breaker import Breaker, BreakerOpen, Call


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Clock:
    return Clock()


@pytest.fixture
def breaker(time: Clock) -> Breaker:
    return Breaker("carrier", failures=3, open_seconds=5, clock=time)


def fail(breaker: Breaker, error: type[BaseException] = ConnectionResetError) -> None:
    with pytest.raises(error), breaker.guard():
        raise error


def marked(call: Call) -> KeyError:
    call.fail()
    return KeyError()


def state(breaker: Breaker) -> str:
    return breaker.state


def succeed(breaker: Breaker) -> None:
    with breaker.guard():
        pass


def open_up(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker)


def test_it_opens_after_failures_in_a_row_and_then_refuses_at_once(breaker: Breaker) -> None:
    fail(breaker)
    fail(breaker)
    assert state(breaker) == "closed"
    fail(breaker)
    assert (state(breaker), breaker.openings) == ("open", 1)
    with pytest.raises(BreakerOpen) as refused, breaker.guard():
        pytest.fail("the call was let through")
    assert (refused.value.retry_after_seconds, refused.value.name) == (5, "carrier")
    assert is_transient(refused.value)


def test_a_success_in_between_starts_the_count_again(breaker: Breaker) -> None:
    for act in (fail, fail, succeed, fail, fail):
        act(breaker)
    assert state(breaker) == "closed"


def test_an_error_that_is_an_answer_does_not_count_as_a_failure(breaker: Breaker) -> None:
    for _ in range(5):
        fail(breaker, KeyError)
    assert state(breaker) == "closed"


def test_an_answer_can_be_marked_as_a_failure(breaker: Breaker) -> None:
    for _ in range(3):
        with breaker.guard() as call:
            call.fail()
    assert state(breaker) == "open"


def test_a_call_marked_as_failed_stays_failed_when_it_raises_something_else(breaker: Breaker) -> None:
    for _ in range(3):
        with pytest.raises(KeyError), breaker.guard() as call:
            raise marked(call)
    assert state(breaker) == "open"


def test_a_call_that_is_excused_is_no_verdict(breaker: Breaker, time: Clock) -> None:
    def excused() -> None:
        with pytest.raises(ConnectionResetError), breaker.guard() as call:
            call.excuse()
            raise ConnectionResetError

    for _ in range(5):
        excused()
    assert state(breaker) == "closed"
    open_up(breaker)
    time.seconds += 5
    excused()
    assert state(breaker) == "half_open"


def test_a_call_knows_whether_it_is_the_probe(breaker: Breaker, time: Clock) -> None:
    with breaker.guard() as call:
        assert not call.is_probe
    open_up(breaker)
    time.seconds += 5
    with breaker.guard() as call:
        assert call.is_probe


def test_after_its_time_exactly_one_of_many_is_the_probe(breaker: Breaker, time: Clock) -> None:
    open_up(breaker)
    time.seconds += 5
    assert state(breaker) == "half_open"
    with breaker.guard():
        for _ in range(20):
            with pytest.raises(BreakerOpen) as refused, breaker.guard():
                pytest.fail("a second probe was let through")
            assert refused.value.retry_after_seconds == 1
        assert state(breaker) == "half_open"
    assert state(breaker) == "closed"
    succeed(breaker)


def test_a_failed_probe_opens_it_for_the_whole_time_again(breaker: Breaker, time: Clock) -> None:
    open_up(breaker)
    time.seconds += 5
    fail(breaker)
    assert (state(breaker), breaker.openings) == ("open", 2)
    time.seconds += 4.9
    with pytest.raises(BreakerOpen), breaker.guard():
        pass
    time.seconds += 0.1
    succeed(breaker)
    assert state(breaker) == "closed"
    fail(breaker)
    assert state(breaker) == "closed"


def test_a_probe_can_be_passed_before_its_end_which_is_not_counted_then(breaker: Breaker, time: Clock) -> None:
    def slow() -> None:
        with pytest.raises(ConnectionResetError), breaker.guard() as call:
            breaker.pass_probe(call)
            assert state(breaker) == "closed"
            raise ConnectionResetError

    open_up(breaker)
    time.seconds += 5
    slow()
    for _ in range(2):
        fail(breaker)
        assert state(breaker) == "closed"
    slow()  # no probe: it counts as it ends
    assert (state(breaker), breaker.openings) == ("open", 2)


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_a_cancelled_probe_gives_its_place_to_the_next_call(
    breaker: Breaker, time: Clock, error: type[BaseException]
) -> None:
    open_up(breaker)
    time.seconds += 5
    fail(breaker, error)
    assert state(breaker) == "half_open"
    succeed(breaker)
    assert state(breaker) == "closed"


@pytest.mark.parametrize("late", [fail, succeed])
def test_a_call_from_before_the_opening_moves_nothing_when_it_ends(
    breaker: Breaker, time: Clock, late: Callable[[Breaker], None]
) -> None:
    early = breaker.guard()
    early.__enter__()
    open_up(breaker)
    time.seconds += 4
    if late is fail:
        assert not early.__exit__(ConnectionResetError, ConnectionResetError(), None)
    else:
        early.__exit__(None, None, None)
    assert (state(breaker), breaker.openings) == ("open", 1)
    time.seconds += 1
    assert state(breaker) == "half_open"


def test_a_cancelled_call_of_a_closed_breaker_is_no_verdict(breaker: Breaker) -> None:
    fail(breaker)
    fail(breaker)
    fail(breaker, asyncio.CancelledError)
    assert state(breaker) == "closed"
    fail(breaker)
    assert state(breaker) == "open"


def test_an_outage_is_two_lines_in_the_log_however_many_probes_fail(breaker: Breaker, time: Clock) -> None:
    with capture_logs() as lines:
        open_up(breaker)
        for _ in range(3):
            time.seconds += 6
            fail(breaker)
        time.seconds += 6
        succeed(breaker)
        succeed(breaker)
    assert lines == [
        {"event": "breaker_opened", "log_level": "warning", "breaker": "carrier", "failures": 3},
        {"event": "breaker_closed", "log_level": "info", "breaker": "carrier"},
    ]
