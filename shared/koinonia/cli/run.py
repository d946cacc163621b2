"""``koinonia run``: one service in the foreground, with its own settings; what a container runs."""

import asyncio
import importlib.util
import os
import sys

import asyncpg
import click
import msgspec

from koinonia import settings
from koinonia.cli import prepare
from koinonia.cli.main import CommandFailed
from koinonia.cli.platform import KINDS, LISTENERS, module_of
from koinonia.cli.processes import python_module
from koinonia.settings import Count, DatabaseUrl


class _Pool(msgspec.Struct, frozen=True):
    database_url: DatabaseUrl
    database_pool_size: Count = 10


@click.command("run")
@click.argument("service", type=click.Choice(sorted(KINDS)), metavar="SERVICE")
def command(service: str) -> None:
    """Run one SERVICE in the foreground. It takes its own settings: its own role's and broker user's URLs."""
    module = module_of(service)
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise CommandFailed(f"{module} is not installed")
    pool = settings.load(_Pool)
    asyncio.run(_check_connections(pool))
    command_line = python_module(module)
    sys.stdout.flush()
    os.execv(command_line[0], command_line)  # noqa: S606 - this process becomes the service


async def _check_connections(pool: _Pool) -> None:
    """Refuse a pool that the server has no room for; a server that is away is the service's to wait for."""
    try:
        await prepare.check_connections(pool.database_url, pool.database_pool_size + LISTENERS)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return
