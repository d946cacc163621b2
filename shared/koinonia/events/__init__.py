"""The event contract: every event type of the platform, its envelope and its registry.

One module per publishing service; ``ALL`` is the whole contract. JSON Schemas, examples and the AsyncAPI page under
``proto-schemas/`` are generated from it (``koinonia contracts generate``).
"""

from koinonia.events import audit, billing, carrier, compliance, conversation, delivery, gateway, messaging
from koinonia.events.envelope import (
    CONTENT_TYPE,
    REGISTRY,
    Envelope,
    Event,
    UnknownEvent,
    Unreadable,
    decode,
    encode,
    publisher_of,
    register,
    schema_name,
)

ALL: tuple[type[Event], ...] = (
    *gateway.EVENTS,
    *messaging.EVENTS,
    *billing.EVENTS,
    *carrier.EVENTS,
    *delivery.EVENTS,
    *conversation.EVENTS,
    *compliance.EVENTS,
    *audit.EVENTS,
)

register(*ALL)

__all__ = [
    "ALL",
    "CONTENT_TYPE",
    "REGISTRY",
    "Envelope",
    "Event",
    "UnknownEvent",
    "Unreadable",
    "decode",
    "encode",
    "publisher_of",
    "register",
    "schema_name",
]
