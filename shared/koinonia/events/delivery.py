"""What delivery publishes: how texts fare, numbers, and the marker that proves its knowledge fresh."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from koinonia.events.common import ErasureCompleted, ExportCollected, RecipientStatus
from koinonia.events.envelope import Event


class RecipientsUpdated(Event, frozen=True, kw_only=True):
    """Recipients of one message changed their status: differences, which add up in any order.

    A row that is being sent counts as queued until the outcome of its call is known.
    """

    TYPE: ClassVar[str] = "delivery.recipients.updated"
    source_id: UUID  # the message; for a reply the conversation's message; for compliance the event it answers
    kind: Literal["broadcast", "reply", "compliance"]
    changes: dict[RecipientStatus, int]  # +n rows came into this status, -n left it
    accepted_recipients: int = 0  # first known to be accepted by the carrier: metered once
    accepted_segments: int = 0


class NumberChanged(Event, frozen=True, kw_only=True):
    """A church got a phone number, or it changed."""

    TYPE: ClassVar[str] = "delivery.number.changed"
    number_id: UUID
    version: int
    phone: str  # E.164; a church's own numbers are not secret
    kind: Literal["long_code", "toll_free", "short_code"]
    status: Literal["pending", "active", "held", "released"]
    is_default: bool


class MarkerSent(Event, frozen=True, kw_only=True):
    """Delivery's marker through its own hold queue: what came before it has been applied when it comes back."""

    TYPE: ClassVar[str] = "delivery.marker.sent"
    sent_at: datetime  # by the database's clock


class EmailRequested(Event, frozen=True, kw_only=True):
    """An e-mail shall be sent."""

    TYPE: ClassVar[str] = "delivery.email.requested"
    email_id: UUID
    template: str
    address_ciphertext: bytes
    fields: dict[str, str]


class DeliveryExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Delivery's part of an export."""

    TYPE: ClassVar[str] = "delivery.export.collected"


class DeliveryErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Delivery has erased its part."""

    TYPE: ClassVar[str] = "delivery.erasure.completed"


EVENTS = (
    RecipientsUpdated,
    NumberChanged,
    MarkerSent,
    EmailRequested,
    DeliveryExportCollected,
    DeliveryErasureCompleted,
)
