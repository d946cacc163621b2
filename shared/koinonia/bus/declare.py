"""Making the exchanges and queues; run by ``koinonia migrate``. Services only look whether their queues are there.

::

    koinonia.events (topic) ──type──→ <queue> ──delivery limit──→ koinonia.dead (topic) ──queue──→ <queue>.dead
                                         ↑                              ↑ given up, with the reason
                      default exchange   │                              │
    koinonia.delay.2s (topic) ──#──→ koinonia.delay.2s (expires) ───────┘ the consumer publishes here and there

All queues are quorum queues. The delays and the dead letters have topic exchanges, so that a broker user can be held to
routing keys, which are names of queues.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from koinonia.bus.topology import EXCHANGE, QUEUES
from koinonia.events import Event

DEAD_EXCHANGE = "koinonia.dead"
DELAY_SECONDS = (1, 2, 4)
DELIVERY_LIMIT = 100  # a backstop for what kills its consumer each time: prefetched neighbours are counted too

IN_ORDER = frozenset({"delivery.holds"})
"""Queues that one consumer at a time takes, over all replicas: there a marker proves what was before it."""

_QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
# A message leaves its queue only when the next one has confirmed it. RabbitMQ asks for reject-publish with it.
_AT_LEAST_ONCE: dict[str, Any] = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


def delay_exchange(seconds: int) -> str:
    """The exchange, and queue, that holds a message back for so long."""
    return f"koinonia.delay.{seconds}s"


def dead_queue(queue: str) -> str:
    """Where a queue's dead letters lie."""
    return f"{queue}.dead"


async def declare(channel: AbstractChannel, queues: Mapping[str, Sequence[type[Event]]] = QUEUES) -> None:
    """Make all that is missing, on a channel of its own. What is there already stays, with its messages.

    Raises:
        ChannelPreconditionFailed: something is there with other arguments; a queue's arguments never change in place.
    """
    events = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
    dead = await channel.declare_exchange(DEAD_EXCHANGE, ExchangeType.TOPIC, durable=True)
    for seconds in DELAY_SECONDS:
        await _declare_delay(channel, seconds)
    underlay = await channel.get_underlay_channel()
    dead_arguments = dead_queue_arguments(underlay.connection.server_properties)
    for name, types in queues.items():
        letters = await channel.declare_queue(dead_queue(name), durable=True, arguments=dead_arguments)
        await letters.bind(dead, name)
        queue = await channel.declare_queue(name, durable=True, arguments=_queue_arguments(name))
        for event_type in types:
            await queue.bind(events, event_type.TYPE)


async def _declare_delay(channel: AbstractChannel, seconds: int) -> None:
    name = delay_exchange(seconds)
    exchange = await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
    # To the default exchange, under the routing key it came with: the name of the queue it goes back to.
    arguments = _QUORUM | _AT_LEAST_ONCE | {"x-message-ttl": seconds * 1000, "x-dead-letter-exchange": ""}
    queue = await channel.declare_queue(name, durable=True, arguments=arguments)
    await queue.bind(exchange, "#")


def dead_queue_arguments(server_properties: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a dead queue: no delivery limit, since looking at a letter is a delivery.

    RabbitMQ has none for quorum queues before version 4, and refuses to be told so; from 4 on it has 20.
    """
    major = str(server_properties.get("version", "")).partition(".")[0]
    unlimited = {"x-delivery-limit": -1} if major.isdigit() and int(major) >= 4 else {}
    return _QUORUM | unlimited


def _queue_arguments(name: str) -> dict[str, Any]:
    return (
        _QUORUM
        | _AT_LEAST_ONCE
        | ({"x-single-active-consumer": True} if name in IN_ORDER else {})
        | {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_EXCHANGE,
            "x-dead-letter-routing-key": name,
        }
    )
