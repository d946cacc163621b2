"""The usage ledger: what the carrier accepted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.events import Envelope
from koinonia.events.delivery import RecipientsUpdated
from koinonia.ids import id_floor

_INSERT = statement(
    "usage_ledger.insert",
    """
    INSERT INTO usage_ledger (id, church_id, source_id, kind, recipients, segments, recorded_at)
    SELECT *
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::integer[], $6::integer[], $7::timestamptz[])
    """,
)


async def insert(tx: Transaction, events: Sequence[Envelope[RecipientsUpdated]]) -> None:
    """A line per event."""
    await tx.execute(
        _INSERT,
        [event.id for event in events],
        [event.church_id for event in events],
        [event.data.source_id for event in events],
        [event.data.kind for event in events],
        [event.data.accepted_recipients for event in events],
        [event.data.accepted_segments for event in events],
        [event.time for event in events],
    )


_SUM_BY_DAY = statement(
    "usage_ledger.sum_by_day",
    """
    SELECT
        (recorded_at AT TIME ZONE 'UTC')::date AS day,
        sum(recipients)::integer AS recipients,
        sum(segments)::integer AS segments
    FROM usage_ledger
    WHERE church_id = nullif(current_setting('koinonia.church_id', true), '')::uuid
        AND id >= $1 AND id < $2
    GROUP BY day
    ORDER BY day
    """,
)


async def sum_by_day(tx: Transaction, begin: datetime, end: datetime) -> list[asyncpg.Record]:
    """The church's ``recipients`` and ``segments`` per UTC ``day``, from ``begin`` to before ``end``."""
    return await tx.fetch(_SUM_BY_DAY, id_floor(begin), id_floor(end))


CLOCK_SKEW = timedelta(seconds=2)
"""Between the database, by whose clock a text was accepted, and the process that made the line's id."""
LONGEST_TRANSACTION = timedelta(minutes=1)

_FIND_METERED_AT = statement(
    "usage_ledger.find_metered_at",
    """
    SELECT recorded_at
    FROM usage_ledger
    WHERE church_id = $1 AND id >= $2 AND id < $3 AND source_id = $4
    ORDER BY recorded_at < $5, id  -- no line is made before the acceptance but by the clocks' difference
    LIMIT 1
    """,
)


async def find_metered_at(tx: Transaction, source_id: UUID, accepted_at: datetime) -> datetime | None:
    """When the line was made that has a text accepted at this time; None: it is not in the ledger yet.

    A line's id is that of the event which left in the transaction that noted the acceptance.
    """
    first, last = id_floor(accepted_at - CLOCK_SKEW), id_floor(accepted_at + LONGEST_TRANSACTION)
    found: datetime | None = await tx.fetch_value(_FIND_METERED_AT, tx.tenant, first, last, source_id, accepted_at)
    return found
