"""What a send plan says, from figures."""

from datetime import UTC, datetime, timedelta

from koinonia.quiet_hours import QuietHours
from koinonia_messaging.domain.approvals import SendingRules
from koinonia_messaging.domain.audience import Text
from koinonia_messaging.domain.plans import PACE, finishes_at, segment_counts, warnings
from koinonia_messaging.domain.texts import Draft

AT = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)


def test_copies_are_counted_by_their_segments_and_pictures_are_one() -> None:
    shapes = [({"firstName": "a"}, 3), ({"firstName": "a" * 9}, 2), ({"firstName": "🙏"}, 1)]
    counts = segment_counts(Text("x" * 158 + "{{firstName}}", False), shapes)
    assert [(each.segments, each.recipients) for each in counts] == [(1, 3), (2, 2), (3, 1)]
    counts = segment_counts(Text("x" * 900, True), [({}, 4)])
    assert [(each.segments, each.recipients) for each in counts] == [(1, 4)]


def test_the_finish_follows_from_the_rate_and_is_unknown_without_a_number() -> None:
    assert finishes_at(AT, 400, 40.0) == AT + timedelta(seconds=10 / PACE)
    assert finishes_at(AT, 400, None) is None


def test_nothing_goes_in_quiet_hours() -> None:
    """At a segment a second, two quiet hours each night, at 22 o'clock; what is 21 hours long goes on after them."""
    hours, evening = QuietHours("UTC", "22:00", "00:00"), datetime(2026, 11, 21, 21, tzinfo=UTC)
    rate = 1 / PACE
    hour = timedelta(hours=1)
    assert finishes_at(evening, 3600, rate, hours) == evening + hour
    assert finishes_at(evening, 3601, rate, hours) == evening + 3 * hour + timedelta(seconds=1)
    assert finishes_at(evening + hour, 3600, rate, hours) == evening + 4 * hour
    assert finishes_at(evening + 2 * hour, 3600, rate, hours) == evening + 4 * hour
    assert finishes_at(evening, 24 * 3600, rate, hours) == evening + 28 * hour


def test_a_plan_for_a_minute_a_day_comes_to_an_end() -> None:
    hours = QuietHours("UTC", "00:01", "00:00")
    assert finishes_at(AT, 10**7, 1.0, hours) > AT + timedelta(days=999)  # type: ignore[operator]


def test_one_person_is_one_and_a_line_that_is_added_says_how_to_opt_out() -> None:
    draft = Draft(
        content="Hello",
        template_version=None,
        has_media=False,
        smart=False,
        church_name="Grace",
        opt_out_line="ALTO para salir",
        rules=SendingRules(),
    )
    (warning,) = warnings(draft, draft.write(), 1, [], None, is_too_late=False)
    assert (warning.code, warning.message.startswith("1 person gets")) == ("first_text_without_name", True)
    (warning,) = warnings(draft, draft.write(), 0, [], None, is_too_late=False, limited=1)
    assert (warning.code, warning.message.startswith("1 person has")) == ("weekly_limit", True)
    assert warnings(draft, draft.write(), 0, [], None, is_too_late=False) == []
    assert [each.code for each in warnings(draft, draft.write(), 0, [], None, is_too_late=True)] == ["too_late"]
