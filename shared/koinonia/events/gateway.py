"""What the gateway publishes: churches, their admins, what Stripe tells, and how far its own outbox lags."""

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
    undo_seconds: int = 0  # so long an accepted message waits before it is sent
    approval_above: int | None = None  # a broadcast to more people waits for a second admin; None: none does
    opt_out_line: str | None = None  # below each broadcast that does not tell how to opt out; None: none
    weekly_limit: int | None = None  # no more broadcasts than these to a number in seven days; None: as many as go


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


class PaymentReported(Event, frozen=True, kw_only=True):
    """Stripe told of a checkout, a subscription or an invoice. A repeat of Stripe's is the same event.

    Ids alone: Stripe's events come in any order and hold names and addresses, so what an id stands for is asked there.
    """

    TYPE: ClassVar[str] = "gateway.payment.reported"
    stripe_event_id: str
    stripe_type: str  # checkout.session.completed, customer.subscription.updated, invoice.paid, …
    object_id: str  # of the checkout session, the subscription or the invoice
    customer_id: str | None
    occurred_at: datetime  # as dated by Stripe, to the second
    live: bool  # False: of Stripe's test mode


class GatewayExportCollected(ExportCollected, frozen=True, kw_only=True):
    """The gateway's part of an export."""

    TYPE: ClassVar[str] = "gateway.export.collected"


class GatewayErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """The gateway has erased its part."""

    TYPE: ClassVar[str] = "gateway.erasure.completed"


EVENTS = (
    ChurchChanged,
    AdminChanged,
    BacklogReported,
    PaymentReported,
    GatewayExportCollected,
    GatewayErasureCompleted,
)
