"""What the carrier told us, on its way to the bus: safe before it is answered.

Whatever waits while the last publish is unconfirmed goes together, up to a hundred, without a timer. While the broker
does not confirm in time it goes into the outbox instead. What was published and is stored there too arrives twice:
receipts apply by rank, and an inbound text keeps its event's id.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from koinonia import clock
from koinonia.bus import Outgoing, Publisher, outbox
from koinonia.db import Database
from koinonia.errors import DependencyUnavailable, is_transient
from koinonia.events import Envelope, Event
from koinonia.events.carrier import RECEIPT_BATCH_SIZE, Receipt, StatusReceived
from koinonia.ids import new_id

log = structlog.get_logger()

CONFIRM_SECONDS = 0.8  # the carrier waits two, and the outbox has to fit in
SERVICE = "gateway"


@dataclass(slots=True)
class _Waiting:
    what: Receipt | Envelope[Event]
    safe: "asyncio.Future[None]"


class Intake:
    """Takes in receipts and inbound texts."""

    def __init__(self, database: Database, publisher: Publisher, *, confirm_seconds: float = CONFIRM_SECONDS) -> None:
        self._database = database
        self._publisher = publisher
        self._confirm_seconds = confirm_seconds
        self._waiting: deque[_Waiting] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._silent: asyncio.Task[None] | None = None  # a publish that the broker did not confirm in time

    async def take(self, what: Receipt | Envelope[Event]) -> None:
        """Return once it is safe.

        Raises:
            DependencyUnavailable: neither the broker nor the database takes it.
        """
        waiting = _Waiting(what, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run(), name="intake")
        await waiting.safe

    async def close(self) -> None:
        """Wait for what is under way."""
        for task in (self._pump, self._silent):
            if task is not None:
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            count = min(RECEIPT_BATCH_SIZE, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                await self._deliver(_events(batch))
            except Exception as error:
                if not is_transient(error):
                    log.error("intake_failed", exc_info=error)
                for each in batch:
                    each.safe.set_exception(DependencyUnavailable())
            else:
                for each in batch:
                    each.safe.set_result(None)

    async def _deliver(self, events: list[Envelope[Event]]) -> None:
        if not await self._publish(events):
            async with self._database.across_churches(timeout_seconds=1.0) as tx:
                await outbox.add_envelopes(tx, *events)
            log.warning("intake_stored", events=len(events))

    async def _publish(self, events: list[Envelope[Event]]) -> bool:
        """Whether the broker has confirmed all of them in time."""
        if self._silent is not None and not self._silent.done():
            return False
        publish = asyncio.create_task(self._publisher.publish([Outgoing.event(event) for event in events]))
        done, _ = await asyncio.wait({publish}, timeout=self._confirm_seconds)
        if not done:
            # Not cancelled: its confirm may still come, and tells that the broker is back.
            self._silent = publish
            publish.add_done_callback(_look_at)
            return False
        error = publish.exception()
        if error is None:
            return True
        if not is_transient(error):
            raise error
        log.warning("intake_not_confirmed", reason=type(error).__name__)
        return False


def _look_at(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("intake_not_confirmed", reason=type(error).__name__)


def _events(batch: list[_Waiting]) -> list[Envelope[Event]]:
    """One event for all receipts, and each text's own."""
    receipts = tuple(each.what for each in batch if isinstance(each.what, Receipt))
    events = [each.what for each in batch if not isinstance(each.what, Receipt)]
    if receipts:
        events.append(
            Envelope(
                id=new_id(),
                time=clock.now(),
                data=StatusReceived(receipts=receipts),
                traceparent=receipts[0].traceparent,
                service=SERVICE,
            )
        )
    return events
