"""Dead letters, for an operator: list them, read them, give them back to their queue, or drop them.

They lie in the broker, in ``<queue>.dead``, with the story of their failing in their headers. Looking at them takes
them out and puts them back, which a dead queue allows any number of times.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from koinonia import clock
from koinonia.bus import failures
from koinonia.bus.declare import dead_queue
from koinonia.bus.errors import QueueMissing
from koinonia.bus.inbox import INBOX_DAYS
from koinonia.bus.link import RPC_SECONDS, Link, broker_errors, close_channel, existing_queue
from koinonia.bus.publisher import EVENT_ID_HEADER, Outgoing, Publisher
from koinonia.bus.topology import QUEUES
from koinonia.errors import Conflict

REPLAYABLE_DAYS = INBOX_DAYS - 1


class LetterTooOld(Conflict):
    """This dead letter is too old to be replayed."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that could not be handled, and why."""

    id: str  # the event's; a message without one has the broker message's
    queue: str
    routing_key: str  # as it was published: the event type
    reason: str
    stack: str  # a line per frame: file:line function
    attempts: int
    first_error: str | None
    first_failed_at: datetime | None
    died_at: datetime | None
    body: bytes


async def count(link: Link, queues: Sequence[str] = tuple(QUEUES)) -> dict[str, int]:
    """How many dead letters each queue has; queues that do not exist have none.

    Raises:
        BrokerUnavailable: the broker is away.
    """
    counts = {}
    for name in queues:
        async with _channel(link) as channel:
            try:
                dead = await existing_queue(channel, dead_queue(name))
            except QueueMissing:
                counts[name] = 0
            else:
                counts[name] = dead.declaration_result.message_count or 0
    return counts


async def show(link: Link, queue: str, letter_id: str | None = None) -> list[DeadLetter]:
    """Read a queue's dead letters, the oldest first; they stay."""
    found: list[DeadLetter] = []
    async with _channel(link) as channel:
        dead = await existing_queue(channel, dead_queue(queue))
        async for message in _each(dead):
            letter = _read(queue, message)
            if letter_id in (None, letter.id):
                found.append(letter)
    return found  # the closing channel has put them back


async def replay(link: Link, publisher: Publisher, queue: str, letter_id: str | None = None) -> int:
    """Give dead letters back to their own queue, as if they came for the first time; returns how many.

    Each is in the queue before it leaves the dead letters. One that is replayed twice is applied once, by the inbox.

    Raises:
        LetterTooOld: some died so long ago that the inbox may have forgotten their events; they stay, others are back.
    """
    too_old: list[str] = []
    since = clock.now() - timedelta(days=REPLAYABLE_DAYS)

    async def give_back(letter: DeadLetter) -> bool:
        if letter.died_at is not None and letter.died_at < since:
            too_old.append(letter.id)
            return False
        headers = {EVENT_ID_HEADER: letter.id}
        await publisher.publish([Outgoing(exchange="", routing_key=queue, body=letter.body, headers=headers)])
        return True

    count = await _take_out(link, queue, letter_id, give_back)
    if too_old:
        raise LetterTooOld(
            f"{queue}: {', '.join(too_old)} died more than {REPLAYABLE_DAYS} days ago and might be applied twice: "
            f"not replayed ({count} others were)"
        )
    return count


async def purge(link: Link, queue: str, letter_id: str | None = None) -> int:
    """Drop dead letters for good; returns how many."""

    async def drop(_letter: DeadLetter) -> bool:
        return True

    return await _take_out(link, queue, letter_id, drop)


async def _take_out(link: Link, queue: str, letter_id: str | None, act: Callable[[DeadLetter], Awaitable[bool]]) -> int:
    """Hand letters to ``act``, which says whether they leave; returns how many did."""
    taken = 0
    async with _channel(link) as channel:
        dead = await existing_queue(channel, dead_queue(queue))
        async for message in _each(dead):
            letter = _read(queue, message)
            if letter_id in (None, letter.id) and await act(letter):
                with broker_errors():
                    await message.ack()
                taken += 1
    return taken


@asynccontextmanager
async def _channel(link: Link) -> AsyncIterator[AbstractChannel]:
    channel = await link.channel()
    try:
        yield channel
    finally:
        await close_channel(channel)


async def _each(dead: AbstractQueue) -> AsyncIterator[AbstractIncomingMessage]:
    """The messages that are there now, unacknowledged: what its caller does not ack goes back with the channel."""
    for _ in range(dead.declaration_result.message_count or 0):
        with broker_errors():
            message = await dead.get(fail=False, timeout=RPC_SECONDS)
        if message is None:
            return
        yield message


def _read(queue: str, message: AbstractIncomingMessage) -> DeadLetter:
    headers = message.headers
    return DeadLetter(
        id=str(headers.get(EVENT_ID_HEADER) or message.message_id),
        queue=queue,
        routing_key=str(headers.get(failures.ROUTING_KEY) or message.routing_key),
        reason=str(headers.get(failures.REASON) or _reason_of_broker(headers)),
        stack=str(headers.get(failures.STACK) or ""),
        attempts=failures.attempt_of(headers),
        first_error=_text(headers.get(failures.FIRST_ERROR)),
        first_failed_at=_time(headers.get(failures.FIRST_FAILED_AT)),
        died_at=_time(headers.get(failures.DIED_AT)) or _buried_by_broker_at(headers),
        body=message.body,
    )


def _buried_by_broker_at(headers: Mapping[str, Any]) -> datetime | None:
    """When the broker itself buried a message, the last time."""
    deaths = [death.get("time") for death in headers.get("x-death") or []]
    return max((time for time in deaths if isinstance(time, datetime)), default=None)


def _reason_of_broker(headers: Mapping[str, Any]) -> str:
    """Why the broker itself buried a message: ``delivery_limit`` for one whose consumers kept dying."""
    return f"broker: {headers.get('x-first-death-reason', 'unknown')}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None
