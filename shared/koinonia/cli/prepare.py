"""Making a database and a broker fit for the services: schemas, roles, users, queues."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import aiohttp
import asyncpg
from yarl import URL

from koinonia.bus.declare import declare
from koinonia.bus.link import broker_errors, connect
from koinonia.cli import broker_users, scram
from koinonia.cli.main import CommandFailed
from koinonia.db.migrate import migrate
from koinonia.servers import ServersUnavailable

DATABASE = "koinonia"


@contextmanager
def database_errors() -> Iterator[None]:
    """Say in one line that the database cannot be reached."""
    try:
        yield
    except (
        OSError,
        TimeoutError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
    ) as error:
        raise ServersUnavailable(f"KOINONIA_DATABASE_URL: {str(error) or type(error).__name__}") from error


@contextmanager
def schema_errors() -> Iterator[None]:
    """Say in one line that what is to be read is not there, or not to be read by this role."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError) as error:
        raise CommandFailed(f"the database is not up to date; run `koinonia migrate` ({error})") from error
    except asyncpg.InvalidParameterValueError as error:  # the role that is to be taken on
        raise CommandFailed(f"the database holds no platform; run `koinonia migrate` ({error})") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise CommandFailed(f"KOINONIA_DATABASE_URL is not an administrator's ({error})") from error


async def ensure_database(admin_url: str) -> str:
    """Make the platform's database in a private server if it is not there; returns its URL."""
    connection = await asyncpg.connect(admin_url)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()
    return str(URL(admin_url).with_path(f"/{DATABASE}"))


async def ensure_statistics(admin_url: str) -> None:
    """Count statements for ``koinonia doctor database``, where the server can."""
    connection = await asyncpg.connect(admin_url)
    try:
        loaded = await connection.fetchval("SHOW shared_preload_libraries")
        if "pg_stat_statements" in loaded:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    finally:
        await connection.close()


async def prepare_database(admin_url: str, services: Sequence[str], passwords: Mapping[str, str]) -> list[str]:
    """Roles, schemas, partitions; returns the migrations that were applied."""
    with database_errors():
        applied = await migrate(admin_url, services, _verifiers(passwords))
    await ensure_statistics(admin_url)
    return applied


def _verifiers(passwords: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for service, password in passwords.items():
        try:
            found[service] = scram.verifier(password)
        except UnicodeEncodeError:
            raise CommandFailed(f"KOINONIA_{service.upper()}_PASSWORD: only ASCII characters may stand in it") from None
    return found


async def prepare_broker(amqp_url: str, management_url: str, passwords: Mapping[str, str]) -> None:
    """Exchanges, queues, and each service's user."""
    with broker_errors():
        connection = await connect(amqp_url, timeout=10)
        async with connection, connection.channel() as channel:
            await declare(channel)
    try:
        await broker_users.ensure(amqp_url, management_url, passwords)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServersUnavailable(f"KOINONIA_AMQP_MANAGEMENT_URL: {error}") from error


async def check_connections(admin_url: str, needed: int) -> None:
    """See to it that the server has room.

    Raises:
        ServersUnavailable: it has fewer than ``needed`` connections, ten being kept free.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        limit = int(await connection.fetchval("SHOW max_connections"))
    finally:
        await connection.close()
    if needed > limit - 10:
        raise ServersUnavailable(
            f"the processes may open {needed} database connections, the server allows {limit} - 10: "
            "raise its max_connections, or lower KOINONIA_DATABASE_POOL_SIZE or the number of processes"
        )
