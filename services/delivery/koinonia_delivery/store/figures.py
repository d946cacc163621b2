"""How much waits, and what numbers use of their rates: for metrics and for ``koinonia delivery status``.

Counts are bounded by their caller. Nothing here touches recipients but for the reason that a number rests.
"""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia_delivery.store.claims import FRESH_SECONDS

# What one person waits for has an index of its own. Of broadcasts, the oldest is found by jumping through the index
# from one number that waits to the next. Unknown ones are as old as their first attempt, others as they are due.
_MEASURE = statement(
    "figures.measure",
    """
    WITH RECURSIVE moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    urgent AS (
        SELECT work.due_at, work.due_at AS since
        FROM work
        WHERE work.state = 'ready' AND work.priority = 0
        ORDER BY work.due_at
        LIMIT $1
    ),
    broadcast AS (
        SELECT work.due_at
        FROM work
        WHERE work.state = 'ready' AND work.priority <> 0
        LIMIT $1
    ),
    waiting (number_id, place) AS (
        (SELECT work.number_id, 1 FROM work WHERE work.state = 'ready' ORDER BY work.number_id LIMIT 1)
        UNION ALL
        SELECT
            (
                SELECT work.number_id
                FROM work
                WHERE work.state = 'ready' AND work.number_id > waiting.number_id
                ORDER BY work.number_id
                LIMIT 1
            ),
            waiting.place + 1
        FROM waiting
        WHERE waiting.number_id IS NOT NULL AND waiting.place < $2
    ),
    first AS (
        SELECT (
            SELECT work.due_at
            FROM work
            WHERE work.number_id = waiting.number_id AND work.state = 'ready' AND work.priority = class.priority
            ORDER BY work.due_at
            LIMIT 1
        ) AS due_at
        FROM waiting
        CROSS JOIN (VALUES (1::smallint), (2::smallint)) AS class (priority)
    ),
    open AS (
        SELECT work.state, work.due_at, coalesce(work.group_started_at, work.due_at) AS since
        FROM work
        WHERE work.state IN ('unknown', 'overdue')
        LIMIT $1
    ),
    parked AS (
        SELECT parked_receipts.next_try_at AS due_at, parked_receipts.parked_at AS since
        FROM parked_receipts
        LIMIT $1
    ),
    found (class, depth, due, since) AS (
        SELECT 'transactional', count(*), count(*) FILTER (WHERE urgent.due_at <= moment.now), min(urgent.since)
        FROM urgent, moment
        UNION ALL
        SELECT
            'broadcast', count(*), count(*) FILTER (WHERE broadcast.due_at <= moment.now),
            (SELECT min(first.due_at) FROM first)
        FROM broadcast, moment
        UNION ALL
        SELECT
            kind.state, count(open.state), count(*) FILTER (WHERE open.due_at <= moment.now), min(open.since)
        FROM (VALUES ('unknown'), ('overdue')) AS kind (state)
        CROSS JOIN moment
        LEFT JOIN open ON open.state = kind.state
        GROUP BY kind.state
        UNION ALL
        SELECT 'parked', count(*), count(*) FILTER (WHERE parked.due_at <= moment.now), min(parked.since)
        FROM parked, moment
    )
    SELECT
        found.class, found.depth, found.due,
        CASE WHEN found.since IS NOT NULL  -- greatest() passes nulls over
            THEN greatest(extract(epoch FROM moment.now - found.since), 0)::float8
        END AS oldest_seconds
    FROM found, moment
    """,
)


async def measure(tx: Transaction, rows: int, numbers: int) -> list[asyncpg.Record]:
    """``class``, ``depth``, ``due`` of these now, ``oldest_seconds`` (null: none).

    At most so many rows of a class are counted, and the oldest broadcast is looked for among so many numbers.
    """
    return await tx.fetch(_MEASURE, rows, numbers)


_LIST_TAKEN = statement(
    "figures.list_taken",
    """
    SELECT numbers.id, numbers.segments_taken, numbers.segments_per_second, moment.now
    FROM (SELECT clock_timestamp() AS now) AS moment
    LEFT JOIN numbers ON numbers.next_free_at > $1
    """,
)


