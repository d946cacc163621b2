"""When wrong codes close a second factor, and what is taken for which kind of code."""

from datetime import UTC, datetime, timedelta

import pytest

from koinonia.security import recovery_codes
from koinonia_gateway.domain import mfa as rules
from koinonia_gateway.mfa import Proof

NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(1, None), (4, None), (5, 15), (6, None), (9, None), (10, 30), (15, 60), (20, 120), (40, 1440), (5000, 1440)],
)
def test_each_five_wrong_codes_in_a_row_close_it_for_longer(failures: int, minutes: int | None) -> None:
    until = rules.closed_until(failures, NOW)
    assert until == (None if minutes is None else NOW + timedelta(minutes=minutes))


def test_it_opens_when_the_time_is_over() -> None:
    assert not rules.is_closed(None, NOW)
    assert rules.is_closed(NOW + timedelta(seconds=1), NOW)
    assert not rules.is_closed(NOW, NOW)


def test_an_apps_code_and_a_recovery_code_are_told_apart() -> None:
    assert Proof.of("123456").kind == "totp"
    assert {Proof.of(code).kind for code in recovery_codes.make()} == {"recovery_code"}
