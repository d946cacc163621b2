"""What is written while the migration makes the figures is in them."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from koinonia.db import migrate as runner
from koinonia.ids import new_id
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers

BEFORE = 10  # the last migration without figures
ADD_MEMBER = """
INSERT INTO messaging.members (
    id, church_id, version, first_name, last_name, name_key, phone_ciphertext, phone_index, branch_id, opted_in,
    custom_fields, created_at, updated_at
)
VALUES ($1, $2, 1, '', '', gen_random_uuid()::text, '', substr(sha256(uuid_send($1)), 1, 16), $3, true, '{}', now(),
    now())
"""
IS_WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'messaging.members'::regclass)"


@pytest.fixture
async def url(servers: TestServers) -> AsyncIterator[str]:
    """An empty database of the test's own, as its administrator."""
    name = servers.new_name()
    await servers.create_database(name)
    yield servers.database_url(name)
    await servers.drop_database(name)


async def test_a_member_whom_older_code_adds_while_figures_are_made_is_counted(url: str) -> None:
    await runner.migrate(url, ["messaging"])
    newer = [step for step in runner.load("messaging") if step.version > BEFORE]
    await runner.roll_back(url, "messaging", len(newer))
    writer, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    church, branch = new_id(), new_id()
    try:
        await writer.execute(
            "INSERT INTO messaging.branches "
            "(id, church_id, version, name, description, is_default, created_at, updated_at) "
            "VALUES ($1, $2, 1, 'Main', '', true, now(), now())",
            branch,
            church,
        )
        await writer.execute(ADD_MEMBER, new_id(), church, branch)
        async with writer.transaction():
            await writer.execute(ADD_MEMBER, new_id(), church, branch)
            migrating = asyncio.create_task(runner.migrate(url, ["messaging"]))
            await wait_until(lambda: watcher.fetchval(IS_WAITING), what="the migration at the members")
        await migrating
        rows = await watcher.fetch("SELECT branch_id, members, opted_in FROM messaging.branch_people")
        assert [tuple(row) for row in rows] == [(branch, 2, 2)]
    finally:
        await writer.close()
        await watcher.close()
