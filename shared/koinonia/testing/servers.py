"""The servers of a test run, and what a test gets of its own inside them."""

import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast
from uuid import uuid4

import asyncpg
import pytest
from yarl import URL

from koinonia.servers import Wanted, find
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.servers.finding import VARIABLES, PrivateBroker, Server
from koinonia.testing.run import Run


@dataclass(frozen=True)
class TestServers:
    """Where the servers are, as their administrator, and cheap isolation inside them."""

    __test__ = False

    database_admin_url: str
    amqp_admin_url: str
    management_url: str
    redis_url: str
    run: Run
    name: str  # a prefix for what is made inside

    def database_url(self, name: str, service: str | None = None) -> str:
        """Return a database's URL, as the administrator or as a service's own role."""
        address = URL(self.database_admin_url).with_path(f"/{name}")
        if service is not None:
            address = address.with_user(f"koinonia_{service}").with_password(self.password(service))
        return str(address)

    def password(self, service: str) -> str | None:
        """Return the password of a service's role: none where the administrator needs none."""
        secret = URL(self.database_admin_url).password
        if secret is None:
            return None
        return hmac.new(secret.encode(), service.encode(), hashlib.sha256).hexdigest()

    async def create_database(self, name: str, template: str = "template1") -> None:
        """Clone a database: some 30 ms."""
        await self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    async def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected."""
        await self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def create_vhost(self, name: str) -> str:
        """Make a virtual host, and return its URL: some 12 ms."""
        async with BrokerAdmin(self.management_url) as admin:
            await admin.create_vhost(name)
        return str(URL(self.amqp_admin_url).with_path(f"/{name}"))

    async def drop_vhost(self, name: str) -> None:
        """Delete a virtual host with its queues and connections."""
        async with BrokerAdmin(self.management_url) as admin:
            await admin.delete_vhost(name)

    def new_name(self) -> str:
        """Return a name for a database or a virtual host that nobody has."""
        return f"{self.name}_{uuid4().hex[:12]}"

    async def _administer(self, command: str) -> None:
        connection = await asyncpg.connect(self.database_admin_url)
        try:
            await connection.execute(command)
        finally:
            await connection.close()


@dataclass(frozen=True)
class OwnServers(TestServers):
    """Servers of one pytest process alone, to kill and to start again, on the same port and with the same data.

    ``await servers.rabbitmq.kill()``, ``await servers.rabbitmq.start()``; so for ``postgres`` and ``redis``.
    """

    __test__ = False

    postgres: Server
    rabbitmq: PrivateBroker
    redis: Server


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """This run of pytest."""
    return request.config.stash[Run.KEY]


@pytest.fixture(scope="session")
def servers(run: Run) -> TestServers:
    """The run's servers, shared by all its processes: never kill them, take `own_servers` for that."""
    found = run.servers()
    return TestServers(
        database_admin_url=found.database_admin_url,
        amqp_admin_url=found.amqp_admin_url,
        management_url=found.management_url,
        redis_url=found.redis_url,
        run=run,
        name=run.name,
    )


@pytest.fixture(scope="session")
async def private_servers(run: Run) -> AsyncIterator[OwnServers]:
    """The servers behind `own_servers`, once per pytest process: private ones, whatever a setting names."""
    directory = run.directory / f"own-{os.getpid()}"
    directory.mkdir(mode=0o755)
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES.values()}
    private = find(environ, Wanted(directory, directory))
    await private.start()
    yield OwnServers(
        database_admin_url=private.postgres.url,
        amqp_admin_url=private.rabbitmq.url,
        management_url=private.rabbitmq.management_url,
        redis_url=private.redis.url,
        run=Run(directory, run.pid),
        name=run.name,
        postgres=private.postgres,
        rabbitmq=cast("PrivateBroker", private.rabbitmq),
        redis=private.redis,
    )
    await private.kill()


@pytest.fixture
async def own_servers(private_servers: OwnServers) -> OwnServers:
    """Servers that a test may kill: all run when it begins.

    To have databases and virtual hosts made in these, a test module overrides one fixture::

        @pytest.fixture
        def servers(own_servers: OwnServers) -> OwnServers:
            return own_servers
    """
    for server in (private_servers.postgres, private_servers.rabbitmq, private_servers.redis):
        if server.pid is None:
            await server.start()
    return private_servers
