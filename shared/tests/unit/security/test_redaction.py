import re
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from koinonia.errors import NotFound
from koinonia.security import redaction
from koinonia.security.api_keys import make
from koinonia.security.redaction import HIDDEN, redact, redact_event, redact_value


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


NAIVE_BEGIN, NAIVE_END = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (2020, 2040))
AREA = st.integers(2, 9).flatmap(lambda first: st.integers(0, 99).map(lambda rest: f"{first}{rest:02}"))
LINE = st.integers(0, 9999).map(lambda number: f"{number:04}")
FORMS = st.sampled_from(
    [
        *("+1{a}{b}{c}", "1{a}{b}{c}", "{a}{b}{c}", "({a}) {b}-{c}", "({a}){b}{c}", "{a}-{b}-{c}", "{a}.{b}.{c}"),
        *("{a} {b} {c}", "1-{a}-{b}-{c}", "+1 ({a}) {b}-{c}", "+1-{a}-{b}-{c}", "1 {a} {b} {c}", "{a} {b}-{c}"),
        *(
            "%2B1{a}{b}{c}",
            "\\u002b1{a}{b}{c}",
            "tel:{a}{b}{c}",
            "{a}/{b}-{c}",
            "{a}\u00a0{b}\u2011{c}",
            "(1) {a}-{b}-{c}",
        ),
    ]
)
AROUND = st.sampled_from(
    [
        *(
            "{}",
            "to {} failed",
            "phone={}",
            '{{"phone": "{}"}}',
            "['{}']",
            "<{}>",
            "({})",
            "Call {}.",
            "{},{}",
            "sms:{}!",
        ),
        *(
            "https://x.example/members?phone={}&a=1",
            "member_{}",
            "Key (phone)=({}) already exists.",
            "0 {} 1",
            "x\n{}\ny",
        ),
        "01980000-0000-7000-8000-000000000001 {} 2026-11-20T12:00:00Z",
    ]
)


@settings(max_examples=500, deadline=None)
@given(AREA, AREA, LINE, FORMS, AROUND)
def test_no_american_number_passes_in_any_form(a: str, b: str, c: str, form: str, around: str) -> None:
    phone = form.format(a=a, b=b, c=c)
    found = redact(around.replace("{{", "{").replace("}}", "}").replace("{}", phone))
    assert a + b + c not in digits(found.replace("01980000-0000-7000-8000-000000000001", ""))
    assert "[phone]" in found


@pytest.mark.parametrize(
    "phone", ["+442079460958", "+44 20 7946 0958", "+49 (0)151 12345678", "+491511234567", "+61-2-5550-1234"]
)
def test_no_number_with_a_country_code_passes(phone: str) -> None:
    assert redact(f"to {phone} failed") == "to [phone] failed"


@pytest.mark.parametrize(
    "email",
    [
        *(
            "ann@example.org",
            "Ann.Lee+church@mail.example.co.uk",
            "ann%40example.org",
            "o'neil@example.org",
            "jürgen@exämple.de",
        ),
        "a_b-c@sub-domain.example.info",
    ],
)
def test_no_email_passes(email: str) -> None:
    for text in (email, f"<{email}>", f"user {email}, again", f"({email})", f"email: {email}."):
        found = redact(text)
        assert "[email]" in found
        assert "xample" not in found
        assert "xämple" not in found


def test_no_credential_passes() -> None:
    api_key, _ = make()
    assert redact(f"Authorization: Bearer {api_key}") == "Authorization: Bearer [key]"
    assert redact(f"key {api_key}!") == "key [key]!"
    assert redact("authorization: bearer abc.def-123, next") == "authorization: bearer [key], next"
    assert redact("t=eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln;") == "t=[key];"
    assert redact("KEY0189ABCDEF0123456789ABCDEF_x") == "[key]"
    assert redact("sk_live_51ABC whsec_abc+/=") == "[key] [key]"
    assert redact("amqp://koinonia:hunter2@127.0.0.1:5672/v") == f"amqp://{HIDDEN}@127.0.0.1:5672/v"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026-11-20T18:30:00.148205+00:00",
            "2026-11-20 18:30:00",
            "2026-11-20T18:30:00Z",
            "1764000000",
            "1764000000123",
        ),
        *(
            "recipients=500 of 20000",
            "took 345.6789012 ms",
            "0.2055550123",
            "127.0.0.1:54321",
            "count 1234567",
            "v1.2.3",
        ),
        *(
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "40310",
            "0/16B3748",
        ),
        *(
            "messaging.message.accepted",
            "user@localhost",
            "12345678901234567890",
            "+1",
            "1+1",
            "2026-11-20",
            "lock 8412345",
        ),
        "20555501232055550123",
    ],
)
def test_times_counts_ids_and_digests_survive(text: str) -> None:
    assert redact(text) == text


@settings(max_examples=500, deadline=None)
@given(st.uuids(), st.datetimes(NAIVE_BEGIN, NAIVE_END, timezones=st.just(UTC)), st.integers(0, 10**9))
def test_every_uuid_time_and_count_survives(identifier: UUID, at: datetime, count: int) -> None:
    digest = "" if identifier.hex.isdigit() else identifier.hex
    text = f"{identifier} {digest} {at.isoformat()} n={count} ({identifier})"
    assert redact(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text)


PIECES = st.sampled_from(
    [
        "koi_live_",
        "koi_test_",
        "sk_live_",
        "whsec_",
        "_",
        "live",
        "test",
        "api",
        "/",
        "{id}",
        "-",
        "ab",
        "KEY",
        "@",
        ".",
    ]
)


