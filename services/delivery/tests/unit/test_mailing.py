"""What follows from how handing over an e-mail ended."""

from uuid import UUID

import pytest

from koinonia_delivery.domain.mailing import AWAY, REFUSALS, REFUSED, UNKNOWNS, Ending, Outcome, judge


def judged(ending: Ending, *, attempt: int = 1, retry_after: float = 0.0, **before: int) -> Outcome:
    given = {"refusals": 0, "unknowns": 0, **before}
    return judge(UUID(int=1), ending, attempt=attempt, code="451", retry_after_seconds=retry_after, **given)


def test_what_was_sent_is_over_and_what_was_rejected_has_failed() -> None:
    assert (judged("sent").status, judged("sent").code) == ("sent", None)
    assert (judged("rejected").status, judged("rejected").code) == ("failed", "451")


@pytest.mark.parametrize(
    ("ending", "before", "limit"), [("refused", "refusals", REFUSALS), ("unknown", "unknowns", UNKNOWNS)]
)
def test_what_was_refused_or_is_unknown_comes_again_until_its_limit(ending: Ending, before: str, limit: int) -> None:
    waits = [judged(ending, **{before: count}) for count in range(limit)]
    assert [each.status for each in waits] == ["queued"] * (limit - 1) + ["failed"]
    assert {(each.refused, each.unknown) for each in waits} == {(ending == "refused", ending == "unknown")}
    assert all(0 <= each.wait_seconds <= REFUSED.max_seconds for each in waits)


def test_somebody_gets_a_doubtful_email_three_times_at_most() -> None:
    assert UNKNOWNS == 3
    assert judged("refused", unknowns=UNKNOWNS - 1).status == "queued"
    assert judged("unknown", refusals=REFUSALS - 1).status == "queued"


@pytest.mark.parametrize("ending", ["away", "unreadable", "returned"])
def test_what_says_nothing_about_the_email_never_ends_it(ending: Ending) -> None:
    outcome = judged(ending, attempt=10_000, refusals=REFUSALS, unknowns=UNKNOWNS)
    assert (outcome.status, outcome.refused, outcome.unknown) == ("queued", False, False)
    assert outcome.wait_seconds <= AWAY.max_seconds


def test_the_wait_is_never_shorter_than_what_the_server_asked_for() -> None:
    assert judged("away", retry_after=600.0).wait_seconds == 600.0
