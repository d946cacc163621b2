"""What can go wrong between a service and its broker or its events."""

from koinonia.errors import DependencyUnavailable, Outspoken
from koinonia.events import UnknownEvent, Unreadable


class BrokerUnavailable(DependencyUnavailable):
    """The broker does not answer, does not take messages now, or has lost the connection."""


class ChannelLost(BrokerUnavailable):
    """The broker closed the channel over something that was asked on it; the connection lives."""


class QueueMissing(BrokerUnavailable):
    """The queue does not exist: migrations make it."""


class Unroutable(DependencyUnavailable):
    """No queue is bound for this message: the topology lacks a queue or a binding, until an operator makes it."""


class NotConfirmed(DependencyUnavailable):
    """The broker has refused to store this message; it may take it later."""


class FactMissing(Outspoken):
    """An event needs a fact that is not here yet; it is parked until the fact is released or the sweep finds it.

    ``fact_key`` names the fact, as ``church:<id>``; ids only.
    """

    def __init__(self, fact_key: str) -> None:
        self.fact_key = fact_key
        super().__init__(fact_key)


__all__ = [
    "BrokerUnavailable",
    "ChannelLost",
    "FactMissing",
    "NotConfirmed",
    "QueueMissing",
    "UnknownEvent",
    "Unreadable",
    "Unroutable",
]
