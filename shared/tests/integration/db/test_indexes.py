"""Each index of ours is for a query that docs/indexes.md names, and none is there without."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from koinonia.db import migrate as runner
from koinonia.db.roles import SERVICES
from koinonia.testing.servers import TestServers

PAGE = Path(__file__).parents[4] / "docs" / "indexes.md"
INDEXES = """
    SELECT
        nspname || '.' || class.relname AS name,
        regexp_replace(pg_get_indexdef(class.oid), '^.* USING ', '') AS definition,
        indisunique AS is_unique
    FROM pg_index
    JOIN pg_class AS class ON class.oid = indexrelid
    JOIN pg_class AS indexed ON indexed.oid = indrelid
    JOIN pg_namespace ON pg_namespace.oid = indexed.relnamespace
    WHERE nspname = ANY ($1) AND NOT indisprimary AND NOT indexed.relispartition
    ORDER BY 1
"""


@pytest.fixture
async def connection(servers: TestServers) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    name = servers.new_name()
    await servers.create_database(name)
    await runner.migrate(servers.database_url(name))
    opened = await asyncpg.connect(servers.database_url(name))
    yield opened
    await opened.close()
    await servers.drop_database(name)


async def test_every_index_is_on_the_page_with_its_query_and_no_other_is(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    rows = await connection.fetch(INDEXES, SERVICES)
    assert written() == {row["name"]: row["is_unique"] for row in rows}


def written() -> dict[str, bool]:
    """The page's indexes, and whether each says that it keeps something unique."""
    lines = re.findall(r"^\| `(\w+\.\w+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert all(purpose and test for _, purpose, test in lines)
    return {name: "unique" in purpose for name, purpose, _ in lines}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:services|shared|tests-e2e)/[\w/]+\.py)`", PAGE.read_text()))
    assert named
    assert [path for path in sorted(named) if not (PAGE.parents[1] / path).is_file()] == []
