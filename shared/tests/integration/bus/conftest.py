"""The world of the bus's tests: see `koinonia.testing.bus_world`."""

from collections.abc import AsyncIterator
from importlib.resources import files

import asyncpg
import pytest

from koinonia.db import Database
from koinonia.db.roles import ensure_roles
from koinonia.testing.bus_world import SERVICE, TABLES, World
from koinonia.testing.servers import TestServers


@pytest.fixture
async def bus_database(servers: TestServers) -> AsyncIterator[Database]:
    name = servers.new_name()
    await servers.create_database(name)
    admin = await asyncpg.connect(servers.database_url(name))
    await ensure_roles(admin, SERVICE, servers.password(SERVICE))
    await admin.execute((files("koinonia.db") / "tools.sql").read_text("utf-8"))
    await admin.execute(TABLES)
    await admin.close()
    database = await Database.open(servers.database_url(name, SERVICE), SERVICE)
    yield database
    await database.close()
    await servers.drop_database(name)


@pytest.fixture
async def world(empty_vhost: str, bus_database: Database) -> AsyncIterator[World]:
    made = World(empty_vhost, bus_database)
    await made.declare()
    yield made
    await made.end()
