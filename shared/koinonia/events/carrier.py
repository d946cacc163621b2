"""What the carrier tells us, as the gateway's webhook door publishes it."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec

from koinonia.events.envelope import Event

RECEIPT_BATCH_SIZE = 100


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The carrier's word on one text of ours."""

    recipient_id: UUID  # from the token in the signed body
    status: str  # the carrier's: queued, sending, sent, delivered, delivery_failed, …
    occurred_at: datetime
    carrier_id: str
    error_code: str | None = None
    parts: int | None = None  # segments billed by the carrier
    traceparent: str | None = None  # of the gateway's work on it, in the trace of the text


class StatusReceived(Event, frozen=True, kw_only=True):
    """Receipts, of any churches, in the order in which they came. Harmless when repeated: they apply by rank."""

    TYPE: ClassVar[str] = "carrier.status.received"
    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(min_length=1, max_length=RECEIPT_BATCH_SIZE)]


class MessageReceived(Event, frozen=True, kw_only=True):
    """Somebody texted a church's number. The event's id comes from the carrier's event: a repeat is the same event."""

    TYPE: ClassVar[str] = "carrier.message.received"
    number_id: UUID
    phone_index: bytes  # of the sender
    phone_ciphertext: bytes
    text: str
    media_urls: tuple[str, ...]
    carrier_id: str
    occurred_at: datetime  # as dated by the carrier
    answered_by_carrier: Literal["STOP", "START", "HELP"] | None = None


EVENTS = (StatusReceived, MessageReceived)
