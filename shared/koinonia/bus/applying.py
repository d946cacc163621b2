"""Applying events: one transaction with their inbox rows, their handlers, and nothing else."""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import Any

import structlog
from opentelemetry.trace import Span, SpanKind

from koinonia import metrics, telemetry
from koinonia.bus import inbox
from koinonia.bus.errors import UnknownEvent, Unreadable
from koinonia.bus.subscription import Subscription
from koinonia.db import Database, Transaction
from koinonia.db.statistics import StatementLog, statement_log
from koinonia.events import Envelope, Event

log = structlog.get_logger()

InTransaction = Callable[[Transaction], Awaitable[None]]


class Applier:
    """Applies the events of one queue, each once."""

    def __init__(self, database: Database, subscription: Subscription) -> None:
        self._database = database
        self._subscription = subscription
        self.queue = subscription.queue

    def check(self, envelope: Envelope[Any]) -> None:
        """See that an event can be handed to a handler here.

        Raises:
            UnknownEvent: this consumer has no handler for it.
            Unreadable: it lacks its church.
        """
        if type(envelope.data) not in self._subscription.handlers:
            raise UnknownEvent(f"{self.queue} has no handler for {envelope.type}")
        if envelope.church_id is None and not self._is_across:
            raise Unreadable(f"{envelope.type} names no church")

    async def apply(self, envelopes: Sequence[Envelope[Any]], also: InTransaction | None = None) -> None:
        """Apply events in one transaction, with ``also``; those that were applied before are passed over.

        Raises whatever a handler raises; then none of them is applied.
        """
        for envelope in envelopes:
            self.check(envelope)
        started = time.perf_counter()
        with statement_log() as noted, self._work(envelopes):
            async with self._transaction(envelopes[0]) as tx:
                fresh = await self._note(tx, envelopes)
                if also is not None:
                    await also(tx)
                await self._hand_out(tx, fresh)
        self._warn_of_repetition(noted, len(envelopes))
        metrics.handling_seconds.record(time.perf_counter() - started, {"queue": self.queue})
        metrics.consumed_total.add(len(fresh), {"queue": self.queue, "outcome": "applied"})
        if len(fresh) < len(envelopes):
            metrics.consumed_total.add(len(envelopes) - len(fresh), {"queue": self.queue, "outcome": "repeated"})

    def _work(self, envelopes: Sequence[Envelope[Any]]) -> AbstractContextManager[Span]:
        """The span of applying: one event's goes on with its trace, a batch's begins one and links to theirs all.

        What a batch puts out has no correlation nor cause: it comes of many.
        """
        attributes: dict[str, str | int] = {
            "messaging.destination.name": self.queue,
            "messaging.batch.message_count": len(envelopes),
        }
        work = partial(telemetry.work, f"consume {self.queue}", kind=SpanKind.CONSUMER, attributes=attributes)
        if len(envelopes) > 1:
            return work(links=[envelope.traceparent for envelope in envelopes])
        (one,) = envelopes
        return work(traceparent=one.traceparent, correlation=one.correlation_id, causation=str(one.id))

    def _warn_of_repetition(self, noted: StatementLog, event_count: int) -> None:
        """Say when statements ran more than ten times, and more than twice per event: most likely once per row."""
        names = [name for name in noted.repeated if noted.by_name[name] > 2 * event_count]
        if names:
            log.warning("statements_repeated", queue=self.queue, statements=names, events=event_count)

    @property
    def _is_across(self) -> bool:
        return self._subscription.across or self._subscription.batch > 1

    def _transaction(self, envelope: Envelope[Any]) -> AbstractAsyncContextManager[Transaction]:
        if self._is_across or envelope.church_id is None:
            return self._database.across_churches()
        return self._database.tenant(envelope.church_id)

    async def _note(self, tx: Transaction, envelopes: Sequence[Envelope[Any]]) -> Sequence[Envelope[Any]]:
        return await inbox.note(tx, self.queue, envelopes) if self._subscription.inbox else envelopes

    async def _hand_out(self, tx: Transaction, envelopes: Sequence[Envelope[Any]]) -> None:
        groups: dict[type[Event], list[Envelope[Any]]] = {}
        for envelope in envelopes:
            groups.setdefault(type(envelope.data), []).append(envelope)
        for event_type, group in groups.items():
            handler = self._subscription.handlers[event_type]
            await handler(tx, group if self._subscription.batch > 1 else group[0])
