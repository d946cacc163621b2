"""Faults to order: what shall go wrong, how often, and for whom. The same seed strikes in the same places."""

import random
from typing import Annotated, Literal

import msgspec

Kind = Literal[
    "latency",  # waits `seconds` before anything is done
    "reset",  # resets the connection; nothing accepted
    "rate_limited",  # 429 with Retry-After `seconds`; nothing accepted
    "error",  # answers `status` with `code` and `title`, or a proxy's page when there is no code; nothing accepted
    "answer_lost",  # accepts, then resets the connection
    "answer_slow",  # accepts, answers after `seconds`
    "answer_error",  # accepts, answers `status` with a proxy's page
    "answer_garbled",  # accepts, answers half of its JSON
    "final_status",  # the text ends as `final_status`, with `code` and `title`
    "receipt_dropped",  # the event is never sent
    "receipt_doubled",  # sent twice
    "receipt_early",  # both receipts arrive before the answer to the POST
    "receipt_late",  # sent after `seconds`, or when told to deliver what is held back
    "receipt_reordered",  # message.finalized before message.sent
]
EventName = Literal["sent", "finalized", "received", "any"]
FinalStatus = Literal["delivered", "delivery_failed", "delivery_unconfirmed", "sending_failed", "expired"]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One order: the next ``next`` cases, else each with chance ``share``; of the named recipients, if any."""

    kind: Kind
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    next: Annotated[int, msgspec.Meta(ge=1)] | None = None
    recipients: frozenset[str] = frozenset()
    event: EventName = "any"  # which receipts; "any" is both of an outbound text
    seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    code: str | None = None
    title: str | None = None
    final_status: FinalStatus = "delivery_failed"


class Order(msgspec.Struct):
    """A fault and how often it has struck."""

    fault: Fault
    struck: int = 0


class Faults:
    """The orders in force."""

    def __init__(self, seed: int | None = None) -> None:
        self._chance = random.Random(seed)
        self._orders: dict[str, list[Order]] = {}

    @property
    def orders(self) -> list[Order]:
        """All, also those that are used up."""
        return [order for orders in self._orders.values() for order in orders]

    def add(self, *faults: Fault) -> None:
        """Order more; earlier ones stay and are asked first."""
        for fault in faults:
            self._orders.setdefault(fault.kind, []).append(Order(fault))

    def clear(self) -> None:
        """Order nothing."""
        self._orders.clear()

    def strike(self, kind: Kind, recipient: str, event: EventName = "any") -> Fault | None:
        """The fault that hits this case now; to ask is to let it happen."""
        if not self._orders:
            return None
        for order in self._orders.get(kind, ()):
            if _concerns(order.fault, recipient, event) and self._hits(order):
                order.struck += 1
                return order.fault
        return None

    def _hits(self, order: Order) -> bool:
        if order.fault.next is not None:
            return order.struck < order.fault.next
        return order.fault.share >= 1.0 or self._chance.random() < order.fault.share


def _concerns(fault: Fault, recipient: str, event: EventName) -> bool:
    if fault.recipients and recipient not in fault.recipients:
        return False
    return event == fault.event or (fault.event == "any" and event != "received")
