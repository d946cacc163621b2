"""Consuming a queue: take, apply, acknowledge, and what to do when one of these fails.

| what happens | what the consumer does |
|---|---|
| the database, or the broker for a retry, is away | holds the delivery until it answers, tries again; no retry spent |
| the event's fact is not here yet (``FactMissing``) | parks it, acknowledges |
| the event cannot be read, or lacks its church | dead letter at once |
| its handler fails otherwise, or its type is not known here | delayed retries, then dead letter |
| a batch fails | each of its events by itself |
| the channel is lost | finishes what it does, cannot acknowledge it, gets it again, changes nothing |
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from koinonia.bus import failures, parking
from koinonia.bus.applying import Applier
from koinonia.bus.errors import BrokerUnavailable, FactMissing, QueueMissing, UnknownEvent, Unreadable
from koinonia.bus.link import Link
from koinonia.bus.publisher import Publisher
from koinonia.bus.session import Delivery, Session
from koinonia.bus.subscription import Subscription
from koinonia.bus.waiting import backoff_seconds, first
from koinonia.db import Database, statement
from koinonia.errors import DependencyUnavailable, is_transient
from koinonia.events import Envelope, decode

log = structlog.get_logger()

RENEW_SECONDS = 30.0
DRAIN_SECONDS = 10.0
TRANSIENT_TRIES = 5  # of one event, while the database answers between them; then it is the event's own failing


class Consumer:
    """Consumes one queue until told to stop."""

    def __init__(
        self,
        link: Link,
        publisher: Publisher,
        database: Database,
        subscription: Subscription,
        *,
        renew_seconds: float = RENEW_SECONDS,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self.applier = Applier(database, subscription)
        self._link = link
        self._publisher = publisher
        self._database = database
        self._subscription = subscription
        self.queue = subscription.queue
        self._renew_seconds = renew_seconds
        self._drain_seconds = drain_seconds

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until ``stopping`` is set, then finish what is in hand; a lost broker is waited for."""
        failed_tries = 0
        while not stopping.is_set():
            try:
                session = await Session.open(self._link, self.queue, self._subscription.prefetch_count)
            except BrokerUnavailable as error:
                failed_tries += 1
                # That the broker is away is told by the link, once for all who wait for it.
                level = log.error if isinstance(error, QueueMissing) else log.debug
                level("consumer_waits", queue=self.queue, reason=str(error), tries=failed_tries)
                await first(stopping, timeout_seconds=backoff_seconds(failed_tries))
                continue
            if failed_tries:
                log.debug("consumer_resumes", queue=self.queue, tries=failed_tries)
            failed_tries = 0
            await self._serve(session, stopping)

    async def _serve(self, session: Session, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as workers:
                for _ in range(self._subscription.workers):
                    workers.create_task(self._work(session))
                await self._watch(session, stopping)
                await session.stop_taking()
                deadline.reschedule(loop.time() + self._drain_seconds)
        except TimeoutError:
            log.warning("drain_deadline_passed", queue=self.queue, events=session.unacknowledged_count)
        finally:
            await session.close()

    async def _watch(self, session: Session, stopping: asyncio.Event) -> None:
        """Return when the session is over, when the process stops, or when it is time for another session.

        A broker may have forgotten a subscription whose channel still lives, and say nothing (a queue that was deleted
        and made again). A consumer that gets events has not been forgotten; one that has been idle for long subscribes
        again, on a new channel: the old one may remember the lost queue.
        """
        loop = asyncio.get_running_loop()
        while True:
            await first(session.over, stopping, timeout_seconds=self._renew_seconds)
            if session.over.is_set() and not stopping.is_set():
                level = log.warning if self._link.is_connected else log.debug
                level("consumer_lost_its_channel", queue=self.queue)
            if session.over.is_set() or stopping.is_set():
                return
            idle_seconds = loop.time() - session.last_delivery_at
            if session.unacknowledged_count == 0 and idle_seconds >= self._renew_seconds:
                return

    async def _work(self, session: Session) -> None:
        batch, linger = self._subscription.batch, self._subscription.linger_seconds
        while deliveries := await session.take(batch, linger if batch > 1 else 0.0):
            if await self._deal_with(session, deliveries):
                await session.acknowledge(deliveries[-1], count=len(deliveries))

    async def _deal_with(self, session: Session, deliveries: Sequence[Delivery]) -> bool:
        """Bring deliveries to where they may be acknowledged; False: the session ended first."""
        if len(deliveries) > 1:
            if await self._apply_batch(session, deliveries):
                return True
            if session.over.is_set():
                return False
        for delivery in deliveries:
            if not await self._deal_with_one(session, delivery):
                return False
        return True

    async def _apply_batch(self, session: Session, deliveries: Sequence[Delivery]) -> bool:
        """Apply all in one transaction; False: one of them is not fit for it, or the session is over."""
        for tries in range(1, TRANSIENT_TRIES + 1):
            try:
                await self.applier.apply([self._read(delivery) for delivery in deliveries])
            except Exception as error:
                if not is_transient(error):
                    log.warning("batch_failed", queue=self.queue, events=len(deliveries), reason=type(error).__name__)
                    return False
                await self._hold(session, error, tries)
                if session.over.is_set():
                    return False
            else:
                return True
        return False

    async def _deal_with_one(self, session: Session, delivery: Delivery) -> bool:
        tries = 0
        while True:
            tries += 1
            try:
                await self._apply_or_divert(delivery, tries)
            except Exception as error:
                if not is_transient(error):
                    raise
                await self._hold(session, error, tries)
                if session.over.is_set():
                    return False
            else:
                return True

    async def _apply_or_divert(self, delivery: Delivery, tries: int) -> None:
        """Apply an event, or park, delay or bury it.

        Raises:
            DependencyUnavailable and other transient errors: nothing was done.
        """
        try:
            await self._apply_or_park(delivery)
        except Exception as error:
            # A newer replica may know what this one does not: such an event is given time.
            if isinstance(error, Unreadable) and not isinstance(error, UnknownEvent):
                await failures.bury(self._publisher, self.queue, delivery, error)
                return
            if is_transient(error) and (isinstance(error, DependencyUnavailable) or tries < TRANSIENT_TRIES):
                raise
            await failures.retry_or_bury(self._publisher, self.queue, delivery, error)

    async def _apply_or_park(self, delivery: Delivery) -> None:
        envelope = self._read(delivery)
        try:
            await self.applier.apply([envelope])
        except FactMissing as missing:
            await parking.park(self._database, self.queue, envelope, delivery.body, missing)

    def _read(self, delivery: Delivery) -> Envelope[Any]:
        """The event of a delivery.

        A broker user is held to the keys that it publishes under, so the key must be what the body says it is; what
        comes back from a delay, or is replayed, comes under the queue's own name.

        Raises:
            Unreadable: it is none of ours, or another type than its key.
        """
        envelope = decode(delivery.body)
        if delivery.routing_key not in (envelope.type, self.queue):
            raise Unreadable(f"{envelope.type} came under the key of another type")
        return envelope

    async def _hold(self, session: Session, error: BaseException, tries: int) -> None:
        """Wait until the database answers again, or the session is over."""
        log.warning("consumer_holds", queue=self.queue, reason=type(error).__name__, tries=tries)
        while not session.over.is_set():
            await first(session.over, timeout_seconds=backoff_seconds(tries))
            if await self._database_answers():
                return
            tries += 1

    async def _database_answers(self) -> bool:
        try:
            async with self._database.across_churches(timeout_seconds=5) as tx:
                return await tx.fetch_value(_PROBE) is not None
        except Exception as error:
            if not is_transient(error):
                raise
            return False


_PROBE = statement("database.probe", "SELECT 1 WHERE NOT pg_is_in_recovery()")
