"""Publishing with confirms: what returns without an error lies on the disks of the broker's queues.

Messages are persistent and ``mandatory``. One that no queue is bound for comes back as ``Unroutable``: so there is no
alternate exchange, which would take it, confirm it, and leave the outbox believing that it had arrived.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError

from koinonia import metrics
from koinonia.bus.errors import BrokerUnavailable, ChannelLost, NotConfirmed, Unroutable
from koinonia.bus.link import Link, broker_errors, close_channel
from koinonia.bus.topology import EXCHANGE
from koinonia.events import CONTENT_TYPE, Envelope, encode

log = structlog.get_logger()

PUBLISH_SECONDS = 5.0
EVENT_ID_HEADER = "koinonia-event-id"


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to an exchange."""

    routing_key: str
    body: bytes
    exchange: str = EXCHANGE
    headers: Mapping[str, Any] = {}

    @classmethod
    def event(cls, envelope: Envelope[Any]) -> "Outgoing":
        """An event, to whoever subscribes to its type."""
        return cls(routing_key=envelope.type, body=encode(envelope), headers={EVENT_ID_HEADER: str(envelope.id)})


class Publisher:
    """Publishes on a connection of its own, so that a broker that blocks publishers does not stop the consumers."""

    def __init__(self, link: Link, *, timeout_seconds: float = PUBLISH_SECONDS) -> None:
        self._link = link
        self._timeout_seconds = timeout_seconds
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self.last_confirm_at: float | None = None  # the event loop's clock

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return when the broker has stored all of them; on an error, any of them may have been stored.

        Raises:
            BrokerUnavailable: no confirm came; the messages may arrive nevertheless, so consumers must bear repeats.
            Unroutable: no queue is bound for one.
            NotConfirmed: the broker refused one, or closed the channel over it.
        """
        for outcome in await self.publish_each(messages):
            if outcome is not None:
                raise outcome

    async def publish_events(self, *envelopes: Envelope[Any]) -> None:
        """As ``publish``, for events."""
        await self.publish([Outgoing.event(envelope) for envelope in envelopes])

    async def publish_each(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """Publish them together and tell of each, in order: None when confirmed, else the error of ``publish``.

        Raises:
            BrokerUnavailable: nothing was sent.
        """
        channel = await self._open_channel()
        sending = (self._send(channel, message) for message in messages)
        outcomes = await asyncio.gather(*sending)
        if any(isinstance(outcome, ChannelLost) for outcome in outcomes):
            outcomes = await self._tell_apart(messages, outcomes)
        elif any(isinstance(outcome, BrokerUnavailable) for outcome in outcomes):
            await self._doubt(channel)
        self._count(messages, outcomes)
        return outcomes

    async def _tell_apart(
        self, messages: Sequence[Outgoing], outcomes: Sequence[Exception | None]
    ) -> list[Exception | None]:
        """The broker closed the channel over one message, and took the others' confirms with it: each goes alone.

        On another connection: the broker closes this one too when it gets what was on its way to the lost channel.
        """
        log.warning("publish_channel_lost", messages=len(messages))
        self._channel = None
        self._link.drop()
        told = list(outcomes)
        for place, outcome in enumerate(outcomes):
            if isinstance(outcome, BrokerUnavailable):
                told[place] = await self._send_alone(messages[place])
                if isinstance(told[place], BrokerUnavailable):
                    break  # now the broker itself is away
        return told

    async def _send_alone(self, message: Outgoing) -> Exception | None:
        """Publish on a channel of its own: if the broker closes that one, it is for this message."""
        try:
            channel = await self._link.channel(confirms=True)
        except BrokerUnavailable as error:
            return error
        try:
            outcome = await self._send(channel, message)
        finally:
            await close_channel(channel)
        return NotConfirmed(outcome.message) if isinstance(outcome, ChannelLost) else outcome

    def _count(self, messages: Sequence[Outgoing], outcomes: Sequence[Exception | None]) -> None:
        confirmed = [message for message, outcome in zip(messages, outcomes, strict=True) if outcome is None]
        if confirmed:
            self.last_confirm_at = asyncio.get_running_loop().time()
        events = Counter(message.routing_key for message in confirmed if message.exchange == EXCHANGE)
        for event_type, count in events.items():
            metrics.published_total.add(count, {"type": event_type})

    async def _open_channel(self) -> AbstractChannel:
        # A blocked broker would take the message later all the same, once for every try: so not even one is sent.
        if await self._link.is_blocked():
            raise BrokerUnavailable("the broker takes no messages now", retry_after_seconds=1)
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.channel(confirms=True)
            return self._channel

    async def _send(self, channel: AbstractChannel, outgoing: Outgoing) -> Exception | None:
        # A fresh message id per try: aiormq finds the publish that a return belongs to by it.
        message = Message(
            outgoing.body,
            headers=dict(outgoing.headers),
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        exchange = await channel.get_exchange(outgoing.exchange, ensure=False)
        try:
            with broker_errors():
                return await self._confirmed(
                    exchange.publish(message, outgoing.routing_key, timeout=self._timeout_seconds)
                )
        except BrokerUnavailable as error:
            return error

    async def _confirmed(self, publish: Any) -> Exception | None:
        try:
            await publish
        except PublishError:
            return Unroutable("no queue is bound for this message")
        except DeliveryError:
            return NotConfirmed("the broker refused the message")
        return None

    async def _doubt(self, channel: AbstractChannel) -> None:
        """After a missing confirm: wait out a block on this connection, but leave one that is merely silent."""
        blocked = await self._link.is_blocked()
        log.warning("publish_unconfirmed", blocked=blocked)
        if not blocked and self._channel is channel:
            self._channel = None
            self._link.drop()
