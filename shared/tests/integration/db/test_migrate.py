"""Migrations of every service, up, down and at once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from koinonia import clock
from koinonia.db import migrate as runner
from koinonia.db import partitions
from koinonia.db.migrate import MigrationError
from koinonia.db.roles import SERVICES, ensure_roles
from koinonia.testing.servers import TestServers

SCHEMA = """
SELECT 'column' AS kind, table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
    || ' ' || coalesce(column_default, '') AS line
FROM information_schema.columns WHERE table_schema = $1
UNION ALL
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = $1
UNION ALL
SELECT 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = to_regnamespace($1)
UNION ALL
SELECT 'policy', tablename || ' ' || policyname || ' ' || roles::text || ' ' || coalesce(qual, '') || ' '
    || coalesce(with_check, '')
FROM pg_policies WHERE schemaname = $1
UNION ALL
SELECT 'grant', table_name || ' ' || grantee || ' ' || privilege_type
FROM information_schema.role_table_grants WHERE table_schema = $1
UNION ALL
SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace($1)
UNION ALL
SELECT 'table', relname || ' ' || relkind::text || ' ' || relrowsecurity || ' ' || relforcerowsecurity || ' '
    || coalesce(reloptions::text, '')
FROM pg_class WHERE relnamespace = to_regnamespace($1)
ORDER BY 1, 2
"""


@pytest.fixture
async def admin_url(servers: TestServers) -> AsyncIterator[str]:
    name = servers.new_name()
    await servers.create_database(name)
    yield servers.database_url(name)
    await servers.drop_database(name)


@pytest.fixture
async def connection(admin_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(admin_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_up_down_up_ends_in_the_same_schema(
    service: str, admin_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await runner.migrate(admin_url, [service])
    first = await connection.fetch(SCHEMA, service)
    count = len(runner.load(service))
    assert len(await runner.roll_back(admin_url, service, count)) == count
    left = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1)", service)
    assert {row["relname"] for row in left} <= {"schema_migrations", "schema_migrations_pkey"}
    await runner.migrate(admin_url, [service])
    assert await connection.fetch(SCHEMA, service) == first
    assert len(first) > 20


async def test_two_processes_that_start_at_once_apply_each_migration_once(admin_url: str) -> None:
    both = await asyncio.gather(runner.migrate(admin_url, ["billing"]), runner.migrate(admin_url, ["billing"]))
    applied = [line for each in both for line in each]
    assert len(applied) == len(set(applied)) == len(runner.load("billing"))


async def test_the_status_tells_what_was_applied(admin_url: str) -> None:
    assert [each.applied_at for each in await runner.status(admin_url, ["billing"])] == [None] * len(
        runner.load("billing")
    )
    await runner.migrate(admin_url, ["billing"])
    assert all(each.applied_at for each in await runner.status(admin_url, ["billing"]))


async def test_a_migration_changed_after_it_was_applied_is_refused(
    admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runner.migrate(admin_url, ["billing"])
    changed = [replace(each, up=each.up + "-- later") for each in runner.load("billing")]
    monkeypatch.setattr(runner, "load", lambda _: changed)
    with pytest.raises(MigrationError, match="was changed after"):
        await runner.migrate(admin_url, ["billing"])


async def test_a_database_newer_than_the_code_is_refused(admin_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await runner.migrate(admin_url, ["billing"])
    monkeypatch.setattr(runner, "load", lambda _: [])
    with pytest.raises(MigrationError, match="this code does not"):
        await runner.migrate(admin_url, ["billing"])


async def test_a_migration_that_fails_leaves_nothing(
    admin_url: str, connection: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = runner.Migration(1, "broken", "CREATE TABLE half (id int); SELECT 1 / 0;", "")
    monkeypatch.setattr(runner, "load", lambda _: [broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await runner.migrate(admin_url, ["billing"])
    assert await connection.fetchval("SELECT to_regclass('billing.half')") is None
    assert await connection.fetchval("SELECT count(*) FROM billing.schema_migrations") == 0


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(MigrationError, match="no service is called 'os'"):
        runner.load("os")


async def test_partitions_are_made_ahead_once(admin_url: str) -> None:
    with clock.frozen(datetime(2026, 12, 15, tzinfo=UTC)):
        await runner.migrate(admin_url, ["billing"])
        assert await partitions.maintain(admin_url, ("billing",)) == []
    with clock.frozen(datetime(2027, 1, 1, tzinfo=UTC)):
        assert await partitions.maintain(admin_url, ("billing",)) == ["billing.usage_ledger_2027_04"]
    ends = await partitions.end_of(admin_url, ("billing", "gateway"))
    assert ends == {"billing.usage_ledger": datetime(2027, 5, 1, tzinfo=UTC)}


async def test_databases_of_one_server_are_prepared_at_the_same_time(servers: TestServers) -> None:
    """Their roles are the same: Postgres refuses whoever changes one that another is changing."""
    names = [servers.new_name() for _ in range(4)]
    password = servers.password("billing") or "secret"

    async def prepare(name: str) -> None:
        await servers.create_database(name)
        connection = await asyncpg.connect(servers.database_url(name))
        try:
            for _ in range(10):
                await ensure_roles(connection, "billing", password)
        finally:
            await connection.close()
            await servers.drop_database(name)

    await asyncio.gather(*map(prepare, names))
