"""When a broadcast pauses itself, and what it says."""

import pytest

from koinonia_messaging.domain.brake import Brake, Failures, Tally, judge, reason

BRAKE = Brake(sample=100, share=0.3)


@pytest.mark.parametrize(("refusals", "pauses"), [(29, False), (30, True), (100, True)])
def test_a_share_of_refusals_pauses(refusals: int, pauses: bool) -> None:
    found, _ = judge(BRAKE, Tally(), Tally(answers=100, refusals=refusals))
    assert (found is not None) == pauses


@pytest.mark.parametrize(("undelivered", "pauses"), [(29, False), (30, True)])
def test_a_share_of_texts_that_were_not_delivered_pauses(undelivered: int, pauses: bool) -> None:
    found, _ = judge(BRAKE, Tally(), Tally(answers=5000, receipts=100, undelivered=undelivered))
    assert (found is not None) == pauses


def test_few_are_not_judged() -> None:
    window = Tally(answers=7, receipts=3)
    now = Tally(answers=106, refusals=99, receipts=102, undelivered=99)
    assert judge(BRAKE, window, now) == (None, window)


def test_early_refusals_are_a_share_of_all_answers_not_of_the_few_receipts() -> None:
    found, _ = judge(BRAKE, Tally(), Tally(answers=1000, refusals=100, receipts=2, undelivered=2))
    assert found is None


def test_what_was_judged_is_not_judged_again_and_the_other_window_goes_on() -> None:
    found, window = judge(BRAKE, Tally(), Tally(answers=100, refusals=20, receipts=60, undelivered=30))
    assert (found, window) == (None, Tally(answers=100, refusals=20))
    found, window = judge(BRAKE, window, Tally(answers=150, refusals=20, receipts=100, undelivered=30))
    assert found == Failures(kind="could not be delivered", failed=30, of=100)
    assert window == Tally(answers=100, refusals=20, receipts=100, undelivered=30)


def test_the_reason_names_the_figures_and_the_most_frequent_error() -> None:
    failures = Failures(kind="were refused by the carrier", failed=31, of=100)
    assert reason(failures, None) == "31 of the last 100 texts were refused by the carrier."
    assert reason(failures, "Blocked.") == "31 of the last 100 texts were refused by the carrier. Most often: Blocked."
