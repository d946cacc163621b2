"""One-time codes as every authenticator app makes them, and recovery codes that cannot be guessed or mistyped."""

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from koinonia.security import recovery_codes, totp

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
NOW = datetime(2026, 11, 22, 15, 30, 5, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_the_codes_are_those_of_the_rfc(at: int, code: str) -> None:
    """The last six digits of RFC 6238, appendix B, SHA-1."""
    assert totp.step_of(RFC_SECRET, code, datetime.fromtimestamp(at, UTC)) == at // 30


@pytest.mark.asvs("v5.0.0-6.5.5")
@pytest.mark.parametrize(("steps", "found"), [(-2, None), (-1, STEP), (0, STEP), (1, STEP), (2, None)])
def test_a_code_is_good_one_step_before_and_after_its_own(steps: int, found: int | None) -> None:
    code = "279037"
    at = datetime.fromtimestamp(2000000000, UTC)
    known = totp.step_of(RFC_SECRET, code, at + timedelta(seconds=30 * steps))
    assert known == (None if found is None else 2000000000 // 30)


@pytest.mark.parametrize("code", ["", "27903", "2790370", "２７９０３７", "\ud800" * 6, "abcdef"])
def test_what_is_no_code_is_no_error(code: str) -> None:
    assert totp.step_of(RFC_SECRET, code, datetime.fromtimestamp(2000000000, UTC)) is None


def test_a_secret_has_160_bits_and_an_app_learns_it_by_its_url() -> None:
    secret = totp.make_secret()
    assert len(base64.b32decode(secret)) == 20
    assert secret != totp.make_secret()
    url = urlsplit(totp.url(secret, "ruth@grace.example"))
    assert (url.scheme, url.netloc, url.path) == ("otpauth", "totp", "/Koinonia:ruth%40grace.example")
    assert parse_qs(url.query) == {"secret": [secret], "issuer": ["Koinonia"]}


@pytest.mark.asvs("v5.0.0-6.5.2", "v5.0.0-6.5.4")
def test_there_are_eight_recovery_codes_of_120_bits() -> None:
    codes = recovery_codes.make()
    assert len(set(codes)) == 8
    assert {len(base64.b32decode(code.replace("-", ""))) for code in codes} == {15}


def test_a_recovery_code_is_the_same_however_it_is_typed() -> None:
    code = recovery_codes.make()[0]
    known = recovery_codes.digest(code)
    for typed in (code.lower(), code.replace("-", ""), code.replace("-", " "), f" {code} "):
        assert recovery_codes.digest(typed) == known
    assert recovery_codes.digest(code[:-1]) != known
    assert recovery_codes.digest("\ud800") != known
