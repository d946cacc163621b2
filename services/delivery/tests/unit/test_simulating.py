"""How the simulated carrier of test keys treats a text."""

import pytest

from koinonia.carrier.errors import is_known
from koinonia_delivery.domain.simulating import COURSES, LATE_SECONDS, SOON_SECONDS, course_of, next_step, rest


def test_a_usual_phone_gets_its_text_after_a_moment() -> None:
    course = course_of("+13125550142")
    sent = next_step("queued", course)
    assert (sent.became, sent.wait_seconds, sent.error_code) == ("sent", SOON_SECONDS, None)
    assert (next_step("sent", course).became, next_step("sent", course).wait_seconds) == ("delivered", None)


@pytest.mark.parametrize(
    ("ending", "statuses", "code"),
    [
        ("9001", ["failed"], "40310"),
        ("9002", ["failed"], "40300"),
        ("9003", ["sent", "undelivered"], "40008"),
        ("9004", ["sent", "undelivered"], "40006"),
        ("9005", ["sent", "undelivered"], "40002"),
        ("9006", ["sent", "unconfirmed"], None),
        ("9007", ["sent", "delivered"], None),
    ],
)
def test_the_last_digits_tell_what_becomes_of_it(ending: str, statuses: list[str], code: str | None) -> None:
    course, seen = course_of(f"+1312555{ending}"), []
    step = next_step("queued", course)
    seen.append(step.became)
    if step.wait_seconds is not None:
        assert step.error_code is None
        step = next_step(step.became, course)
        seen.append(step.became)
    assert (seen, step.error_code, step.wait_seconds) == (statuses, code, None)
    assert (step.error_message is None) == (code is None)


def test_one_takes_long_enough_to_be_watched() -> None:
    assert next_step("queued", course_of("+13125559007")).wait_seconds == LATE_SECONDS


def test_a_held_one_is_looked_at_ever_more_seldom() -> None:
    waits = [rest("queued", held_seconds).wait_seconds for held_seconds in (0.0, 9.0, 600.0, 1e6)]
    assert waits == [5.0, 5.0, 300.0, 3600.0]


def test_every_code_is_one_that_churches_can_read() -> None:
    assert all(course.code is None or is_known(course.code) for course in COURSES.values())
    assert "opted out" in (COURSES["9002"].sentence or "")