async def list_taken(tx: Transaction, since: datetime) -> tuple[datetime, list[asyncpg.Record]]:
    """The time, and how many segments each number has ever taken, of those whose clock has moved beyond ``since``."""
    rows = await tx.fetch(_LIST_TAKEN, since)
    return rows[0]["now"], [row for row in rows if row["id"] is not None]


# The last of a number's waiting rows is the one that was put off the furthest: its error says why.
_LIST_NUMBERS = statement(
    "figures.list_numbers",
    """
    WITH leased AS (
        SELECT work.number_id, count(*) AS leases
        FROM work
        WHERE work.state = 'sending'
        GROUP BY work.number_id
    )
    SELECT
        numbers.id, numbers.church_id, numbers.phone, numbers.kind, numbers.status, numbers.segments_per_second,
        numbers.segments_taken, coalesce(leased.leases, 0) AS leases,
        greatest(extract(epoch FROM numbers.next_free_at - clock_timestamp()), 0)::float8 AS rests_seconds,
        last.error_code, last.error_message, clock_timestamp() AS now
    FROM numbers
    LEFT JOIN leased ON leased.number_id = numbers.id
    LEFT JOIN LATERAL (
        SELECT recipients.error_code, recipients.error_message
        FROM (
            SELECT work.recipient_id
            FROM work
            WHERE work.number_id = numbers.id AND work.state = 'ready' AND work.priority IN (0, 1, 2)
            ORDER BY work.priority DESC, work.due_at DESC, work.recipient_id DESC
            LIMIT 1
        ) AS put_off
        JOIN recipients ON recipients.id = put_off.recipient_id
    ) AS last ON true
    WHERE numbers.id = ANY ($1::uuid[])
        OR leased.leases > 0
        OR numbers.status IN ('held', 'pending')
        OR numbers.next_free_at > clock_timestamp() + interval '1 second'
    ORDER BY leases DESC, numbers.id
    LIMIT $2
    """,
)


async def list_numbers(tx: Transaction, active: list[UUID], limit: int) -> list[asyncpg.Record]:
    """Numbers that are worth a line: these, and those with calls under way, that are held, or that rest."""
    return await tx.fetch(_LIST_NUMBERS, active, limit)


_FETCH_STATE = statement(
    "figures.fetch_state",
    """
    SELECT
        extract(epoch FROM clock_timestamp() - nullif(marker_sent_at, '-infinity'))::float8 AS marker_seconds,
        extract(epoch FROM clock_timestamp() - backlog_oldest_at)::float8 AS backlog_seconds,
        marker_sent_at > clock_timestamp() - make_interval(secs => $1)
            AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $1))
            AS is_fresh,
        (SELECT count(*) FROM work WHERE state = 'sending') AS leases,
        (SELECT count(*) FROM work WHERE state = 'sending' AND leased_until < clock_timestamp()) AS ended_leases,
        (
            SELECT greatest(extract(epoch FROM clock_timestamp() - min(claimed_at)), 0)::float8
            FROM work
            WHERE state = 'sending'
        ) AS longest_seconds
    FROM freshness
    """,
)


async def fetch_state(tx: Transaction) -> asyncpg.Record:
    """How fresh our knowledge of opt-outs is, and what workers hold."""
    row = await tx.fetch_row(_FETCH_STATE, FRESH_SECONDS)
    if row is None:
        raise RuntimeError("freshness has one row")
    return row


LIST_WORKERS = statement(
    "figures.list_workers",
    """
    SELECT
        application_name AS name, coalesce(host(client_addr), 'local') AS address, count(*) AS connections,
        extract(epoch FROM clock_timestamp() - min(backend_start))::float8 AS oldest_connection_seconds
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'koinonia-delivery-worker-%'
    GROUP BY application_name, client_addr
    ORDER BY application_name, client_addr
    """,
)

"""The workers that have a connection; asked by an administrator, who alone sees others' sessions."""
