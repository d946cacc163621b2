"""What follows from how handing over an e-mail ended."""

from uuid import UUID

import pytest

from koinonia_delivery.domain.mailing import AWAY, REFUSALS, REFUSED, Ending, Outcome, judge


def judged(ending: Ending, *, attempt: int = 1, refusals: int = 0, retry_after: float = 0.0) -> Outcome:
    return judge(UUID(int=1), ending, attempt=attempt, refusals=refusals, code="451", retry_after_seconds=retry_after)


def test_what_was_sent_is_over_and_what_was_rejected_has_failed() -> None:
    assert (judged("sent").status, judged("sent").code) == ("sent", None)
    assert (judged("rejected").status, judged("rejected").code) == ("failed", "451")


@pytest.mark.parametrize("ending", ["refused", "unknown"])
def test_what_was_refused_or_is_unknown_comes_again_until_the_limit(ending: Ending) -> None:
    waits = [judged(ending, refusals=refusals) for refusals in range(REFUSALS)]
    assert [each.status for each in waits] == ["queued"] * (REFUSALS - 1) + ["failed"]
    assert all(each.counts for each in waits)
    assert all(0 <= each.wait_seconds <= REFUSED.max_seconds for each in waits)


@pytest.mark.parametrize("ending", ["away", "unreadable", "returned"])
def test_what_says_nothing_about_the_email_never_ends_it(ending: Ending) -> None:
    outcome = judged(ending, attempt=10_000, refusals=REFUSALS - 1)
    assert (outcome.status, outcome.counts) == ("queued", False)
    assert outcome.wait_seconds <= AWAY.max_seconds


def test_the_wait_is_never_shorter_than_what_the_server_asked_for() -> None:
    assert judged("away", retry_after=600.0).wait_seconds == 600.0
