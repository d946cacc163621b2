"""What Postgres' own statistics say of a service's connections and tables, as far as its role may see them."""

from uuid import UUID

from koinonia.api.health import Connections, DatabaseFigures, TableBloat
from koinonia.db import Database, statement

# Of others' sessions a role sees that they are there, of its own what they do.
_CONNECTIONS = statement(
    "health.connections",
    """
    SELECT
        current_setting('max_connections')::int AS "limit",
        count(*) AS everybody,
        count(*) FILTER (WHERE usename = session_user) AS own,
        count(*) FILTER (WHERE usename = session_user AND state = 'active') AS own_active,
        count(*) FILTER (WHERE usename = session_user AND state LIKE 'idle in%') AS own_idle_in_transaction,
        count(*) FILTER (WHERE usename = session_user AND wait_event_type = 'Lock') AS own_waiting_for_locks
    FROM pg_stat_activity
    WHERE datname = current_database()
    """,
)
_CACHE_HIT_RATIO = statement(
    "health.cache_hit_ratio",
    """
    SELECT round(blks_hit::numeric / nullif(blks_hit + blks_read, 0), 4)::float8
    FROM pg_stat_database
    WHERE datname = current_database()
    """,
)
_BLOAT = statement(
    "health.bloat",
    """
    SELECT
        relname AS "table",
        n_live_tup AS live_rows,
        n_dead_tup AS dead_rows,
        round(n_dead_tup::numeric / (n_live_tup + n_dead_tup), 4)::float8 AS dead_share,
        pg_table_size(relid) AS bytes,
        greatest(last_vacuum, last_autovacuum) AS vacuumed_at
    FROM pg_stat_user_tables
    WHERE schemaname = $1 AND n_dead_tup > 0
    ORDER BY n_dead_tup DESC
    LIMIT 10
    """,
)
_NOBODY = UUID(int=0)


async def look_up(database: Database, *, timeout_seconds: float) -> DatabaseFigures:
    """The figures now."""
    # As the service's own role: the one across churches may not see what its sessions do. No church's row is read.
    async with database.tenant(_NOBODY, timeout_seconds=timeout_seconds) as tx:
        [connections] = await tx.fetch(_CONNECTIONS)
        ratio: float | None = await tx.fetch_value(_CACHE_HIT_RATIO)
        tables = await tx.fetch(_BLOAT, database.service)
    return DatabaseFigures(
        connections=Connections(**connections),
        cache_hit_ratio=ratio,
        bloat=[TableBloat(**table) for table in tables],
    )
