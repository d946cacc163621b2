"""What delivery publishes: how texts fare, numbers, and the marker that proves its knowledge fresh."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from koinonia.events.common import ErasureCompleted, ExportCollected, RecipientStatus
from koinonia.events.envelope import Event

EmailTemplate = Literal[
    "password-reset",
    "password-changed",
    "recovery-code-used",
    "mfa-on",
    "mfa-off",
    "invitation",
    "api-key-made",
]


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
    errors: dict[str, int] = msgspec.field(default_factory=dict)  # new failures among them, by the carrier's code
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class BroadcastStopped(Event, frozen=True, kw_only=True):
    """Nothing of a cancelled broadcast can be claimed any more. The figures are of that moment, from its rows.

    What is not in them shall never go: it waited, or comes later and meets the tombstone.
    """

    TYPE: ClassVar[str] = "delivery.broadcast.stopped"
    message_id: UUID
    sent_recipients: int  # accepted by the carrier, whatever became of them
    sent_segments: int
    in_flight_recipients: int  # being sent, or it is not known whether they were
    in_flight_segments: int
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class NumberChanged(Event, frozen=True, kw_only=True):
    """A church got a phone number, or it changed."""

    TYPE: ClassVar[str] = "delivery.number.changed"
    number_id: UUID
    version: int
    phone: str  # E.164; a church's own numbers are not secret
    kind: Literal["long_code", "toll_free", "short_code"]
    status: Literal["pending", "active", "held", "released"]
    is_default: bool
    hold_reason: Literal["suspended", "church_paused", "paused", "carrier"] | None = None  # why it is held


class MarkerSent(Event, frozen=True, kw_only=True):
    """Delivery's marker through its own hold queue: what came before it has been applied when it comes back."""

    TYPE: ClassVar[str] = "delivery.marker.sent"
    sent_at: datetime  # by the database's clock


class EmailRequested(Event, frozen=True, kw_only=True):
    """An e-mail shall be sent, once, to one person of a church; whoever asks makes it by ``koinonia.emails.request``.

    What is private is ciphertext of the event's church. Version 1 had plain fields, and was never published.
    """

    TYPE: ClassVar[str] = "delivery.email.requested"
    VERSION: ClassVar[int] = 2
    email_id: UUID  # asked for twice, it is sent once
    template: str  # one of EmailTemplate, or one that a newer asker knows
    email_ciphertext: bytes  # the address; kind email
    fields_ciphertext: bytes  # the template's fields as a JSON object of strings; kind fields
    expires_at: datetime  # UTC; later it is not sent any more


class DeliveryExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Delivery's part of an export."""

    TYPE: ClassVar[str] = "delivery.export.collected"


class DeliveryErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Delivery has erased its part."""

    TYPE: ClassVar[str] = "delivery.erasure.completed"


EVENTS = (
    RecipientsUpdated,
    BroadcastStopped,
    NumberChanged,
    MarkerSent,
    EmailRequested,
    DeliveryExportCollected,
    DeliveryErasureCompleted,
)
