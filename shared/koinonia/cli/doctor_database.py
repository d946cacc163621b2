"""``koinonia doctor database``: where the time and the room go."""

import asyncpg
from rich.table import Table

_SLOWEST = """
    SELECT round(total_exec_time)::bigint AS total_ms, calls, round(mean_exec_time::numeric, 2) AS mean_ms, rows,
        coalesce(
            substring(query FROM '/\\* ([a-z_.]+) \\*/'), left(regexp_replace(query, '\\s+', ' ', 'g'), 80)
        ) AS statement
    FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY total_exec_time DESC
    LIMIT 15
"""
_LOCK_WAITS = """
    SELECT waiting.pid, pg_blocking_pids(waiting.pid)::text AS blocked_by, waiting.usename AS role,
        date_trunc('milliseconds', clock_timestamp() - waiting.state_change)::text AS since,
        coalesce(substring(waiting.query FROM '/\\* ([a-z_.]+) \\*/'), left(waiting.query, 60)) AS statement
    FROM pg_stat_activity AS waiting
    WHERE waiting.datname = current_database() AND cardinality(pg_blocking_pids(waiting.pid)) > 0
    ORDER BY waiting.state_change
"""
_SIZES = """
    SELECT schemaname || '.' || relname AS table, n_live_tup AS rows,
        pg_size_pretty(pg_table_size(relid)) AS data, pg_size_pretty(pg_indexes_size(relid)) AS indexes
    FROM pg_stat_user_tables
    ORDER BY pg_total_relation_size(relid) DESC
    LIMIT 20
"""
_BLOAT = """
    SELECT schemaname || '.' || relname AS table, n_dead_tup AS dead_rows, n_live_tup AS live_rows,
        coalesce(date_trunc('second', greatest(last_vacuum, last_autovacuum))::text, 'never') AS vacuumed
    FROM pg_stat_user_tables
    WHERE n_dead_tup > 1000 AND n_dead_tup > n_live_tup / 5
    ORDER BY n_dead_tup DESC
    LIMIT 20
"""
_UNUSED_INDEXES = """
    SELECT stat.schemaname || '.' || stat.indexrelname AS index, stat.relname AS table,
        pg_size_pretty(pg_relation_size(stat.indexrelid)) AS size
    FROM pg_stat_user_indexes AS stat
    JOIN pg_index USING (indexrelid)
    WHERE stat.idx_scan = 0 AND NOT indisunique AND pg_relation_size(stat.indexrelid) > 65536
    ORDER BY pg_relation_size(stat.indexrelid) DESC
    LIMIT 20
"""


# Rows, or why there are none.
Answer = list[asyncpg.Record] | str


async def examine(admin_url: str) -> list[Table]:
    """Look at the database as its administrator; a table per question."""
    connection = await asyncpg.connect(admin_url, timeout=10)
    try:
        answers: list[tuple[str, Answer]] = [
            ("Slowest statements, by total time", await _slowest(connection)),
            ("Waiting for a lock", await connection.fetch(_LOCK_WAITS)),
            ("Largest tables", await connection.fetch(_SIZES)),
            ("Many dead rows", await connection.fetch(_BLOAT)),
            ("Indexes never used since statistics began", await connection.fetch(_UNUSED_INDEXES)),
        ]
    finally:
        await connection.close()
    return [_table(title, rows) for title, rows in answers]


async def _slowest(connection: "asyncpg.Connection[asyncpg.Record]") -> Answer:
    try:
        return await connection.fetch(_SLOWEST)
    except (asyncpg.UndefinedTableError, asyncpg.ObjectNotInPrerequisiteStateError):
        return "pg_stat_statements is not loaded: add it to shared_preload_libraries and CREATE EXTENSION"


def _table(title: str, rows: Answer) -> Table:
    if isinstance(rows, str):
        return Table(rows, title=title, title_justify="left")
    if not rows:
        return Table("none", title=title, title_justify="left")
    table = Table(*rows[0].keys(), title=title, title_justify="left")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
