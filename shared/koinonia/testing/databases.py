"""A database per test: a clone of one that was migrated once per run, or one that an earlier test has used, emptied."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from koinonia.db import Database
from koinonia.db.migrate import migrate
from koinonia.testing.reuse import Reuse
from koinonia.testing.servers import OwnServers, TestServers

Databases = Callable[[str], Awaitable[Database]]
DatabaseUrls = Callable[[str], Awaitable[str]]


@pytest.fixture(scope="session")
async def reuse() -> AsyncIterator[Reuse]:
    """The databases that wait for another test of this process."""
    waiting = Reuse()
    yield waiting
    await waiting.close()


@pytest.fixture
async def database_urls(servers: TestServers, reuse: Reuse) -> AsyncIterator[DatabaseUrls]:
    """``await database_urls("messaging")``: the URL, as the service's role, of a migrated database of this test's own.

    The same service has the same database for as long as the test runs. It may change whatever it likes in there.
    """
    made: dict[str, str] = {}
    are_killed = isinstance(servers, OwnServers)  # nothing waits in servers that tests kill

    async def make(service: str) -> str:
        if service not in made:
            source = Reuse() if are_killed else reuse
            made[service] = await source.take(servers, service, await template(servers, service))
        return servers.database_url(made[service], service)

    yield make
    for service, name in made.items():
        if are_killed:
            await servers.drop_database(name)
        else:
            await reuse.give_back(servers, service, name)


@pytest.fixture
async def databases(database_urls: DatabaseUrls) -> AsyncIterator[Databases]:
    """``await databases("messaging")``: an open `Database` on this test's clone, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def open_database(service: str) -> Database:
            database = await Database.open(await database_urls(service), service)
            stack.push_async_callback(database.close)
            return database

        yield open_database


async def template(servers: TestServers, service: str) -> str:
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
