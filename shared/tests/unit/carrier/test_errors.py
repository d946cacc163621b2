"""The table of the carrier's error codes."""

import pytest

from koinonia.carrier.contract import Refused, Rejected
from koinonia.carrier.errors import MEANINGS, error_of, is_known, meaning


@pytest.mark.parametrize("code", ["10002", "10016", "40310", "40001", "40012", "40302", "40316", "10015", "40317"])
def test_a_bad_number_or_content_is_final(code: str) -> None:
    error = error_of(code, "whatever")
    assert isinstance(error, Rejected)
    assert error.carrier_code == code
    assert not error.opted_out


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("10009", "account"),
        ("10010", "account"),
        ("20012", "account"),
        ("40305", "number"),
        ("40312", "church"),
        ("40329", "number"),
        ("40333", "church"),
        ("40318", "call"),
        ("10011", "call"),
    ],
)
def test_what_a_person_or_time_can_mend_is_refused_and_says_how_much_must_wait(code: str, scope: str) -> None:
    error = error_of(code, "whatever")
    assert isinstance(error, Refused)
    assert error.scope == scope


def test_stop_is_told_by_code_and_title() -> None:
    stopped = error_of("40300", "Blocked due to STOP message")
    other = error_of("40300", "Message blocked")
    assert isinstance(stopped, Rejected)
    assert stopped.opted_out
    assert isinstance(other, Rejected)
    assert not other.opted_out


def test_an_unknown_code_is_final_and_shown_with_its_number() -> None:
    error = error_of("49999", "Something new")
    assert isinstance(error, Rejected)
    assert "49999" in error.message
    assert not is_known("49999")


def test_a_full_queue_waits_as_long_as_told_or_a_minute() -> None:
    assert error_of("40318", "").retry_after_seconds == 60
    assert error_of("40318", "", retry_after_seconds=5).retry_after_seconds == 5


@pytest.mark.parametrize(
    ("code", "remedy"), [("40006", "later"), ("40008", "later"), ("40002", "change"), ("40020", "wait")]
)
def test_a_receipts_code_says_what_helps(code: str, remedy: str) -> None:
    assert meaning(code).remedy == remedy


def test_every_sentence_is_a_sentence_for_the_church() -> None:
    assert all(entry.sentence[0].isupper() and entry.sentence.endswith(".") for entry in MEANINGS.values())
