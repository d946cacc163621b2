"""What counts as left behind: any table's lease that was not given back, whoever owns the table."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from yarl import URL

from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.servers import TestServers

from .books import Reader


@pytest.fixture
async def url(servers: TestServers, database_urls: DatabaseUrls) -> str:
    """A database with delivery's tables, as its administrator."""
    return servers.database_url(URL(await database_urls("delivery")).name)


@pytest.fixture
async def reader(url: str) -> AsyncIterator[Reader]:
    reader = Reader(lambda: url)
    yield reader
    await reader.close()


async def test_a_lease_is_left_until_it_is_given_back_though_it_has_ended(url: str, reader: Reader) -> None:
    database = await asyncpg.connect(url)
    try:
        await database.execute("CREATE TABLE delivery.errands (leased_until timestamptz)")
        await database.execute("INSERT INTO delivery.errands VALUES (NULL), ('-infinity')")
        assert await reader.leases() == {}
        await database.execute("INSERT INTO delivery.errands VALUES (now() - interval '1 h'), (now() + interval '1 h')")
        assert await reader.leases() == {"delivery.errands": 2}
    finally:
        await database.close()
