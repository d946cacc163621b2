"""One subscription on one channel: what the broker has delivered there, and how to acknowledge it there.

The broker's callbacks only put deliveries into a buffer; work is done by tasks of the consumer, which a closing channel
does not cancel. A session is over when its channel closes, or when the broker cancels it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.link import RPC_SECONDS, Link, broker_errors, close_channel, existing_queue

log = structlog.get_logger()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the broker handed it out."""

    body: bytes
    headers: Mapping[str, Any]
    routing_key: str
    message: AbstractIncomingMessage | None = None


class Session:
    """See the module; made by ``open``."""

    def __init__(self, queue: AbstractQueue, channel: AbstractChannel) -> None:
        self.over = asyncio.Event()
        self.unacknowledged_count = 0
        self.last_delivery_at = asyncio.get_running_loop().time()
        self._queue = queue
        self._channel = channel
        self._consumer_tag = ""
        self._buffer: deque[Delivery] = deque()
        self._arrival = asyncio.Event()

    @classmethod
    async def open(cls, link: Link, queue_name: str, prefetch_count: int) -> Self:
        """Subscribe to a queue on a channel of its own.

        Raises:
            QueueMissing: there is no such queue.
            BrokerUnavailable: the broker is away.
        """
        channel = await link.channel()
        try:
            with broker_errors():
                async with asyncio.timeout(RPC_SECONDS):
                    await channel.set_qos(prefetch_count=prefetch_count)
                    queue = await existing_queue(channel, queue_name)
                    session = cls(queue, channel)
                    await session._subscribe()
                    return session
        except BaseException:
            await close_channel(channel)
            raise

    async def _subscribe(self) -> None:
        underlay = await self._channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _frame: self.end())
        self._channel.close_callbacks.add(self._on_close)
        self._consumer_tag = await self._queue.consume(self._on_message)

    def _on_close(self, _channel: object, _error: BaseException | None) -> None:
        self.end()

    def end(self) -> None:
        """Take no more of it: what is buffered will be delivered again, by this or another session."""
        self.over.set()
        self._buffer.clear()
        self._arrival.set()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        if self.over.is_set():
            return
        self.last_delivery_at = asyncio.get_running_loop().time()
        self.unacknowledged_count += 1
        self._buffer.append(
            Delivery(body=message.body, headers=message.headers, routing_key=message.routing_key or "", message=message)
        )
        self._arrival.set()

    async def take(self, limit: int, linger_seconds: float) -> list[Delivery]:
        """Wait for deliveries, then for up to ``limit`` of them or the linger; empty: the session is over."""
        if not await self._arrived():
            return []
        try:
            async with asyncio.timeout(linger_seconds):
                while len(self._buffer) < limit and await self._more_than(len(self._buffer)):
                    pass
        except TimeoutError:
            pass
        return [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]

    async def _arrived(self) -> bool:
        while not self._buffer:
            if self.over.is_set() or not await self._more_than(0):
                return False
        return True

    async def _more_than(self, count: int) -> bool:
        while len(self._buffer) <= count:
            if self.over.is_set():
                return False
            self._arrival.clear()
            await self._arrival.wait()
        return True

    async def acknowledge(self, delivery: Delivery, *, count: int = 1) -> None:
        """Tell the broker that a delivery, and with ``count`` above 1 all before it, has been dealt with.

        Where the channel is gone this does nothing: the event comes again and changes nothing.
        """
        self.unacknowledged_count -= count
        if delivery.message is None:
            return
        try:
            with broker_errors():
                async with asyncio.timeout(RPC_SECONDS):
                    await delivery.message.ack(multiple=count > 1)
        except BrokerUnavailable:
            log.info("ack_lost", queue=self._queue.name)
            self.end()

    async def stop_taking(self) -> None:
        """Ask the broker for no more; acknowledging still works."""
        already_over = self.over.is_set()
        self.end()
        if already_over:
            return
        try:
            with broker_errors():
                async with asyncio.timeout(RPC_SECONDS):
                    await self._queue.cancel(self._consumer_tag)
        except BrokerUnavailable:
            log.info("cancel_lost", queue=self._queue.name)

    async def close(self) -> None:
        """Close the channel; the broker delivers again what was not acknowledged."""
        self.end()
        await close_channel(self._channel)
