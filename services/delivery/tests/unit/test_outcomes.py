"""How calls end, and what follows."""

from uuid import UUID

import pytest

from koinonia.carrier.contract import Accepted, CarrierError, OutcomeUnknown, Refused, Rejected
from koinonia.resilience.backoff import Backoff
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.outcomes import HELD_SECONDS, Attempt, Outcome

ATTEMPT = Attempt(
    recipient_id=UUID(int=1), church_id=UUID(int=2), source_id=UUID(int=3), number_id=UUID(int=4), attempt=3
)
LONGEST = Backoff(base_seconds=1.0, max_seconds=300.0, random=lambda: 1.0)


def failed(error: CarrierError) -> Outcome:
    return outcomes.failed(ATTEMPT, error, 30.0, LONGEST)


def test_an_accepted_one_has_the_carriers_id_and_its_attempts_number() -> None:
    outcome = outcomes.accepted(ATTEMPT, Accepted(carrier_id="c1"))
    assert (outcome.result, outcome.carrier_id, outcome.attempt, outcome.recipient_id) == (
        "accepted",
        "c1",
        3,
        UUID(int=1),
    )


def test_a_rejected_one_is_final_with_its_code_and_sentence() -> None:
    outcome = failed(Rejected("No such number.", carrier_code="40310"))
    assert (outcome.result, outcome.error_code, outcome.error_message) == ("rejected", "40310", "No such number.")
    assert not outcome.opted_out
    assert failed(Rejected("Stopped.", carrier_code="40300", opted_out=True)).opted_out


def test_a_refused_one_waits_longer_with_each_attempt() -> None:
    outcome = failed(Refused(carrier_code="10007"))
    assert (outcome.result, outcome.wait_seconds, outcome.pause_seconds) == ("refused", 4.0, 0.0)


def test_a_retry_after_is_kept_and_pauses_the_number() -> None:
    outcome = failed(Refused(carrier_code="10011", retry_after_seconds=10))
    assert (outcome.wait_seconds, outcome.pause_seconds, outcome.pauses_church) == (14.0, 10.0, False)


@pytest.mark.parametrize(("scope", "church", "account"), [("number", False, False), ("church", True, False)])
def test_what_a_person_must_put_right_pauses_its_scope(scope: str, church: bool, account: bool) -> None:
    outcome = failed(Refused(scope=scope))  # type: ignore[arg-type]
    assert (outcome.pause_seconds, outcome.pauses_church, outcome.pauses_account) == (HELD_SECONDS, church, account)


def test_a_refused_account_pauses_everybody_at_least_as_long_as_asked() -> None:
    outcome = failed(Refused(scope="account", retry_after_seconds=500))
    assert (outcome.pause_seconds, outcome.pauses_account) == (500.0, True)


def test_an_unknown_one_waits_before_it_is_tried_again() -> None:
    outcome = failed(OutcomeUnknown("No answer."))
    assert (outcome.result, outcome.wait_seconds) == ("unknown", 30.0)
    assert outcomes.unknown(ATTEMPT, 5.0).wait_seconds == 5.0


def test_a_call_that_was_not_begun_gives_its_place_back() -> None:
    assert outcomes.returned(ATTEMPT).result == "returned"


def test_there_is_no_other_way_for_a_call_to_end() -> None:
    with pytest.raises(TypeError):
        failed(CarrierError("?"))
