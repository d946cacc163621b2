"""Stripe's webhooks: their signature, and the little that is read of them.

Signed is ``<t>.<raw body>`` with HMAC-SHA256 under the endpoint's whole secret, ``whsec_`` included; the header names
several signatures while Stripe exchanges the secret. Of an event only ids are read: it holds a copy of its object, with
names and addresses, as it was then, in the API version of the endpoint.

Source: stripe-python 16.1.0, ``stripe/_webhook.py``.
"""

import hmac
import re
from typing import Annotated

import msgspec

from koinonia import clock
from koinonia.secret import Secret
from koinonia.webhooks import SignatureInvalid, decoded, is_fresh

SIGNATURE_HEADER = "Stripe-Signature"

EVENTS = frozenset(
    {
        "checkout.session.completed",
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "invoice.paid",
        "invoice.payment_failed",
    }
)
"""The types of event that say something of a church's plan or payments."""

_SECRET = re.compile(r"whsec_[!-~]{16,}")
_LAST_SECOND = 253_402_300_799  # of the year 9999

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,255}\Z")]


class StripeObject(msgspec.Struct, frozen=True, kw_only=True):
    """What an event is about: a checkout session, a subscription or an invoice."""

    id: Id
    customer: Id | None = None


class StripeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. A repeat has the same ``id`` and ``created``."""

    id: str
    type: str
    created: int  # Unix time
    livemode: bool  # False: of Stripe's test mode
    about: StripeObject | None  # None: its type is none of `EVENTS`


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """Read signing secrets with commas between, several while one is changed.

    Raises:
        ValueError: there is none, or one is no signing secret.
    """
    secrets = [part.strip() for part in text.split(",") if part.strip()]
    if not secrets or not all(_SECRET.fullmatch(each) for each in secrets):
        raise ValueError("expected signing secrets, whsec_…, with commas between")
    return tuple(each.encode() for each in secrets)


class Verifier:
    """Checks signatures by the endpoint's secrets, which are asked for each time: any of them is good.

    Without a setting no signature is.
    """

    def __init__(self, secret: Secret | None) -> None:
        self._secret = secret

    def verify(self, body: bytes, signature: str | None) -> None:
        """Check the raw body by the header.

        Raises:
            SignatureInvalid: no secret signed it, or its time is more than 300 s from ours.
        """
        timestamp, given = _read(signature or "")
        if self._secret is None or not is_fresh(timestamp):
            raise SignatureInvalid
        wanted = [_sign(secret, timestamp, body) for secret in parse_secrets(self._secret.value)]
        if not any(hmac.compare_digest(right, each) for right in wanted for each in given):
            raise SignatureInvalid


def signature_of(body: bytes, *secrets: str) -> str:
    """The header for a body that goes out now, as Stripe makes it: tests use it."""
    timestamp = str(int(clock.now().timestamp()))
    signed = (_sign(secret.encode(), timestamp, body).decode() for secret in secrets)
    return ",".join([f"t={timestamp}", *(f"v1={each}" for each in signed)])


class _Data(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: Id
    type: Annotated[str, msgspec.Meta(min_length=1)]
    created: Annotated[int, msgspec.Meta(ge=0, le=_LAST_SECOND)]
    livemode: bool
    data: _Data


_EVENT = msgspec.json.Decoder(_Event)
_OBJECT = msgspec.json.Decoder(StripeObject)


def parse(body: bytes) -> StripeEvent:
    """Read a verified body.

    Raises:
        WebhookUnreadable: it has not the documented shape. Its details name the place, never a value.
    """
    event = decoded(_EVENT, body)
    about = decoded(_OBJECT, event.data.object, "data.object") if event.type in EVENTS else None
    return StripeEvent(id=event.id, type=event.type, created=event.created, livemode=event.livemode, about=about)


def _sign(secret: bytes, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(secret, timestamp.encode() + b"." + body, "sha256").hex().encode()


def _read(header: str) -> tuple[str, list[bytes]]:
    """The time, empty unless there is just one, and the signatures of the scheme that we know."""
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value.encode(errors="replace") for name, _, value in parts if name == "v1"]
    return times[0] if len(times) == 1 else "", signatures
