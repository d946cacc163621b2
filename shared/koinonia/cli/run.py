"""``koinonia run``: one service in the foreground, with its own settings; what a container runs."""

import asyncio
import importlib.util
import os
import ssl
import sys

import asyncpg
import click
import msgspec

from koinonia import settings, tls
from koinonia.cli import prepare
from koinonia.cli.main import CommandFailed
from koinonia.cli.platform import KINDS, LISTENERS, module_of
from koinonia.cli.processes import python_module
from koinonia.settings import AmqpUrl, Count, DatabaseUrl, RedisUrl


class _Servers(msgspec.Struct, frozen=True, kw_only=True):
    database_url: DatabaseUrl
    database_pool_size: Count = 10
    amqp_url: AmqpUrl | None = None
    redis_url: RedisUrl | None = None


@click.command("run")
@click.argument("service", type=click.Choice(sorted(KINDS)), metavar="SERVICE")
def command(service: str) -> None:
    """Run one SERVICE in the foreground. It takes its own settings: its own role's and broker user's URLs."""
    module = module_of(service)
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise CommandFailed(f"{module} is not installed")
    asyncio.run(_check(settings.load(_Servers)))
    command_line = python_module(module)
    sys.stdout.flush()
    os.execv(command_line[0], command_line)  # noqa: S606 - this process becomes the service


async def _check(servers: _Servers) -> None:
    """Refuse a server whose certificate is not believed, and a pool that the database has no room for.

    A server that is away is the service's to wait for.
    """
    wrong = {name: await tls.distrust(getattr(servers, name) or "") for name in ("amqp_url", "redis_url")}
    try:
        await prepare.check_connections(servers.database_url, servers.database_pool_size + LISTENERS)
    except ssl.SSLCertVerificationError as error:
        wrong["database_url"] = error.verify_message
    except (OSError, TimeoutError, asyncpg.PostgresError):
        pass
    for name, why in wrong.items():
        if why:
            raise CommandFailed(f"{settings.variable(name)}: the server's certificate is not believed: {why}")
