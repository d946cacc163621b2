"""What the gateway publishes: churches, their admins, and how far its own outbox lags."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from koinonia.events.common import ErasureCompleted, ExportCollected
from koinonia.events.envelope import Event


class ChurchChanged(Event, frozen=True, kw_only=True):
    """A church was registered, or its settings or status changed."""

    TYPE: ClassVar[str] = "gateway.church.changed"
    church_id: UUID
    version: int
    name: str
    timezone: str  # IANA name
    status: Literal["active", "suspended", "erased"]
    region: str = "US"  # ISO 3166-1: how national phone numbers are read
    quiet_from: str | None = None  # HH:MM in the church's time zone; None: no quiet hours
    quiet_until: str | None = None
    require_mfa: bool = False
    default_number_id: UUID | None = None  # to send from, where a message names none
    retention_days: int | None = None  # None: as long as the platform keeps it


class AdminChanged(Event, frozen=True, kw_only=True):
    """An admin of a church was made, got another role, or left."""

    TYPE: ClassVar[str] = "gateway.admin.changed"
    admin_id: UUID
    version: int
    role: Literal["owner", "admin", "sender", "viewer"]
    status: Literal["invited", "active", "removed"]


class BacklogReported(Event, frozen=True, kw_only=True):
    """A gateway holds inbound texts that the broker has not confirmed, or holds none any more.

    While one is older than what delivery may ignore, nothing is claimed: it might be a STOP.
    """

    TYPE: ClassVar[str] = "gateway.backlog.reported"
    oldest_inbound_at: datetime | None  # UTC; None: nothing waits


class GatewayExportCollected(ExportCollected, frozen=True, kw_only=True):
    """The gateway's part of an export."""

    TYPE: ClassVar[str] = "gateway.export.collected"


class GatewayErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """The gateway has erased its part."""

    TYPE: ClassVar[str] = "gateway.erasure.completed"


EVENTS = (ChurchChanged, AdminChanged, BacklogReported, GatewayExportCollected, GatewayErasureCompleted)
