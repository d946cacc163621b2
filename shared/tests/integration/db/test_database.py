"""Transactions: their tenant, their limits, and what they count."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from koinonia.bus import outbox
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog, statement_log
from koinonia.db.transaction import CommitFailed
from koinonia.errors import DependencyUnavailable
from koinonia.events.messaging import MessageCompleted
from koinonia.ids import new_id
from koinonia.testing.databases import Databases, DatabaseUrls

COUNT = statement("test.count", "SELECT count(*) FROM outbox")
COUNT_WITHOUT_WHERE = statement("test.count_all", "SELECT count(*) FROM subscriptions")
SLEEP = statement("test.sleep", "SELECT pg_sleep($1)")
ONE = statement("test.one", "SELECT 1")
BROKEN = statement("test.broken", "SELECT 1 / 0")
CHURCH = statement("test.church", "SELECT current_setting('koinonia.church_id', true)")
ISOLATION = statement("test.isolation", "SELECT current_setting('transaction_isolation')")
INSERT = statement(
    "test.insert", "INSERT INTO outbox (id, church_id, type, body) VALUES (gen_random_uuid(), $1, 'x', '')"
)


@pytest.fixture
async def database(databases: Databases) -> Database:
    return await databases("billing")


@pytest.fixture
async def narrow(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database with one connection, which is hard to get."""
    opened = await Database.open(await database_urls("billing"), "billing", pool_size=1, acquire_timeout_seconds=0.05)
    yield opened
    await opened.close()


async def add(database: Database, church_id: UUID) -> None:
    async with database.tenant(church_id) as tx:
        await outbox.add(tx, MessageCompleted(message_id=new_id(), recipient_count=1))


async def count(database: Database, church_id: UUID | None) -> int:
    scope = database.across_churches() if church_id is None else database.tenant(church_id)
    async with scope as tx:
        found = await tx.fetch_value(COUNT)
    assert isinstance(found, int)
    return found


async def test_a_church_sees_its_rows_and_no_others(database: Database, church_id: UUID) -> None:
    await add(database, church_id)
    assert await count(database, church_id) == 1
    assert await count(database, new_id()) == 0
    assert await count(database, None) == 1


async def test_a_row_of_another_church_cannot_be_written(database: Database, church_id: UUID) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.tenant(church_id) as tx:
            await tx.execute(INSERT, new_id())


async def test_work_across_churches_reaches_its_named_tables_only(database: Database) -> None:
    assert await count(database, None) == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.across_churches() as tx:
            await tx.fetch(statement("test.migrations", "SELECT 1 FROM schema_migrations"))


async def test_the_tenant_ends_with_its_transaction(narrow: Database, church_id: UUID) -> None:
    async with narrow.tenant(church_id) as tx:
        assert await tx.fetch_value(CHURCH) == str(church_id)
    async with narrow.across_churches() as tx:
        assert await tx.fetch_value(CHURCH) in ("", None)
    # The service's own role, with no church named, sees nothing.
    connection = await asyncpg.connect(narrow.url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    finally:
        await connection.close()


async def test_isolation_is_read_committed_unless_named(database: Database, church_id: UUID) -> None:
    async with database.tenant(church_id) as tx:
        assert await tx.fetch_value(ISOLATION) == "read committed"
    async with database.tenant(church_id, isolation="SERIALIZABLE") as tx:
        assert await tx.fetch_value(ISOLATION) == "serializable"


async def test_an_error_rolls_everything_back(database: Database, church_id: UUID) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with database.tenant(church_id) as tx:
            await tx.execute(INSERT, church_id)
            await tx.fetch_value(BROKEN)
    assert await count(database, church_id) == 0


async def test_a_swallowed_error_does_not_pass_for_a_commit(database: Database, church_id: UUID) -> None:
    called = []
    with pytest.raises(CommitFailed):
        async with database.tenant(church_id) as tx:
            tx.after_commit(lambda: called.append(1))
            await tx.execute(INSERT, church_id)
            try:
                await tx.fetch_value(BROKEN)
            except asyncpg.DivisionByZeroError:
                called.append(0)
    assert called == [0]
    assert await count(database, church_id) == 0


async def test_callbacks_run_once_it_has_committed(database: Database, church_id: UUID) -> None:
    called: list[int] = []
    async with database.tenant(church_id) as tx:
        tx.after_commit(lambda: called.append(1))
        await tx.execute(INSERT, church_id)
        assert called == []
    assert called == [1]


async def test_a_transaction_that_takes_too_long_is_rolled_back(narrow: Database, church_id: UUID) -> None:
    with pytest.raises(TimeoutError):
        async with narrow.tenant(church_id, timeout_seconds=0.2) as tx:
            await tx.execute(INSERT, church_id)
            await tx.fetch_value(SLEEP, 5.0)
    assert await count(narrow, church_id) == 0


async def test_a_cancelled_transaction_leaves_its_connection_usable(narrow: Database, church_id: UUID) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with narrow.tenant(church_id) as tx:
            await tx.execute(INSERT, church_id)
            begun.set()
            await tx.fetch_value(SLEEP, 5.0)

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    async with narrow.tenant(church_id, timeout_seconds=5) as tx:
        assert await tx.fetch_value(COUNT) == 0


async def test_waiting_for_a_connection_has_an_end(narrow: Database, church_id: UUID) -> None:
    async with narrow.tenant(church_id):
        with pytest.raises(DependencyUnavailable):
            async with narrow.tenant(church_id):
                raise AssertionError


async def test_statements_are_counted_by_name_without_begin_and_commit(
    database: Database, church_id: UUID, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    with count_statements() as everywhere, statement_log() as own:
        async with database.tenant(church_id) as tx:
            for _ in range(11):
                await tx.fetch_value(ONE)
            await tx.fetch_value(COUNT)
    assert own.by_name == everywhere.by_name == {"test.one": 11, "test.count": 1}
    assert (own.count, own.repeated) == (12, ["test.one"])
    assert own.seconds > 0


async def test_a_slow_statement_is_logged_by_its_name(database: Database, church_id: UUID) -> None:
    with capture_logs() as logs:
        async with database.tenant(church_id) as tx:
            await tx.fetch_value(SLEEP, 0.11)
            await tx.fetch_value(ONE)
    slow = [each for each in logs if each["event"] == "statement_slow"]
    assert [each["statement"] for each in slow] == ["test.sleep"]


async def test_a_tenant_is_asked_for_in_tenant_transactions_only(database: Database) -> None:
    async with database.across_churches() as tx:
        with pytest.raises(RuntimeError, match="across churches"):
            _ = tx.tenant