@given(st.lists(PIECES, max_size=6).map("".join))
def test_what_is_taken_for_bland_has_nothing_to_hide(text: str) -> None:
    assert redact(text) == redaction._PATTERN.sub(redaction._replacement, text)


def test_long_hostile_texts_take_no_long_time() -> None:
    for part in ("a", "1", "a.", "+1", "2 ", "@a", "a@", "(", "://", "eyJ", "1-", "0a"):
        begin = time.perf_counter()
        redact(part * (100_000 // len(part)))
        assert time.perf_counter() - begin < 2


class Colour(Enum):
    RED = "call 205 555 0123"


class Text(StrEnum):
    A = "a@example.org"


class Level(IntEnum):
    HIGH = 3


class Person:
    def __repr__(self) -> str:
        return "Person(+12055550123)"


def test_values_of_every_kind_are_looked_into() -> None:
    at, identifier = datetime(2026, 11, 20, tzinfo=UTC), uuid4()
    plain = [1, 2055550123, 1.5, True, None, identifier, at, at.date(), timedelta(1), Decimal("1.0"), Level.HIGH]
    assert redact_value(plain) == plain
    assert redact_value(("205-555-0123", {"x"}, frozenset())) == ["[phone]", ["x"], []]
    assert redact_value(OrderedDict(a=[{"b": "a@example.org"}])) == {"a": [{"b": "[email]"}]}
    assert redact_value({"+12055550123": 1, 7: 2, identifier: 3, ("a", "b"): 4}) == {
        "[phone]": 1,
        7: 2,
        identifier: 3,
        "('a', 'b')": 4,
    }
    assert [redact_value(data) for data in (b"+12055550123", bytearray(2), memoryview(b"abc"))] == [
        "[12 bytes]",
        "[2 bytes]",
        "[3 bytes]",
    ]
    assert redact_value(ValueError("no Maria")) == "ValueError"
    assert redact_value(NotFound("no +12055550123")) == "NotFound: no [phone]"
    assert redact_value(Person()) == "Person([phone])"
    assert redact_value(Colour.RED) == "Colour.RED"
    assert "example" not in str(redact_value([Text.A]))


def test_a_value_that_holds_itself_ends() -> None:
    knot: list[Any] = ["+12055550123"]
    knot.append(knot)
    found = repr(redact_value(knot))
    assert "2055550123" not in found
    assert "[phone]" in found


def test_what_a_key_calls_private_is_hidden_whatever_it_looks_like() -> None:
    hidden = {
        "phone": "unparsed",
        "memberEmail": "x",
        "refresh_token": "abc",
        "X-Authorization": ["b"],
        "firstName": "Ann",
        "text": "see you",
        "password": 12345,
        "encryption_keys": "2026a:AAAA",
        "token_keys": "2026a:AAAA",
        "blind_index_key": "AAAA",
        "api_key": "AAAA",
        "api_keys": ["AAAA"],
    }
    shown = {
        "has_phone": True,
        "reply_to_email": None,
        "phone_count": 3,
        "context": "c",
        "fact_key": "church:1",
        "routing_key": "a.b",
    }
    assert redact_event(None, "info", hidden | shown) == dict.fromkeys(hidden, HIDDEN) | shown
    assert redact_value({"a": [{"to_phone": "x"}]}) == {"a": [{"to_phone": HIDDEN}]}


def logged(error: BaseException) -> str:
    """What stands in the log for an error."""
    return str(redact_event(None, "error", {"event": "failed", "error_code": 40310, "exc_info": error})["exception"])


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_an_exception_is_written_out_with_its_causes_but_without_messages() -> None:
    lines: list[str] = []

    def keep(_: Any, __: str, event: Any) -> str:
        lines.append(f"{event['exception']} {event['error_code']}")
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[redact_event, keep])
    try:
        try:
            raise KeyError("Maria Gonzalez")
        except KeyError as error:
            raise ValueError("cannot text Maria Gonzalez") from error
    except ValueError:
        log.exception("failed", error_code=40310)
    text = re.sub(r":\d+ ", ":N ", lines[0])
    place = "unit/security/test_redaction.py:N test_an_exception_is_written_out_with_its_causes_but_without_messages"
    assert text == f"{place}\nKeyError\nwhich led to:\n{place}\nValueError 40310"


def test_the_errors_that_came_up_meanwhile_and_of_a_group_are_written_out_too() -> None:
    try:
        try:
            raise KeyError("Maria")
        except KeyError:
            raise TimeoutError("Maria") from None
    except TimeoutError as error:
        hushed = logged(error)
    assert "KeyError" not in hushed
    try:
        try:
            raise KeyError("Maria")
        except KeyError:
            raise TimeoutError("Maria")  # noqa: B904
    except TimeoutError as error:
        shown = logged(error)
    assert "KeyError\nwhich led to:" in shown
    group = logged(raised(ExceptionGroup("of Maria", [raised(ValueError("Maria")), raised(NotFound("no such group"))])))
    assert "ExceptionGroup\nof which:\n" in group
    assert "ValueError\nof which:\n" in group
    assert group.endswith("NotFound: no such group")
    assert "Maria" not in group


def test_a_chain_of_errors_that_has_no_end_is_written_out_in_bounds() -> None:
    one, other = ValueError("Maria"), KeyError("Maria")
    one.__cause__, other.__cause__ = other, one
    assert logged(one).count("which led to:") == 10
