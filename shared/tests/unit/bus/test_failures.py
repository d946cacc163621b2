"""What a failed event says of its failing."""

import asyncpg
import pytest

from koinonia.bus import BrokerUnavailable, FactMissing
from koinonia.bus.failures import ATTEMPT, attempt_of, reason_of
from koinonia.events import Unreadable
from koinonia.security.redaction import stack_of


def _raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_an_event_without_a_story_is_at_its_first_attempt() -> None:
    assert attempt_of({}) == 1
    assert attempt_of({ATTEMPT: 3}) == 3
    assert attempt_of({ATTEMPT: "many"}) == 1
    assert attempt_of({ATTEMPT: 0}) == 1


def test_a_reason_names_the_error_and_its_causes_but_nobody() -> None:
    error = _raised(ValueError("no consent of Maria Gonzalez"), KeyError("Maria Gonzalez"))
    assert reason_of(error) == "ValueError ← KeyError"


def test_a_reason_tells_which_rule_of_the_database_was_broken_but_not_by_what() -> None:
    invalid = asyncpg.DataError("invalid input for query argument $3: 'Maria Gonzalez' (expected str)")
    assert reason_of(invalid) == "DataError (SQLSTATE 22000)"
    twice = asyncpg.UniqueViolationError("duplicate key value (name)=(Maria Gonzalez)")
    twice.constraint_name = "members_name_key"
    assert reason_of(twice) == "UniqueViolationError (SQLSTATE 23505, constraint members_name_key)"


@pytest.mark.parametrize("error", [BrokerUnavailable("why"), Unreadable("why"), FactMissing("why")])
def test_a_reason_has_the_message_of_errors_that_name_nobody(error: Exception) -> None:
    assert reason_of(error) == f"{type(error).__name__}: why"


def test_a_reason_is_bounded_and_redacted() -> None:
    assert len(reason_of(Unreadable("long " * 1000))) == 500
    assert reason_of(Unreadable("from +12025550123")) == "Unreadable: from [phone]"


def test_a_stack_has_places_and_no_values() -> None:
    phone = "+12025550123"
    stack = stack_of(_raised(ValueError(phone)))
    (place,) = stack.splitlines()
    file, _, rest = place.partition(":")
    assert file == "unit/bus/test_failures.py"
    assert rest.split(" ")[1] == "_raised"
    assert phone not in stack
