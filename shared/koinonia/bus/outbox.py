"""Events on their way out: rows written in the transaction that changes the data, published later by the relay."""

from uuid import UUID

from koinonia import clock, telemetry
from koinonia.db import Transaction, statement
from koinonia.events import Envelope, Event, encode
from koinonia.ids import new_id

_SCOPE = UUID(int=0)  # "the transaction's church"; None says "no church's"


def channel_of(service: str) -> str:
    """The NOTIFY channel that wakes the relays of a service."""
    return f"outbox_{service}"


_ADD = statement(
    "outbox.add",
    """
    WITH added AS (
        INSERT INTO outbox (id, church_id, type, body)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])
        ORDER BY 1  -- two that add the same events must not wait for each other
        ON CONFLICT (id) DO NOTHING  -- the same event, waiting already
        RETURNING id
    )
    SELECT pg_notify($5, '') FROM added LIMIT 1
    """,
)


async def add(tx: Transaction, *events: Event, church_id: UUID | None = _SCOPE, event_id: UUID | None = None) -> None:
    """Publish ``events`` once this transaction has committed, at least once each; one statement for all of them.

    ``church_id`` is the transaction's unless given; a transaction across churches says whose the events are, or None,
    while one of a church can put out that church's events only (row-level security refuses others). ``event_id`` makes
    the id of a single event its caller's choice, where a repeat must be the same event: while one waits here, another
    adds nothing.
    """
    if not events:
        return
    envelopes = [envelope(tx, event, church_id=church_id, event_id=event_id) for event in events]
    await add_envelopes(tx, *envelopes)


async def add_envelopes(tx: Transaction, *envelopes: Envelope[Event]) -> None:
    """As ``add``, for events that are in their envelopes already."""
    await tx.fetch_value(
        _ADD,
        [each.id for each in envelopes],
        [each.church_id for each in envelopes],
        [each.type for each in envelopes],
        [encode(each) for each in envelopes],
        channel_of(tx.service),
    )


def envelope(
    tx: Transaction, event: Event, *, church_id: UUID | None = _SCOPE, event_id: UUID | None = None
) -> Envelope[Event]:
    """Put an event of this service into its envelope, with what led to it."""
    return Envelope(
        id=event_id or new_id(),
        time=clock.now(),
        data=event,
        church_id=tx.church_id if church_id is _SCOPE else church_id,
        correlation_id=telemetry.correlation_id(),
        causation_id=telemetry.causation_id(),
        traceparent=telemetry.current_traceparent(),
        service=tx.service,
    )
