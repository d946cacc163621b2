"""A small world to test the bus in: a queue on a virtual host, a database, tasks that stop with the test."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import aio_pika

from koinonia import clock
from koinonia.bus import Publisher, Subscription
from koinonia.bus.consumer import Consumer
from koinonia.bus.declare import declare
from koinonia.bus.link import Link
from koinonia.bus.listener import Listener
from koinonia.db import Database, Transaction, statement
from koinonia.events import Envelope, Event, gateway
from koinonia.ids import new_id

SERVICE = "messaging"
QUEUE = "messaging.things"
QUEUES: Mapping[str, Sequence[type[Event]]] = {QUEUE: (gateway.ChurchChanged, gateway.AdminChanged)}

TABLES = """
SET ROLE koinonia_messaging_owner;
SET search_path = messaging, pg_temp;
CALL pg_temp.create_infrastructure();
CREATE TABLE effects (church_id uuid NOT NULL, event_id uuid NOT NULL, name text NOT NULL);
CALL pg_temp.protect('effects', across => true);
"""
INSERT_EFFECT = statement("effects.insert", "INSERT INTO effects (church_id, event_id, name) VALUES ($1, $2, $3)")
FETCH_EFFECTS = statement("effects.fetch", "SELECT event_id, name FROM effects ORDER BY name")
COUNT_INBOX = statement("inbox.count", "SELECT count(*) FROM inbox")
COUNT_PARKED = statement("parked.count", "SELECT count(*) FROM parked")
COUNT_OUTBOX = statement("outbox.count", "SELECT count(*) FROM outbox")


class World:
    """What a test of the bus acts on."""

    def __init__(self, amqp_url: str, database: Database) -> None:
        self.amqp_url = amqp_url
        self.database = database
        self.church_id = new_id()
        self.link = Link(amqp_url, "test consume")
        self.publishing = Link(amqp_url, "test publish")
        self.publisher = Publisher(self.publishing)
        self.consumers_publisher = Publisher(self.publishing)
        self.stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def event(self, name: str = "a", event_id: UUID | None = None) -> Envelope[Event]:
        """An event that the queue gets; ``name`` is what its handler stores."""
        changed = gateway.ChurchChanged(church_id=self.church_id, version=1, name=name, timezone="UTC", status="active")
        return Envelope(id=event_id or new_id(), time=clock.now(), data=changed, church_id=self.church_id)

    def other_event(self) -> Envelope[Event]:
        """An event that comes into the queue, but has no handler."""
        changed = gateway.AdminChanged(admin_id=new_id(), version=1, role="owner", status="active")
        return Envelope(id=new_id(), time=clock.now(), data=changed, church_id=self.church_id)

    def consumer(self, handler: Callable[..., Awaitable[None]], **options: Any) -> Consumer:
        """A consumer of the queue, not yet running."""
        times = {name: options.pop(name) for name in ("renew_seconds", "drain_seconds") if name in options}
        subscription = Subscription(QUEUE, {gateway.ChurchChanged: handler}, **options)
        return Consumer(self.link, self.consumers_publisher, self.database, subscription, **times)

    def run(self, runs: Callable[[asyncio.Event], Any]) -> None:
        """Run a consumer, relay or sweep until the test ends, or `settled`."""
        self._tasks.append(asyncio.create_task(runs(self.stopping)))

    async def effects(self) -> list[str]:
        """The names of what was applied."""
        async with self.database.across_churches() as tx:
            return [row["name"] for row in await tx.fetch(FETCH_EFFECTS)]

    async def count(self, sql: Any) -> int:
        async with self.database.across_churches() as tx:
            return int(await tx.fetch_value(sql))

    async def message_count(self, queue: str) -> int:
        """How many messages are ready in a queue."""
        channel = await self.link.channel()
        declared = await channel.declare_queue(queue, passive=True)
        await channel.close()
        return declared.declaration_result.message_count or 0

    async def settled(self) -> None:
        """Stop what runs and wait for it: all acknowledgements have left then."""
        self.stopping.set()
        await asyncio.gather(*self._tasks)

    def listen(self, wakes: Mapping[str, asyncio.Event]) -> None:
        """Let notifications of the database set events."""
        self.run(Listener(self.database, wakes).run)

    async def declare(self) -> None:
        """Make the exchanges, and the queue, as a migration does: on a connection of its own."""
        connection = await aio_pika.connect(self.amqp_url)
        async with connection, connection.channel() as channel:
            await declare(channel, QUEUES)

    async def delete_queue(self) -> None:
        """Delete the queue under its consumers."""
        connection = await aio_pika.connect(self.amqp_url)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(QUEUE)

    async def end(self) -> None:
        self.stopping.set()
        for task in self._tasks:
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(self.link.close(), self.publishing.close())


async def apply(tx: Transaction, received: Envelope[Any]) -> None:
    """The handler of most tests: one row per applied event."""
    await tx.execute(INSERT_EFFECT, received.church_id, received.id, received.data.name)
