"""What a service reacts to: a queue, and the handler of each event type in it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass

from koinonia.events import Event

Handler = Callable[..., Awaitable[None]]
"""``async def handle(tx, received)``: ``received`` is an envelope, or a sequence of them where ``batch`` is above 1."""


@dataclass(frozen=True)
class Subscription:
    """A queue and what to do with its events. Nothing happens until ``Bus.consume`` is given it."""

    queue: str
    handlers: Mapping[type[Event], Handler]
    _: KW_ONLY
    batch: int = 1  # above 1: up to so many events in one transaction, which is across churches
    linger_seconds: float = 0.0  # how long a batch waits to be filled
    across: bool = False  # the transaction is across churches, not the event's church's
    inbox: bool = True  # False: the handler itself makes a repeated event harmless
    prefetch: int = 4  # events handled at once, where batch is 1; with 1 they are handled in the queue's order

    @property
    def workers(self) -> int:
        """How many transactions run at once."""
        return 1 if self.batch > 1 else self.prefetch

    @property
    def prefetch_count(self) -> int:
        """How many events the broker may hand out ahead of their acknowledgement.

        No more than are handled at once, since a closing channel counts a delivery for each of them; a batch fills
        while the one before it is applied.
        """
        return 2 * self.batch if self.batch > 1 else self.prefetch
