"""Webhooks on their way out: signed, two seconds to answer, three attempts per URL with backoff, then the failover URL.

A bounded number of workers share kept connections. An event waits as a reference to its text; its body is made,
and signed anew, at each attempt.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import uuid_utils

from koinonia import clock
from koinonia.carrier.simulated import payloads
from koinonia.carrier.simulated.poster import Poster
from koinonia.carrier.simulated.record import InboundText, Status, Text
from koinonia.carrier.simulated.settings import Behaviour
from koinonia.carrier.webhooks import Signer

ATTEMPTS_PER_URL = 3
FINALIZED = "message.finalized"


class Event(msgspec.Struct, kw_only=True, gc=False):
    """Something to tell; the same event has the same id in every attempt and copy."""

    type: str
    subject: Text | InboundText
    status: Status | None  # that the text had then; None of an inbound one
    occurred_at: datetime
    id: str = msgspec.field(default_factory=lambda: str(uuid_utils.uuid4()))
    attempt: int = 1


class DeliveryFigures(msgspec.Struct):
    """What became of the webhooks."""

    delivered: int = 0
    failed_attempts: int = 0
    gave_up: int = 0
    held: int = 0
    pending: int = 0  # queued, waiting for their time or for another attempt


class Deliveries:
    """Sends events; started and closed with the server."""

    def __init__(self, signer: Signer, behaviour: Callable[[], Behaviour], concurrency: int) -> None:
        self.figures = DeliveryFigures()
        self._signer = signer
        self._behaviour = behaviour
        self._concurrency = concurrency
        self._queue: asyncio.Queue[Sequence[Event]] = asyncio.Queue()
        self._held: list[Event] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers: list[asyncio.Task[None]] = []
        self._poster = Poster({"User-Agent": "telnyx-webhooks", "Content-Type": "application/json"})

    async def start(self) -> None:
        """Set the workers to work."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]

    async def close(self) -> None:
        """Stop; what is undelivered is lost with the program."""
        self.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._poster.close()

    def send(self, events: Sequence[Event]) -> None:
        """Send events, one after the other's first attempt."""
        if events:
            self._count(len(events))
            self._queue.put_nowait(events)

    async def send_now(self, events: Sequence[Event]) -> None:
        """Send events and wait for their first attempts."""
        self._count(len(events))
        for event in events:
            await self._attempt(event)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in some seconds, unless all is cleared before."""

        def run() -> None:
            self._timers.discard(timer)
            action()
            self._count(-1)

        self._count(1)
        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def hold(self, event: Event) -> None:
        """Keep an event until `release`."""
        self._held.append(event)
        self.figures.held = len(self._held)

    def release(self) -> int:
        """Send all that is held; how many."""
        held, self._held = self._held, []
        self.figures.held = 0
        for event in held:
            self.send((event,))
        return len(held)

    def clear(self) -> None:
        """Forget what waits; attempts that run are finished."""
        for timer in self._timers:
            timer.cancel()
        self._count(-len(self._timers))
        self._timers.clear()
        while not self._queue.empty():
            self._count(-len(self._queue.get_nowait()))
        self._held.clear()
        running = self.figures.pending
        self.figures = DeliveryFigures(pending=running)

    async def settled(self) -> None:
        """Wait until nothing but held events is under way."""
        await self._idle.wait()

    def _count(self, change: int) -> None:
        self.figures.pending += change
        if self.figures.pending:
            self._idle.clear()
        else:
            self._idle.set()

    async def _work(self) -> None:
        while True:
            for event in await self._queue.get():
                await self._attempt(event)

    async def _attempt(self, event: Event) -> None:
        try:
            if await self._post(event):
                self.figures.delivered += 1
                _note_heard(event)
            else:
                self.figures.failed_attempts += 1
                self._try_again(event)
        finally:
            self._count(-1)

    def _try_again(self, event: Event) -> None:
        backoff = self._behaviour().webhook_backoff_seconds * 2.0 ** ((event.attempt - 1) % ATTEMPTS_PER_URL)
        event.attempt += 1
        if _url_for(event) is None:
            self.figures.gave_up += 1
        else:
            self.later(backoff, lambda: self.send((event,)))

    async def _post(self, event: Event) -> bool:
        """One attempt: whether it was answered with 2xx in time."""
        url = _url_for(event)
        if url is None:
            return False
        body = _body(event, url)
        _note_told(event)
        try:
            async with asyncio.timeout(self._behaviour().webhook_timeout_seconds):
                return 200 <= await self._poster.post(url, self._signer.headers(body), body) < 300
        except (OSError, ValueError):  # no answer, or none in time; ValueError: not a URL
            return False


def _note_told(event: Event) -> None:
    subject = event.subject
    if event.type == FINALIZED and isinstance(subject, Text) and subject.told_at is None:
        subject.told_at = clock.now()


def _note_heard(event: Event) -> None:
    subject = event.subject
    if isinstance(subject, Text) and event.status is not None:
        subject.heard = (*subject.heard, event.status)
        if event.type == FINALIZED and subject.heard_at is None:
            subject.heard_at = clock.now()


def _url_for(event: Event) -> str | None:
    """The URL of this attempt; None when all were tried."""
    place = (event.attempt - 1) // ATTEMPTS_PER_URL
    urls = event.subject.webhook_urls
    return urls[place] if place < len(urls) else None


def _body(event: Event, url: str) -> bytes:
    subject = event.subject
    payload = (
        payloads.inbound(subject)
        if isinstance(subject, InboundText)
        else payloads.outbound(subject, event.status or subject.status)
    )
    data = {
        "event_type": event.type,
        "id": event.id,
        "occurred_at": payloads.moment(event.occurred_at),
        "payload": payload,
        "record_type": "event",
    }
    return msgspec.json.encode({"data": data, "meta": {"attempt": event.attempt, "delivered_to": url}})
