"""Which queue gets which events: the one table that declares queues, grants rights and draws the AsyncAPI page.

A queue is named ``<service>.<purpose>`` and belongs to that service. Every event type that is published stands here at
least once; one that nobody publishes yet has only its schema.
"""

from koinonia.db.roles import SERVICES
from koinonia.events import (
    ALL,
    Event,
    audit,
    billing,
    carrier,
    compliance,
    conversation,
    delivery,
    gateway,
    messaging,
    publisher_of,
)

EXCHANGE = "koinonia.events"

QUEUES: dict[str, tuple[type[Event], ...]] = {
    # gateway: who is ready, which number belongs to whom, and what admins are told of
    "gateway.projections": (delivery.NumberChanged, messaging.BranchChanged, billing.SubscriptionChanged),
    "gateway.approvals": (messaging.MessageHeld,),
    # messaging
    "messaging.churches": (gateway.ChurchChanged, delivery.NumberChanged),
    "messaging.billing": (billing.MessageAuthorized, billing.MessageDeclined),
    "messaging.progress": (delivery.RecipientsUpdated,),
    "messaging.stops": (delivery.BroadcastStopped, billing.MessageCredited),
    "messaging.failed": (delivery.FailedListed,),
    "messaging.suppressions": (compliance.SuppressionAdded, compliance.SuppressionRemoved),
    # delivery
    "delivery.churches": (gateway.ChurchChanged, messaging.SendingPaused, messaging.SendingResumed),
    "delivery.chunks": (messaging.RecipientsResolved,),
    "delivery.messages": (
        messaging.MessageAccepted,
        messaging.MessageDispatched,
        messaging.MessageCancelled,
        messaging.MessagePaused,
        messaging.MessageResumed,
    ),
    "delivery.failed": (messaging.FailedRequested,),
    "delivery.texts": (conversation.ReplyRequested, compliance.ComplianceReplyRequested, delivery.TextRequested),
    "delivery.emails": (delivery.EmailRequested,),
    "delivery.receipts": (carrier.StatusReceived,),
    "delivery.consents": (messaging.MembersChanged,),
    "delivery.holds": (
        carrier.MessageReceived,
        compliance.SuppressionAdded,
        compliance.SuppressionRemoved,
        delivery.MarkerSent,
        gateway.BacklogReported,
    ),
    # conversation
    "conversation.contacts": (messaging.MembersChanged, delivery.NumberChanged),
    "conversation.inbound": (carrier.MessageReceived,),
    "conversation.progress": (delivery.RecipientsUpdated,),
    # billing
    "billing.churches": (gateway.ChurchChanged,),
    "billing.messages": (
        messaging.MessageAccepted,
        messaging.MessageDue,
        messaging.MessageCompleted,
        delivery.BroadcastStopped,
    ),
    "billing.usage": (delivery.RecipientsUpdated,),
    "billing.payments": (gateway.PaymentReported,),
    # compliance
    "compliance.churches": (gateway.ChurchChanged, gateway.AdminChanged, delivery.NumberChanged),
    "compliance.inbound": (carrier.MessageReceived,),
    "compliance.consents": (messaging.ConsentsGiven,),
    "compliance.audit": (audit.ActionRecorded,),
}

ASKERS: dict[type[Event], frozenset[str]] = {
    delivery.EmailRequested: frozenset({"gateway"}),
    delivery.TextRequested: frozenset({"gateway", "messaging"}),
}
"""Who else publishes what its owner alone takes: a wish, named after the service that fulfils it."""


def service_of(queue: str) -> str:
    """The service that a queue belongs to."""
    return queue.partition(".")[0]


def queues_of(service: str) -> tuple[str, ...]:
    """The queues that a service takes from."""
    return tuple(queue for queue in QUEUES if service_of(queue) == service)


def types_of(service: str) -> tuple[str, ...]:
    """The event types that a service may publish: its own, what it did, for the audit log, and what it may ask for."""
    return tuple(dict.fromkeys(each.TYPE for each in ALL if service in publishers_of(each)))


def publishers_of(event_type: type[Event]) -> frozenset[str]:
    """The services that may publish an event type."""
    if event_type is audit.ActionRecorded:
        return frozenset(SERVICES)
    return ASKERS.get(event_type, frozenset()) | {publisher_of(event_type)}
