"""How much waits in a service's queues and in their dead letters, for the metrics."""

import asyncio
from collections.abc import Sequence

import structlog

from koinonia import metrics
from koinonia.bus.declare import dead_queue
from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.link import Link, close_channel, existing_queue
from koinonia.bus.waiting import first

log = structlog.get_logger()

MEASURE_SECONDS = 15.0


class Depths:
    """Asks the broker for the lengths of queues, now and then."""

    def __init__(self, link: Link, queues: Sequence[str]) -> None:
        self._link = link
        self._queues = [name for queue in queues for name in (queue, dead_queue(queue))]

    async def run(self, stopping: asyncio.Event) -> None:
        """Measure until told to stop; a broker that is away is measured later."""
        while not stopping.is_set():
            try:
                await self.measure()
            except BrokerUnavailable as error:
                log.info("queues_not_measured", reason=type(error).__name__)
            await first(stopping, timeout_seconds=MEASURE_SECONDS)

    async def measure(self) -> None:
        """Record the length of each queue once.

        Raises:
            BrokerUnavailable: the broker does not answer, or a queue is gone.
        """
        channel = await self._link.channel()
        try:
            for name in self._queues:
                queue = await existing_queue(channel, name)
                metrics.queue_messages.set(queue.declaration_result.message_count or 0, {"queue": name})
        finally:
            await close_channel(channel)
