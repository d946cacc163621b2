"""Signatures of webhooks, and what their bodies say."""

import base64
from datetime import UTC, datetime

import pytest

from koinonia import clock
from koinonia.carrier.contract import CarrierStatus
from koinonia.carrier.webhooks import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Signer,
    Verifier,
    parse,
)
from koinonia.webhooks import SignatureInvalid, WebhookUnreadable

SIGNER = Signer(bytes(range(32)))
VERIFIER = Verifier([SIGNER.public_key])
BODY = b'{"data": {"id": "e-1", "event_type": "message.sent"}}'
FINALIZED = b"""{"data": {"event_type": "message.finalized", "id": "e-1",
  "occurred_at": "2026-11-20T18:30:00.148+00:00", "record_type": "event",
  "payload": {"id": "m-1", "to": [{"phone_number": "+12055550111", "status": "delivery_failed"}],
  "errors": [{"code": "40008", "title": "Undeliverable", "new": 1}], "cost": {"amount": 0.0051}, "parts": 2,
  "webhook_url": "https://koinonia.example/hook?d=token-1", "from": {"phone_number": "+12055550100"}, "new": {}}},
 "meta": {"attempt": 2, "delivered_to": "https://koinonia.example/hook?d=other"}}"""


def verify(body: bytes, headers: dict[str, str], verifier: Verifier = VERIFIER) -> None:
    verifier.verify(body, signature=headers.get(SIGNATURE_HEADER), timestamp=headers.get(TIMESTAMP_HEADER))


def test_a_signed_body_is_accepted_for_five_minutes_either_way() -> None:
    headers = SIGNER.headers(BODY)
    verify(BODY, headers)
    for seconds in (298, -298):
        with clock.shifted(seconds):
            verify(BODY, headers)


@pytest.mark.parametrize("seconds", [302, -302, 10**8])
def test_a_signature_of_another_time_is_refused(seconds: int) -> None:
    headers = SIGNER.headers(BODY)
    with clock.shifted(seconds), pytest.raises(SignatureInvalid):
        verify(BODY, headers)


def test_a_changed_or_reencoded_body_is_refused() -> None:
    headers = SIGNER.headers(BODY)
    for body in (BODY + b" ", BODY.replace(b": ", b":"), b""):
        with pytest.raises(SignatureInvalid):
            verify(body, headers)


def test_a_changed_timestamp_is_refused() -> None:
    headers = SIGNER.headers(BODY)
    headers[TIMESTAMP_HEADER] = str(int(headers[TIMESTAMP_HEADER]) - 1)
    with pytest.raises(SignatureInvalid):
        verify(BODY, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE_HEADER: "x"},
        {TIMESTAMP_HEADER: "1"},
        {SIGNATURE_HEADER: "not base64!", TIMESTAMP_HEADER: "now"},
        {SIGNATURE_HEADER: "ünïcode", TIMESTAMP_HEADER: "NOW"},
        {SIGNATURE_HEADER: base64.b64encode(b"short").decode(), TIMESTAMP_HEADER: "NOW"},
        {SIGNATURE_HEADER: base64.b64encode(bytes(64)).decode(), TIMESTAMP_HEADER: "٣٣٣"},
        {SIGNATURE_HEADER: base64.b64encode(bytes(64)).decode(), TIMESTAMP_HEADER: "9" * 5000},
        {SIGNATURE_HEADER: base64.b64encode(bytes(64)).decode(), TIMESTAMP_HEADER: "-1"},
    ],
)
def test_headers_that_are_missing_or_rubbish_are_refused(headers: dict[str, str]) -> None:
    now = str(int(clock.now().timestamp()))
    with pytest.raises(SignatureInvalid):
        verify(BODY, {name: now if value == "NOW" else value for name, value in headers.items()})


def test_while_a_key_is_changed_both_are_good_and_a_third_is_not() -> None:
    newer, stranger = Signer(), Signer()
    both = Verifier([newer.public_key, SIGNER.public_key])
    verify(BODY, SIGNER.headers(BODY), both)
    verify(BODY, newer.headers(BODY), both)
    with pytest.raises(SignatureInvalid):
        verify(BODY, stranger.headers(BODY), both)


def test_a_public_key_that_is_none_is_told_at_the_start() -> None:
    for key in ("", "abc", base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError):  # noqa: PT011 - whoever raised it: it comes before any webhook
            Verifier([key])


def test_an_event_tells_status_error_and_the_token_of_the_signed_body() -> None:
    event = parse(FINALIZED)
    assert event.id == "e-1"
    assert event.occurred_at == datetime(2026, 11, 20, 18, 30, 0, 148000, tzinfo=UTC)
    assert event.status is CarrierStatus.DELIVERY_FAILED
    assert event.token == "token-1"
    assert event.attempt == 2
    assert event.error is not None
    assert event.error.code == "40008"
    assert event.message is not None
    assert event.message.recipient == "+12055550111"


def test_an_event_tells_the_trace_of_its_text_out_of_the_signed_body() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert parse(FINALIZED).traceparent is None
    assert parse(FINALIZED.replace(b"token-1", b"token-1&t=" + trace.encode())).traceparent == trace
    assert parse(FINALIZED.replace(b"d=other", b"d=other&t=" + trace.encode())).traceparent == trace


def test_everything_but_ids_may_be_missing_and_a_new_status_is_unknown() -> None:
    bare = parse(b'{"data": {"id": "e", "event_type": "message.sent", "payload": {"id": "m"}}}')
    assert (bare.status, bare.token, bare.error) == (CarrierStatus.UNKNOWN, None, None)
    new = parse(
        b'{"data": {"id": "e", "event_type": "message.sent", "payload": {"id": "m", "to": [{"status": "teleported"}]}}}'
    )
    assert new.status is CarrierStatus.UNKNOWN


def test_an_event_about_something_else_has_no_message() -> None:
    event = parse(b'{"data": {"id": "e", "event_type": "number_order.complete", "payload": {"to": 5, "id": 7}}}')
    assert event.event_type == "number_order.complete"
    assert event.message is None
    assert event.status is CarrierStatus.UNKNOWN


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"data": {}}', "data.id"),
        (b'{"data": {"id": 5}}', "data.id"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (
            b'{"data": {"id": "e", "event_type": "message.sent", "payload": {"to": "+12055550111"}}}',
            "data.payload.id",
        ),
    ],
)
def test_a_body_of_another_shape_is_unreadable_and_the_error_names_the_place_and_quotes_none_of_it(
    body: bytes, field: str
) -> None:
    with pytest.raises(WebhookUnreadable) as caught:
        parse(body)
    assert [detail.field for detail in caught.value.details] == [field]
    assert "+1205" not in str(caught.value) + str(caught.value.details)
