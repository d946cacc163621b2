"""Monthly partitions of the tables that grow, made ahead.

A table declared ``PARTITION BY RANGE (id)`` is split by the time in its ids (UUIDs of version 7), so that a lookup by
id touches one partition. Rows are reached through the parent alone: a partition has forced row-level security, no
policy and no grants.
"""

from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import structlog

from koinonia import clock
from koinonia.db.statement import statement
from koinonia.ids import id_floor

MONTHS_BEFORE = 1
MONTHS_AHEAD = 3

STORAGE = {"recipients": " WITH (fillfactor = 80)"}
"""A copy is updated three times in place: with this room 96 of 100 updates touch no index, without it 36."""

log = structlog.get_logger()

_LIST_TABLES = statement(
    "partitions.list_tables",
    """
    SELECT class.relname
    FROM pg_partitioned_table AS partitioned
    JOIN pg_class AS class ON class.oid = partitioned.partrelid
    WHERE class.relnamespace = to_regnamespace($1) AND partitioned.partstrat = 'r'
    ORDER BY class.relname
    """,
)
_LIST_PARTITIONS = statement(
    "partitions.list",
    """
    SELECT child.relname
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
    WHERE parent.relnamespace = to_regnamespace($1)
    """,
)


async def maintain(admin_url: str, services: tuple[str, ...]) -> list[str]:
    """Make what is missing in the services' schemas; answers the new partitions."""
    connection = await asyncpg.connect(admin_url, timeout=10, server_settings={"lock_timeout": "5000"})
    try:
        return [name for service in services for name in await make_ahead(connection, service)]
    finally:
        await connection.close()


_LIST_LAST = statement(
    "partitions.list_last",
    """
    SELECT parent.relnamespace::regnamespace || '.' || parent.relname AS name, max(right(child.relname, 7)) AS last
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
    JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent AND parent.relkind = 'p'
    WHERE parent.relnamespace::regnamespace::text = ANY ($1)
    GROUP BY parent.relnamespace, parent.relname
    ORDER BY parent.relnamespace, parent.relname
    """,
)


async def end_of(admin_url: str, services: tuple[str, ...]) -> dict[str, datetime]:
    """Until when each partitioned table has partitions: the moment after its last month."""
    connection = await asyncpg.connect(admin_url, timeout=10)
    try:
        rows = await connection.fetch(_LIST_LAST.text, services)
    finally:
        await connection.close()
    return {row["name"]: next_month(datetime.strptime(row["last"], "%Y_%m").replace(tzinfo=UTC)) for row in rows}


async def make_ahead(connection: "asyncpg.Connection[asyncpg.Record]", service: str) -> list[str]:
    """Make the partitions from last month to three months ahead; safe when two do so at once.

    ``connection`` is an administrator's, outside a transaction.
    """
    made = []
    tables = [row["relname"] for row in await connection.fetch(_LIST_TABLES.text, service)]
    if not tables:
        return []
    async with connection.transaction():
        lock = f"SELECT pg_advisory_xact_lock(hashtextextended('koinonia.partitions.{service}', 0))"
        await connection.execute(f"{lock}; SET LOCAL ROLE koinonia_{service}_owner; SET LOCAL search_path = {service}")
        present = {row["relname"] for row in await connection.fetch(_LIST_PARTITIONS.text, service)}
        for table in tables:
            for first_day in _months(clock.now()):
                name = f"{table}_{first_day:%Y_%m}"
                if name not in present:
                    await make(connection, table, name, first_day)
                    made.append(f"{service}.{name}")
    for name in made:
        log.info("partition_made", partition=name)
    return made


async def make(connection: "asyncpg.Connection[asyncpg.Record]", table: str, name: str, first_day: datetime) -> None:
    """Make one partition, as the schema's owner: that of the month which begins on ``first_day``."""
    first, after = bounds(first_day)
    await connection.execute(
        f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{first}') TO ('{after}'){STORAGE.get(table, '')}"
    )
    await close(connection, name)


async def close(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Let a partition be reached through its table alone."""
    await connection.execute(
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY; ALTER TABLE {name} FORCE ROW LEVEL SECURITY"
    )


def bounds(first_day: datetime) -> tuple[UUID, UUID]:
    """The first id of the month that begins on a day, and the first one after it."""
    return id_floor(first_day), id_floor(next_month(first_day))


def _months(at: datetime) -> list[datetime]:
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    for _ in range(MONTHS_BEFORE):
        first = datetime(first.year - (first.month == 1), (first.month - 2) % 12 + 1, 1, tzinfo=UTC)
    months = [first]
    while len(months) < MONTHS_BEFORE + 1 + MONTHS_AHEAD:
        months.append(next_month(months[-1]))
    return months


def next_month(first_day: datetime) -> datetime:
    """The first day of the next month."""
    return datetime(first_day.year + (first_day.month == 12), first_day.month % 12 + 1, 1, tzinfo=UTC)
