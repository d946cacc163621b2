"""An ear on the bus, and a mouth that says again what was heard: under the same id, or under a new one."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Self
from uuid import UUID

import aio_pika
import msgspec
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError

from koinonia.bus.publisher import EVENT_ID_HEADER
from koinonia.bus.topology import EXCHANGE
from koinonia.events import CONTENT_TYPE
from koinonia.ids import new_id

_AWAY = (AMQPError, ConnectionError, OSError, TimeoutError, RuntimeError)


class Heard(msgspec.Struct, frozen=True):
    """An event as it travelled; ``body`` is all of it."""

    id: UUID
    type: str
    churchid: UUID | None = None


class Ear:
    """Hears every event through a queue of its own, but for the seconds in which the broker is away.

    It counts how often each event was published: more than once is what a relay that dies between publish and confirm
    leaves behind.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listening: asyncio.Task[None] | None = None
        self._hears = asyncio.Event()
        self.times: Counter[UUID] = Counter()
        self.said: Counter[UUID] = Counter()  # by ourselves
        self.bodies: dict[UUID, bytes] = {}
        self.types: dict[UUID, str] = {}

    async def __aenter__(self) -> Self:
        self._listening = asyncio.create_task(self._listen())
        await self._hears.wait()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def of(self, event_type: str) -> list[UUID]:
        """The events of a type that were heard."""
        return [event_id for event_id, heard in self.types.items() if heard == event_type]

    def published_again(self) -> list[UUID]:
        """Events that the platform published more than once."""
        return [event_id for event_id, times in self.times.items() if times - self.said[event_id] > 1]

    async def say_again(self, *event_ids: UUID) -> None:
        """Publish events as they were."""
        self.said.update(event_ids)
        await self._publish([(self.types[each], each, self.bodies[each]) for each in event_ids])

    async def say_anew(self, event_id: UUID) -> UUID:
        """Publish an event's data under a new id; the id."""
        fresh = new_id()
        event = msgspec.json.decode(self.bodies[event_id])
        self.said[fresh] += 1
        await self._publish([(self.types[event_id], fresh, msgspec.json.encode({**event, "id": str(fresh)}))])
        return fresh

    async def _publish(self, events: list[tuple[str, UUID, bytes]]) -> None:
        """With confirms; while the broker is away, again: whoever hears it must bear repeats."""
        while True:
            with suppress(*_AWAY):
                async with await aio_pika.connect(self._url, timeout=5) as connection:
                    exchange = await (await connection.channel()).get_exchange(EXCHANGE, ensure=False)
                    for event_type, event_id, body in events:
                        headers = {EVENT_ID_HEADER: str(event_id)}
                        message = aio_pika.Message(body, headers=dict(headers), content_type=CONTENT_TYPE)
                        message.delivery_mode = aio_pika.DeliveryMode.PERSISTENT
                        await exchange.publish(message, event_type, timeout=5)
                return
            await asyncio.sleep(0.2)

    async def _listen(self) -> None:
        while True:
            with suppress(*_AWAY):
                async with await aio_pika.connect(self._url, timeout=5) as connection:
                    channel = await connection.channel()
                    queue = await channel.declare_queue(exclusive=True)
                    await queue.bind(EXCHANGE, "#")
                    await queue.consume(self._note, no_ack=True)
                    self._hears.set()
                    await connection.closed()
            await asyncio.sleep(0.1)

    async def _note(self, message: AbstractIncomingMessage) -> None:
        event = msgspec.json.decode(message.body, type=Heard)
        self.times[event.id] += 1
        self.bodies[event.id] = message.body
        self.types[event.id] = event.type
