"""What compliance publishes: who must not be texted, what the law lets people ask for, and its own short answers."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from koinonia.events.common import ErasureCompleted, ExportCollected
from koinonia.events.envelope import Event


class SuppressionAdded(Event, frozen=True, kw_only=True):
    """A number opted out. Also the answer to a hold whose state was so already."""

    TYPE: ClassVar[str] = "compliance.suppression.added"
    phone_index: bytes
    version: int
    occurred_at: datetime  # of the person's act; the later one wins, an opt-out on a tie
    reason: Literal["stop", "carrier_block", "admin", "erasure"]
    inbound_event_id: UUID | None = None  # the text that it answers


class SuppressionRemoved(Event, frozen=True, kw_only=True):
    """A number may be texted again, or a hold was no opt-out."""

    TYPE: ClassVar[str] = "compliance.suppression.removed"
    phone_index: bytes
    version: int
    occurred_at: datetime
    reason: Literal["start", "admin"]
    inbound_event_id: UUID | None = None


class ComplianceReplyRequested(Event, frozen=True, kw_only=True):
    """A confirmation or help text that the law wants; a confirmation of an opt-out alone passes suppression."""

    TYPE: ClassVar[str] = "compliance.reply.requested"
    purpose: Literal["stop", "start", "help"]
    number_id: UUID
    phone_index: bytes
    phone_ciphertext: bytes
    content: str
    inbound_event_id: UUID
    requested_at: datetime


class ConsentChanged(Event, frozen=True, kw_only=True):
    """A person gave or withdrew consent."""

    TYPE: ClassVar[str] = "compliance.consent.changed"
    phone_index: bytes
    version: int
    purpose: Literal["marketing", "analytics", "sms"]
    granted: bool
    occurred_at: datetime


class ExportRequested(Event, frozen=True, kw_only=True):
    """Every service shall hand in its part."""

    TYPE: ClassVar[str] = "compliance.export.requested"
    export_id: UUID
    requested_by: UUID


class ErasureRequested(Event, frozen=True, kw_only=True):
    """Every service shall erase its part."""

    TYPE: ClassVar[str] = "compliance.erasure.requested"
    erasure_id: UUID
    scope: Literal["account", "church", "member"]
    admin_id: UUID | None = None
    member_id: UUID | None = None
    phone_index: bytes | None = None


class ComplianceExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Compliance's own part of an export."""

    TYPE: ClassVar[str] = "compliance.export.collected"


class ComplianceErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Compliance has erased its own part."""

    TYPE: ClassVar[str] = "compliance.erasure.completed"


EVENTS = (
    SuppressionAdded,
    SuppressionRemoved,
    ComplianceReplyRequested,
    ConsentChanged,
    ExportRequested,
    ErasureRequested,
    ComplianceExportCollected,
    ComplianceErasureCompleted,
)
