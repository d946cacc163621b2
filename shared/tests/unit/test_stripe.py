"""Stripe's signatures, and what is read of its events."""

import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from koinonia import clock
from koinonia.secret import Secret
from koinonia.stripe import EVENTS, StripeObject, Verifier, parse, parse_secrets, signature_of
from koinonia.webhooks import SignatureInvalid, WebhookUnreadable

OLD, NEW, OTHER = (f"whsec_{name}NkJ3kLQw8TzVb2Yx" for name in ("old", "new", "other"))
BODY = b'{"id": "evt_1", "object": "event"}'


def v1(timestamp: str, body: bytes = BODY, secret: str = OLD) -> str:
    """By the documentation's words, apart from the code under test."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_good(header: str | None, body: bytes = BODY, secret: str | None = OLD) -> bool:
    try:
        Verifier(Secret(secret) if secret is not None else None).verify(body, header)
    except SignatureInvalid:
        return False
    return True


@pytest.fixture
def now() -> str:
    return str(int(clock.now().timestamp()))


def test_what_stripe_signs_is_good_for_five_minutes_either_way(now: str) -> None:
    header = f"t={now},v1={v1(now)},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    assert is_good(header)
    for seconds, good in ((298, True), (-298, True), (302, False), (-302, False), (10**8, False)):
        with clock.shifted(seconds):
            assert is_good(header) is good


def test_any_signature_of_any_secret_is_enough(now: str) -> None:
    several = f"t={now}, v1={'0' * 64}, v1={v1(now, secret=NEW)}, v1={v1(now, secret=OTHER)}"
    assert is_good(several, secret=f"{OLD}, {NEW}")
    assert not is_good(several)
    for secret in (OLD, NEW):
        assert is_good(signature_of(BODY, secret), secret=f"{NEW},{OLD}")
    assert is_good(signature_of(BODY, NEW, OLD))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        "t={now}",
        "v1={good}",
        "t=,v1={good}",
        "t={now},v0={good}",
        "t={now},v1=",
        "t={now},v1",
        "t={now},v1={good}0",
        "t={now},v1={good:.63}",
        "t={now},V1={good}",
        "t={now},t={now},v1={good}",
        "t=1600000000,t={now},v1={good}",
        "t=+{now},v1={good}",
        "t={now}.0,v1={good}",
        "t=0{now},v1={good}",
        "t=٣,v1={good}",
        "t={now}," + "v1=\udce9," * 50,
        "t={now},v1=" + "é" * 64,
        "t=" + "9" * 400 + ",v1={good}",
    ],
)
def test_another_header_is_not(header: str | None, now: str) -> None:
    assert is_good(f"t={now},v1={v1(now)}")
    assert not is_good(header and header.format(now=now, good=v1(now)))


def test_another_body_time_or_secret_is_not(now: str) -> None:
    header = f"t={now},v1={v1(now)}"
    for body in (BODY + b" ", b"", BODY.replace(b": ", b":")):
        assert not is_good(header, body)
    assert not is_good(f"t={int(now) - 1},v1={v1(now)}")
    assert not is_good(header, secret=NEW)
    assert not is_good(header, secret=None)
    assert not is_good(f"t={now},v1={v1(now, secret=OLD.removeprefix('whsec_'))}")


@pytest.mark.parametrize(
    "text",
    ["", " , ", "whsec_", "whsec_short", "sk_live_" + "x" * 24, f"{OLD},nonsense", f"{OLD} {NEW}", f"{OLD}\n{NEW}"],
)
def test_what_is_no_signing_secret_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected signing secrets, whsec_…, with commas between$"):
        parse_secrets(text)


def event(kind: str = "invoice.paid", *, about: Any = None, **others: Any) -> bytes:
    about = about or {"id": "in_1", "object": "invoice", "customer": "cus_1", "customer_email": "ruth@grace.example"}
    return msgspec.json.encode(
        {"id": "evt_1", "type": kind, "created": 1, "livemode": True, "data": {"object": about}, **others}
    )


@pytest.mark.parametrize("kind", sorted(EVENTS))
def test_of_an_event_that_concerns_us_ids_are_read(kind: str) -> None:
    read = parse(event(kind, api_version="2019-12-03", pending_webhooks=1, request={"id": None}))
    assert (read.id, read.type, read.created, read.livemode) == ("evt_1", kind, 1, True)
    assert read.about == StripeObject(id="in_1", customer="cus_1")


def test_of_another_event_nothing_of_its_object_is() -> None:
    assert parse(event("customer.created", about={"id": 5, "customer": {"name": "Ruth"}})).about is None


def test_a_checkout_may_have_no_customer() -> None:
    read = parse(event("checkout.session.completed", about={"id": "cs_1", "customer": None}))
    assert read.about == StripeObject(id="cs_1")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 100_000, "body"),
        (b"{}", "id"),
        (event(id="evt 1"), "id"),
        (event(id="evt_1\n"), "id"),
        (event(id="x" * 256), "id"),
        (event(created=-1), "created"),
        (event(created=10**15), "created"),
        (event(created="1"), "created"),
        (event(livemode=None), "livemode"),
        (event(data={}), "data.object"),
        (event(about={"customer": "cus_1"}), "data.object.id"),
        (event(about={"id": "in_1", "customer": {"id": "cus_1"}}), "data.object.customer"),
        (event(about={"id": "in_1", "customer": "ruth@grace.example"}), "data.object.customer"),
        (event(about=[1]), "data.object"),
    ],
)
def test_an_event_of_another_shape_is_unreadable_and_the_error_names_the_place(body: bytes, field: str) -> None:
    with pytest.raises(WebhookUnreadable) as caught:
        parse(body)
    assert [each.field for each in caught.value.details] == [field]
    assert "grace" not in str(caught.value.details)
