"""A database that the next test gets again is as the migrations left it, and nobody from before reaches it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from koinonia.ids import new_id
from koinonia.testing.databases import template
from koinonia.testing.reuse import Reuse
from koinonia.testing.servers import TestServers

SERVICE = "billing"
WRITE = "INSERT INTO billing.outbox (id, type, body) VALUES ($1, 'left', '')"
COUNT = "SELECT count(*) FROM billing.outbox"


@pytest.fixture
async def kept() -> AsyncIterator[Reuse]:
    """No databases but this test's."""
    made = Reuse()
    yield made
    await made.close()


async def take(kept: Reuse, servers: TestServers) -> str:
    return await kept.take(servers, SERVICE, await template(servers, SERVICE))


async def test_rows_and_sessions_of_one_test_are_not_in_the_next(servers: TestServers, kept: Reuse) -> None:
    first = await take(kept, servers)
    left_open = await asyncpg.connect(servers.database_url(first))
    number = await left_open.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    await left_open.execute(WRITE, new_id())
    unfinished = await asyncpg.connect(servers.database_url(first))
    await unfinished.execute("BEGIN")
    await unfinished.execute(WRITE, new_id())
    still_used = await asyncpg.create_pool(servers.database_url(first, SERVICE), min_size=0)
    assert await still_used.fetchval("SELECT true")

    await kept.give_back(servers, SERVICE, first)
    second = await take(kept, servers)

    with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError)):
        await left_open.execute(WRITE, new_id())
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await still_used.execute(WRITE, new_id())  # the pool connects again by itself
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(servers.database_url(first))
    again = await asyncpg.connect(servers.database_url(second))
    assert await again.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()") == number  # the same
    assert await again.fetchval(COUNT) == 0
    assert await again.fetchval("SELECT count(*) FROM billing.plans") > 0
    await again.close()
    still_used.terminate()
    await servers.drop_database(second)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE billing.outbox ADD COLUMN more text",
        "ALTER TABLE billing.outbox ALTER COLUMN type SET DEFAULT 'some'",
        "ALTER TABLE billing.outbox ADD CHECK (type <> 'none')",
        "ALTER TABLE billing.outbox SET (fillfactor = 50)",
        "ALTER TABLE billing.outbox NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON billing.outbox",
        "GRANT SELECT ON billing.outbox TO PUBLIC",
        "CREATE INDEX ON billing.outbox (type)",
        "DROP TABLE billing.parked",
        "CREATE TABLE billing.more ()",
        "CREATE FUNCTION one() RETURNS int RETURN 1",
        "CREATE TRIGGER t BEFORE UPDATE ON billing.outbox EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE SCHEMA more",
        "DELETE FROM billing.plans WHERE code = 'trial'",
        "UPDATE billing.plans SET name = 'Other'",
        "ANALYZE billing.plans",
        "SELECT lo_create(0)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''1MB''', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 3', current_database()); END $$",
    ],
)
async def test_a_database_in_which_more_has_changed_than_rows_is_dropped(
    servers: TestServers, kept: Reuse, change: str
) -> None:
    name = await take(kept, servers)
    connection = await asyncpg.connect(servers.database_url(name))
    number = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    await connection.execute(WRITE, new_id())
    await connection.execute(change)
    await connection.close()
    await kept.give_back(servers, SERVICE, name)
    administrator = await asyncpg.connect(servers.database_admin_url)
    assert not await administrator.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE oid = $1)", number)
    await administrator.close()
