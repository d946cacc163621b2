"""What the servers tell of the work that they had: statements, log, messages; and when rows were committed."""

import asyncio
from types import TracebackType
from typing import Self
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
from yarl import URL

from bench.figures import Statement

COUNTED_SECONDS = 5.5  # RabbitMQ counts anew every five

# What we ask ourselves is not counted: services log in with roles of their own.
_STATEMENTS = """
SELECT roles.rolname AS role, left(regexp_replace(query, '\\s+', ' ', 'g'), 120) AS query, sum(calls)::bigint AS calls,
    sum(rows)::bigint AS rows, sum(total_exec_time)::float8 AS milliseconds, sum(wal_bytes)::bigint AS wal_bytes
FROM pg_stat_statements
JOIN pg_roles AS roles ON roles.oid = userid
WHERE roles.rolname LIKE 'koinonia%'
GROUP BY roles.rolname, query
ORDER BY milliseconds DESC
"""
_WAL = "SELECT pg_current_wal_lsn()"
_WAL_SINCE = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)::bigint"
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_ROWS = """
SELECT carrier_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 AS stored_at
FROM delivery.recipients
WHERE source_id = $1 AND status = 'delivered'
"""


class ServerWork(msgspec.Struct, frozen=True):
    """What a piece of work cost the servers."""

    statements: int
    transactions: int
    wal_bytes: int
    published: int
    delivered: int
    by_statement: list[Statement]


class Servers:
    """An administrator's look at Postgres and RabbitMQ; use it as an async context manager."""

    def __init__(self, database_url: str, management_url: str) -> None:
        self._database_url = database_url
        self._management = URL(management_url)

    async def __aenter__(self) -> Self:
        self._database = await asyncpg.connect(self._database_url)
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.close()
        await self._session.close()

    async def begin(self) -> None:
        """Begin to count."""
        await asyncio.sleep(COUNTED_SECONDS)
        self._published, self._delivered = await self._messages()
        await self._database.execute("SELECT pg_stat_statements_reset()")
        self._commits = await self._database.fetchval(_COMMITS)
        self._wal = await self._database.fetchval(_WAL)

    async def end(self) -> ServerWork:
        """What has been done since."""
        wal_bytes = await self._database.fetchval(_WAL_SINCE, self._wal)
        statements = [Statement(**dict(row)) for row in await self._database.fetch(_STATEMENTS)]
        commits = await self._database.fetchval(_COMMITS)
        await asyncio.sleep(COUNTED_SECONDS)
        published, delivered = await self._messages()
        return ServerWork(
            statements=sum(each.calls for each in statements),
            transactions=commits - self._commits,
            wal_bytes=wal_bytes,
            published=published - self._published,
            delivered=delivered - self._delivered,
            by_statement=statements,
        )

    async def stored(self, message_id: UUID) -> dict[str, float]:
        """When each delivered recipient's row was committed last, by the carrier's id of its text."""
        rows = await self._database.fetch(_ROWS, message_id, timeout=600)
        return {row["carrier_id"]: row["stored_at"] for row in rows}

    async def execute(self, sql: str) -> None:
        """Run a statement of the administrator."""
        await self._database.execute(sql)

    async def _messages(self) -> tuple[int, int]:
        """Messages published and handed to consumers since the broker's start."""
        url = self._management.with_user(None).with_password(None) / "api" / "overview"
        credentials = aiohttp.encode_basic_auth(self._management.user or "guest", self._management.password or "guest")
        async with self._session.get(url, headers={"Authorization": credentials}) as answer:
            stats = msgspec.json.decode(await answer.read())["message_stats"]
        return stats.get("publish", 0), stats.get("deliver_get", 0)
