"""What billing publishes: whether a broadcast may go, and what a church has booked and used."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from koinonia.events.common import ErasureCompleted, ExportCollected
from koinonia.events.envelope import Event


class MessageAuthorized(Event, frozen=True, kw_only=True):
    """The plan covers these segments; they are reserved until the message is completed."""

    TYPE: ClassVar[str] = "billing.message.authorized"
    message_id: UUID
    version: int  # of the question
    segment_bound: int  # reserved for the whole message
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessageDeclined(Event, frozen=True, kw_only=True):
    """The plan does not cover the message."""

    TYPE: ClassVar[str] = "billing.message.declined"
    message_id: UUID
    version: int  # of the question
    reason: Literal["plan_limit", "no_subscription", "suspended"]
    available_segments: int
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class MessageCredited(Event, frozen=True, kw_only=True):
    """A cancelled message gave back what it had reserved and cannot use any more."""

    TYPE: ClassVar[str] = "billing.message.credited"
    message_id: UUID
    credited_segments: int
    credited_cents: int  # what these would have cost beyond the plan's included segments
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class SubscriptionChanged(Event, frozen=True, kw_only=True):
    """A church's plan, its period or its state changed."""

    TYPE: ClassVar[str] = "billing.subscription.changed"
    version: int
    plan: str
    status: Literal["trialing", "active", "past_due", "canceled"]
    period_start: datetime
    period_end: datetime
    included_segments: int


class UsageRecorded(Event, frozen=True, kw_only=True):
    """Accepted texts were written into the ledger."""

    TYPE: ClassVar[str] = "billing.usage.recorded"
    source_id: UUID
    recipients: int
    segments: int


class BillingExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Billing's part of an export."""

    TYPE: ClassVar[str] = "billing.export.collected"


class BillingErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Billing has erased its part."""

    TYPE: ClassVar[str] = "billing.erasure.completed"


EVENTS = (
    MessageAuthorized,
    MessageDeclined,
    MessageCredited,
    SubscriptionChanged,
    UsageRecorded,
    BillingExportCollected,
    BillingErasureCompleted,
)
