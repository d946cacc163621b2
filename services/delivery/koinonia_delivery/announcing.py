"""Telling others what became of recipients: one event for each source, in the transaction that changed the rows."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from koinonia import telemetry
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope, Event
from koinonia_delivery.domain.states import Change, summarise


async def announce(
    tx: Transaction,
    changes: Iterable[Change],
    traceparents: Mapping[UUID, str | None] | None = None,
    correlations: Mapping[UUID, str | None] | None = None,
) -> None:
    """Publish the differences, whatever the churches, in one statement; nothing when nothing changed.

    ``traceparents`` and ``correlations`` name the trace and the request of a source where the present work is not part
    of them.
    """
    traces, requests = traceparents or {}, correlations or {}
    envelopes = [
        _envelope(tx, church_id, event, traces.get(event.source_id), requests.get(event.source_id))
        for church_id, event in summarise(changes)
    ]
    if envelopes:
        await outbox.add_envelopes(tx, *envelopes)


def _envelope(
    tx: Transaction, church_id: UUID, event: Event, traceparent: str | None, correlation: str | None
) -> Envelope[Event]:
    if traceparent is None and correlation is None:
        return outbox.envelope(tx, event, church_id=church_id)
    with telemetry.work("announce", traceparent=traceparent, correlation=correlation):
        return outbox.envelope(tx, event, church_id=church_id)
