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


class MessageDeclined(Event, frozen=True, kw_only=True):
    """The plan does not cover the message."""

    TYPE: ClassVar[str] = "billing.message.declined"
    message_id: UUID
    version: int  # of the question
    reason: Literal["plan_limit", "no_subscription", "suspended"]
    available_segments: int


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
    SubscriptionChanged,
    UsageRecorded,
    BillingExportCollected,
    BillingErasureCompleted,
)
