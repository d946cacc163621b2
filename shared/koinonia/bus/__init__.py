"""The bus: events out by the outbox, in by queues, each applied once.

``docs/bus.md`` tells what holds when things break.
"""

from koinonia.bus.bus import Bus
from koinonia.bus.errors import BrokerUnavailable, FactMissing, NotConfirmed, Unreadable, Unroutable
from koinonia.bus.publisher import Outgoing, Publisher
from koinonia.bus.subscription import Subscription

__all__ = [
    "BrokerUnavailable",
    "Bus",
    "FactMissing",
    "NotConfirmed",
    "Outgoing",
    "Publisher",
    "Subscription",
    "Unreadable",
    "Unroutable",
]
