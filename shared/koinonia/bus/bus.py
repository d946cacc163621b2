"""A process's part in the bus: two connections, a publisher, and what it consumes."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from koinonia.bus import outbox, parking
from koinonia.bus.consumer import DRAIN_SECONDS, Consumer
from koinonia.bus.depths import Depths
from koinonia.bus.link import Link, Outage, close_channel
from koinonia.bus.listener import Listener
from koinonia.bus.publisher import Publisher
from koinonia.bus.relay import Relay
from koinonia.bus.subscription import Subscription
from koinonia.bus.topology import queues_of
from koinonia.db import Database
from koinonia.life import Life

Task = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


class Bus:
    """Two connections: a broker that is short of memory stops reading publishers, and acks must not wait with them."""

    def __init__(self, amqp_url: str, name: str) -> None:
        outage = Outage()
        self._publishing = Link(amqp_url, f"{name} publish", outage)
        self._consuming = Link(amqp_url, f"{name} consume", outage)
        self._pinging: asyncio.Task[None] | None = None
        self.publisher = Publisher(self._publishing)

    @classmethod
    def open(cls, amqp_url: str, name: str) -> "Bus":
        """Nothing is connected yet: a broker that is away keeps no process from starting."""
        return cls(amqp_url, name)

    async def ping(self) -> None:
        """Raise ``BrokerUnavailable`` unless the broker answers.

        One that is cut off ends by itself: aiormq closes a channel whose call is cancelled, one that is being closed a
        second time, and for that the broker closes the connection, with all consumers on it.
        """
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping())
        await asyncio.shield(self._pinging)

    async def _ping(self) -> None:
        await close_channel(await self._consuming.channel())

    def consume(
        self,
        database: Database,
        subscriptions: Sequence[Subscription],
        life: Life,
        *,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        """Start everything that moves events: a consumer per subscription, the sweep, the relay, the listener.

        Each runs in a task of ``life`` and stops by itself when the process does; a bug in one ends the process.
        ``drain_seconds`` is how long a stopping consumer may take to finish what it has in hand.
        """
        consumers = [
            Consumer(self._consuming, self.publisher, database, each, drain_seconds=drain_seconds)
            for each in subscriptions
        ]
        relay = Relay(database, self.publisher)
        sweep = parking.Sweep(database, self.publisher, [consumer.applier for consumer in consumers])
        wakes = {outbox.channel_of(database.service): relay.woken, parking.channel_of(database.service): sweep.woken}
        tasks: dict[str, Task] = {f"consume {each.queue}": each.run for each in consumers}
        # Of queues that nobody takes from yet, too: what waits there is to be seen.
        depths = Depths(self._consuming, queues_of(database.service))
        tasks |= {"sweep": sweep.run, "queue depths": depths.run} if consumers else {}
        tasks |= {"relay": relay.run, "outbox lag": relay.watch_lag, "listen": Listener(database, wakes).run}
        for name, run in tasks.items():
            life.spawn(name, run(life.stopping))

    async def close(self) -> None:
        """Close both connections; what was not acknowledged is delivered again."""
        await asyncio.gather(self._publishing.close(), self._consuming.close())
        if self._pinging is not None:
            await asyncio.gather(self._pinging, return_exceptions=True)
