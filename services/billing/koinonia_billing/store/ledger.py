"""The usage ledger: what the carrier accepted."""

from collections.abc import Sequence
from datetime import datetime

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
