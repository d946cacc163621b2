"""A transaction: the only way to the tables. Before it is handed out it has named its church, or that it has none."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from koinonia.db import statistics
from koinonia.db.statement import Statement


class CommitFailed(Exception):
    """Postgres answered COMMIT with a rollback: a statement had failed and its error was swallowed."""


class Transaction:
    """Runs named statements on one connection, in one transaction.

    ``church_id`` is the tenant that row-level security lets through; None in work across churches.
    """

    def __init__(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]",
        church_id: UUID | None,
        service: str,
    ) -> None:
        self._connection = connection
        self._church_id = church_id
        self._after_commit: list[Callable[[], None]] = []
        self.service = service

    @property
    def church_id(self) -> UUID | None:
        return self._church_id

    @property
    def tenant(self) -> UUID:
        """The church of a tenant transaction; asking for it in work across churches is a bug."""
        if self._church_id is None:
            raise RuntimeError("this transaction works across churches")
        return self._church_id

    async def fetch(self, sql: Statement, *values: Any) -> list[asyncpg.Record]:
        """All rows."""
        started = time.perf_counter()
        try:
            return await self._connection.fetch(sql.text, *values)
        finally:
            statistics.note(sql.name, time.perf_counter() - started)

    async def fetch_row(self, sql: Statement, *values: Any) -> asyncpg.Record | None:
        """The first row, or None."""
        started = time.perf_counter()
        try:
            return await self._connection.fetchrow(sql.text, *values)
        finally:
            statistics.note(sql.name, time.perf_counter() - started)

    async def fetch_value(self, sql: Statement, *values: Any) -> Any:
        """The first column of the first row, or None."""
        row = await self.fetch_row(sql, *values)
        return None if row is None else row[0]

    async def execute(self, sql: Statement, *values: Any) -> int:
        """The number of rows that the statement touched."""
        started = time.perf_counter()
        try:
            tag = await self._connection.execute(sql.text, *values)
        finally:
            statistics.note(sql.name, time.perf_counter() - started)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What fails within is taken back, and the transaction goes on: for what may fail row by row."""
        await self._connection.execute("SAVEPOINT part")
        try:
            yield
        except asyncpg.PostgresError:
            await self._connection.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            raise
        await self._connection.execute("RELEASE SAVEPOINT part")

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once this transaction has committed; never when it has not."""
        self._after_commit.append(callback)

    async def commit(self) -> None:
        """Used by ``Database`` alone."""
        if await self._connection.execute("COMMIT") != "COMMIT":
            raise CommitFailed("the transaction was rolled back")
        for callback in self._after_commit:
            callback()
