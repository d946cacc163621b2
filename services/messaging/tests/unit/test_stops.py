"""The figures of a stop."""

from koinonia.api.messages import StopFigures
from koinonia_messaging.domain.messages import STATUSES
from koinonia_messaging.domain.stops import Confirmed, figures, together


def counters(**values: int) -> dict[str, int]:
    return {status: values.get(status, 0) for status in STATUSES}


def test_until_delivery_has_told_the_counters_bound_what_is_in_flight() -> None:
    shown = figures(100, 60, counters(queued=25, sent=10, delivered=15, failed=5, suppressed=5), Confirmed())
    assert (shown.sent, shown.will_not_go, shown.in_flight, shown.final) == (25, 50, 25, False)


def test_what_delivery_has_told_holds_and_nobody_else_of_the_audience_gets_it() -> None:
    confirmed = Confirmed(sent=30, in_flight=4)
    shown = figures(100, 60, counters(queued=60), confirmed)
    assert (shown.sent, shown.will_not_go, shown.in_flight, shown.final) == (30, 66, 4, False)
    later = figures(
        100, 60, counters(delivered=34, cancelled=26), Confirmed(sent=30, in_flight=4, segments=7, cents=14)
    )
    assert later == StopFigures(
        sent=30, will_not_go=66, in_flight=4, credited_segments=7, credited_cents=14, final=True
    )


def test_the_figures_of_several_are_final_when_all_are() -> None:
    one = figures(10, 0, counters(), Confirmed(sent=0, in_flight=0, segments=10, cents=0))
    other = figures(5, 5, counters(queued=5), Confirmed(sent=3, in_flight=1))
    both = together([one, other])
    assert (both.sent, both.will_not_go, both.in_flight, both.credited_segments, both.final) == (3, 11, 1, 10, False)
    assert together([one, one]).final
    assert together([]) == StopFigures(
        sent=0, will_not_go=0, in_flight=0, credited_segments=0, credited_cents=0, final=True
    )
