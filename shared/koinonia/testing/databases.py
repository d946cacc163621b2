"""A database per test: a clone of one that was migrated once per run."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from koinonia.db import Database
from koinonia.db.migrate import migrate
from koinonia.testing.servers import TestServers

Databases = Callable[[str], Awaitable[Database]]
DatabaseUrls = Callable[[str], Awaitable[str]]


@pytest.fixture
async def database_urls(servers: TestServers) -> AsyncIterator[DatabaseUrls]:
    """``await database_urls("messaging")``: the URL, as the service's role, of a migrated database of this test's own.

    The same service has the same database for as long as the test runs.
    """
    made: dict[str, str] = {}

    async def make(service: str) -> str:
        if service not in made:
            template = await _template(servers, service)
            made[service] = servers.new_name()
            await servers.create_database(made[service], template)
        return servers.database_url(made[service], service)

    yield make
    for name in made.values():
        await servers.drop_database(name)


@pytest.fixture
async def databases(database_urls: DatabaseUrls) -> AsyncIterator[Databases]:
    """``await databases("messaging")``: an open `Database` on this test's clone, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def open_database(service: str) -> Database:
            database = await Database.open(await database_urls(service), service)
            stack.push_async_callback(database.close)
            return database

        yield open_database


async def _template(servers: TestServers, service: str) -> str:
    """Return the migrated database to clone; the first process that asks makes it."""
    name = f"{servers.name}_template_{service}"
    made = servers.run.directory / f"template-{service}"
    with servers.run.lock(f"template-{service}"):
        if not made.exists():
            await servers.drop_database(name)
            await servers.create_database(name)
            password = servers.password(service)
            await migrate(servers.database_url(name), [service], {service: password} if password else None)
            made.touch()
    return name
