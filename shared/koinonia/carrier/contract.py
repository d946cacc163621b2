"""The port to a carrier: what delivery asks of it, and the four ways in which a call can end.

A call returns what was asked for, or raises `Refused` (certainly not done, try again), `Rejected` (certainly not done,
final) or `OutcomeUnknown` (perhaps done). No error holds a phone number or a text.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from koinonia.errors import KoinoniaError

TOKEN_PARAMETER = "d"  # noqa: S105 - the name of the query parameter of a webhook URL that carries the recipient's token
TRACE_PARAMETER = "t"
_TOKEN = re.compile(rf"[?&]{TOKEN_PARAMETER}=([^&#]+)")
_TRACE = re.compile(rf"[?&]{TRACE_PARAMETER}=([0-9a-f]{{2}}-[0-9a-f]{{32}}-[0-9a-f]{{16}}-[0-9a-f]{{2}})(?![^&#])")

Scope = Literal["call", "number", "church", "account"]
"""How much must wait for a `Refused` call: this call, all of its sender's, its church's, or everybody's."""


class CarrierError(KoinoniaError):
    """The carrier did not do what it was asked to."""

    code = "DEPENDENCY_UNAVAILABLE"
    status = 503

    def __init__(
        self, message: str | None = None, *, carrier_code: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.carrier_code = carrier_code


class Refused(CarrierError):
    """The carrier did not take it; the same call may succeed later.

    ``scope`` says how much waits. All but "call" is a hold: it needs a person, and rows stay queued.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        carrier_code: str | None = None,
        retry_after_seconds: int | None = None,
        scope: Scope = "call",
    ) -> None:
        message = message or "The carrier did not take it; it is tried again."
        super().__init__(message, carrier_code=carrier_code, retry_after_seconds=retry_after_seconds)
        self.scope: Scope = scope


class Rejected(CarrierError):
    """The carrier refused this for good.

    ``message`` is a sentence for the church; ``opted_out`` means that the person has told the carrier to stop.
    """

    code = "CONFLICT"
    status = 409

    def __init__(self, message: str, *, carrier_code: str, opted_out: bool = False) -> None:
        super().__init__(message, carrier_code=carrier_code)
        self.opted_out = opted_out


class OutcomeUnknown(CarrierError):
    """The request may or may not have reached the carrier."""


class CarrierStatus(StrEnum):
    """How far a text has come, in the carrier's words, brought to one vocabulary."""

    SCHEDULED = "scheduled"  # waits for its time at the carrier
    QUEUED = "queued"  # waits for the carrier's rate limits
    SENDING = "sending"
    SENT = "sent"  # handed to the recipient's network
    DELIVERED = "delivered"  # final
    DELIVERY_FAILED = "delivery_failed"  # final
    DELIVERY_UNCONFIRMED = "delivery_unconfirmed"  # final: no receipt came; neither a failure nor a delivery
    SENDING_FAILED = "sending_failed"  # final
    EXPIRED = "expired"  # final: left the carrier's queue unsent
    READ = "read"
    RECEIVED = "received"  # an inbound text
    UNKNOWN = "unknown"  # a word that this version does not know


class OutboundText(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """One text to one person. All of the body is fixed at the first attempt, so that a repeat is the same bytes."""

    recipient: str  # E.164
    sender: str  # E.164, short code or alphanumeric id
    text: str
    media_urls: tuple[str, ...] = ()
    messaging_profile_id: str | None = None
    webhook_url: str | None = None  # with the recipient's token, see `with_token`
    idempotency_key: str | None = None  # None where the carrier has none
    traceparent: str | None = None  # W3C trace context, passed on as a header

    def __repr__(self) -> str:
        """Nothing of the person: a struct ends up in logs and traces sooner or later."""
        return f"OutboundText(idempotency_key={self.idempotency_key!r})"


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier has taken the text."""

    carrier_id: str
    parts: int | None = None  # segments that it bills
    wait_seconds: float = 0.0  # how long its rate limits hold the text back


class CarrierState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a text is, as the carrier tells it."""

    carrier_id: str
    status: CarrierStatus
    error_code: str | None = None
    parts: int | None = None
    webhook_url: str | None = None
    sent_at: datetime | None = None
    completed_at: datetime | None = None


class DetailRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the carrier's records about an outbound text; one that is still queued has none yet."""

    carrier_id: str
    status: CarrierStatus
    created_at: datetime
    webhook_url: str | None = None
    parts: int | None = None


class AvailableNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A number that can be ordered."""

    phone: str
    region: str | None = None
    monthly_cost: str | None = None  # decimal, as the carrier writes it
    currency: str | None = None
    features: tuple[str, ...] = ()


class NumberOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of numbers; it is final once it is not pending."""

    order_id: str
    status: Literal["pending", "success", "failure"]
    phones: tuple[str, ...] = ()
    reference: str | None = None


class MessagingProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant at the carrier: its numbers, webhooks and opt-outs."""

    profile_id: str
    name: str


class Carrier(Protocol):
    """A carrier. Every method may raise `Refused`, `Rejected` or `OutcomeUnknown`, and nothing else of its own."""

    async def send(self, text: OutboundText) -> Accepted:
        """Hand one text over. A repeat of one with an idempotency key, byte for byte, returns its first result."""

    async def look_up(self, carrier_id: str) -> CarrierState | None:
        """Tell where a text is; None when the carrier does not know the id (any more)."""

    async def find_records(self, *, sender: str, recipient: str, since: datetime) -> Sequence[DetailRecord]:
        """Find the texts of one sender to one person since then. That one is missing proves nothing for 4 hours."""

    async def search_numbers(self, *, area_code: str | None = None, limit: int = 10) -> Sequence[AvailableNumber]:
        """Search for US numbers that can send texts."""

    async def order_number(self, phone: str, *, messaging_profile_id: str, reference: str) -> NumberOrder:
        """Order one number of a recent search. Costs money; has no key: save ``reference`` first, see `find_orders`."""

    async def look_up_order(self, order_id: str) -> NumberOrder | None:
        """Tell how an order stands."""

    async def find_orders(self, reference: str) -> Sequence[NumberOrder]:
        """Find the orders that were made with ``reference``: asked before an order is made again."""

    async def create_messaging_profile(self, name: str, *, webhook_url: str) -> MessagingProfile:
        """Make a profile whose inbound texts go to ``webhook_url``. Look with `find_messaging_profiles` first."""

    async def find_messaging_profiles(self, name: str) -> Sequence[MessagingProfile]:
        """Find the profiles of exactly this name."""

    async def assign_number(self, phone: str, *, messaging_profile_id: str) -> None:
        """Put a number of ours onto a profile; doing it twice is doing it once."""


def with_token(webhook_url: str, token: str, traceparent: str | None = None) -> str:
    """The webhook URL of one recipient. ``token`` is URL-safe; ``traceparent`` is what its receipts continue."""
    trace = "" if traceparent is None else f"&{TRACE_PARAMETER}={traceparent}"
    return f"{webhook_url}{'&' if '?' in webhook_url else '?'}{TOKEN_PARAMETER}={token}{trace}"


def token_of(webhook_url: str | None) -> str | None:
    """The recipient's token in a webhook URL that `with_token` made; None when there is none."""
    return _found(_TOKEN, webhook_url)


def traceparent_of(webhook_url: str | None) -> str | None:
    """The trace in a webhook URL that `with_token` made; None when there is none."""
    return _found(_TRACE, webhook_url)


def _found(pattern: "re.Pattern[str]", webhook_url: str | None) -> str | None:
    found = pattern.search(webhook_url) if webhook_url else None
    return found.group(1) if found is not None else None


class _Body(msgspec.Struct, omit_defaults=True, rename={"sender": "from", "recipient": "to"}):
    sender: str
    recipient: str
    text: str
    media_urls: tuple[str, ...] = ()
    messaging_profile_id: str | None = None
    webhook_url: str | None = None


def encode_body(text: OutboundText) -> bytes:
    """The request's body: equal inputs give equal bytes, which is what makes an idempotency key work."""
    return msgspec.json.encode(
        _Body(
            sender=text.sender,
            recipient=text.recipient,
            text=text.text,
            media_urls=text.media_urls,
            messaging_profile_id=text.messaging_profile_id,
            webhook_url=text.webhook_url,
        )
    )
