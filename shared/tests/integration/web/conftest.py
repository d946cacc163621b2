"""The world of the web layer's tests: see `koinonia.testing.web_world`."""

import base64
from collections.abc import AsyncIterator
from importlib.resources import files
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from koinonia.db import Database
from koinonia.db.roles import ensure_roles
from koinonia.security import Keys
from koinonia.testing.servers import TestServers
from koinonia.testing.web_world import SERVICE, TABLES, Notes
from koinonia.web import Server


@pytest.fixture
def keys() -> Keys:
    key = base64.b64encode(b"k" * 32).decode()
    return Keys.parse(encryption_keys=f"a:{key}", token_keys=f"a:{key}", blind_index_key=key)


@pytest.fixture(scope="session")
async def notes_database(servers: TestServers) -> AsyncIterator[Database]:
    """One for all tests: each is a church of its own."""
    name = servers.new_name()
    await servers.create_database(name)
    admin = await asyncpg.connect(servers.database_url(name))
    await ensure_roles(admin, SERVICE, servers.password(SERVICE))
    await admin.execute((files("koinonia.db") / "tools.sql").read_text("utf-8"))
    await admin.execute(TABLES)
    await admin.close()
    database = await Database.open(
        servers.database_url(name, SERVICE), SERVICE, pool_size=4, acquire_timeout_seconds=0.5
    )
    yield database
    await database.close()
    await servers.drop_database(name)


@pytest.fixture
async def notes(notes_database: Database, keys: Keys, church_id: UUID) -> AsyncIterator[Notes]:
    made = Notes(notes_database, keys, church_id)
    app = made.app()
    made.server = await Server.start(app, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{made.server.port}"
    async with aiohttp.ClientSession() as session:
        made.session = session
        yield made
    await made.server.stop()
