"""The carrier's port: bytes that repeat, tokens that come back, nothing of a person in a repr."""

import msgspec
import pytest

from koinonia.carrier.contract import OutboundText, encode_body, token_of, traceparent_of, with_token

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TEXT = OutboundText(
    recipient="+12055550111",
    sender="+12055550100",
    text="Sunday at 10 ⛪",
    media_urls=("https://files.example/a.jpg",),
    messaging_profile_id="profile",
    webhook_url="https://koinonia.example/hook?d=abc",
    idempotency_key="key-1",
)


def test_equal_texts_encode_to_the_same_bytes_whatever_their_key_and_trace() -> None:
    again = msgspec.structs.replace(TEXT, idempotency_key=None, traceparent="00-1-2-01")
    assert encode_body(TEXT) == encode_body(again)
    assert encode_body(TEXT) == (
        b'{"from":"+12055550100","to":"+12055550111","text":"Sunday at 10 \xe2\x9b\xaa",'
        b'"media_urls":["https://files.example/a.jpg"],"messaging_profile_id":"profile",'
        b'"webhook_url":"https://koinonia.example/hook?d=abc"}'
    )


def test_the_body_has_only_what_is_given() -> None:
    bare = OutboundText(recipient="+12055550111", sender="+12055550100", text="hi")
    assert encode_body(bare) == b'{"from":"+12055550100","to":"+12055550111","text":"hi"}'


def test_a_token_comes_back_out_of_its_webhook_url() -> None:
    assert token_of(with_token("https://koinonia.example/hook", "a-b_c.1")) == "a-b_c.1"
    assert token_of(with_token("https://koinonia.example/hook?x=1", "t")) == "t"


def test_a_trace_comes_back_beside_its_token() -> None:
    url = with_token("https://koinonia.example/hook", "a-b_c.1", TRACEPARENT)
    assert url == f"https://koinonia.example/hook?d=a-b_c.1&t={TRACEPARENT}"
    assert (token_of(url), traceparent_of(url)) == ("a-b_c.1", TRACEPARENT)
    assert with_token("https://koinonia.example/hook", "a") == "https://koinonia.example/hook?d=a"


@pytest.mark.parametrize("trace", ["", "x", TRACEPARENT[:-1], f"{TRACEPARENT}0", TRACEPARENT.upper()])
def test_a_trace_that_is_none_is_not_taken_up(trace: str) -> None:
    assert traceparent_of(f"https://koinonia.example/hook?d=a&t={trace}") is None
    assert traceparent_of(None) is None


def test_a_url_without_a_token_gives_none() -> None:
    assert token_of(None) is None
    assert token_of("https://koinonia.example/hook?x=1") is None
    assert token_of("http://[broken?e=1") is None


def test_a_text_shows_neither_number_nor_words_in_its_repr() -> None:
    shown = f"{TEXT!r} {TEXT}"
    assert "2055550" not in shown
    assert "Sunday" not in shown
