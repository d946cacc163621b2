"""What delivery publishes: how texts fare, numbers, and the marker that proves its knowledge fresh; and the wishes that
others have of it."""

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
    "approval-awaited",
]


class BranchChanges(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of the differences that is one branch's."""

    branch_id: UUID
    changes: dict[RecipientStatus, int]


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
    branches: tuple[BranchChanges, ...] = ()  # of a broadcast; a row that was stored before is in no branch


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


class FailedListed(Event, frozen=True, kw_only=True):
    """A page of those whom a message did not reach for good, for one that is sent to them again."""

    TYPE: ClassVar[str] = "delivery.failed.listed"
    message_id: UUID  # the new one
    source_id: UUID  # the message that failed
    after: UUID | None  # as it was asked
    member_ids: tuple[UUID, ...]  # of up to 500 recipients; a family shares a number
    last: UUID | None  # the last recipient; None: there are no more


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


class TextRequested(Event, frozen=True, kw_only=True):
    """A text shall be sent, once, to one person who waits for it, as a reply would be: it passes no opt-out."""

    TYPE: ClassVar[str] = "delivery.text.requested"
    text_id: UUID
    purpose: str  # code: a phone is confirmed by it; draft: what a broadcast is to say, to who tries it; or a newer one
    number_id: UUID | None  # to send from; None: the church's default
    phone_index: bytes
    phone_ciphertext: bytes
    content: str  # as it goes out: no field is filled in it any more
    media_urls: tuple[str, ...]
    requested_at: datetime
    do_not_send_after: datetime | None = None  # UTC; later it expires


class DeliveryExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Delivery's part of an export."""

    TYPE: ClassVar[str] = "delivery.export.collected"


class DeliveryErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Delivery has erased its part."""

    TYPE: ClassVar[str] = "delivery.erasure.completed"


EVENTS = (
    RecipientsUpdated,
    BroadcastStopped,
    FailedListed,
    NumberChanged,
    MarkerSent,
    EmailRequested,
    TextRequested,
    DeliveryExportCollected,
    DeliveryErasureCompleted,
)
