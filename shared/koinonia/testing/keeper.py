"""The process that owns a test run's servers: ``python -m koinonia.testing.keeper PID DIRECTORY``.

pytest-xdist's workers end at different times, so none of them can own what all of them use. The keeper does: it is
started by whichever test first needs a server, writes ``servers.json`` when they answer, and ends, with its servers and
the directory, as soon as process PID (pytest itself) is gone, however that went.
"""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import asyncpg
import msgspec

from koinonia.servers import Servers, ServersUnavailable, Wanted, find
from koinonia.servers.broker_admin import BrokerAdmin


class Found(msgspec.Struct, frozen=True):
    """Where the servers are, or why there are none."""

    database_admin_url: str = ""
    amqp_admin_url: str = ""
    management_url: str = ""
    redis_url: str = ""
    error: str = ""


async def keep(watched: int, directory: Path) -> None:
    """Run the servers until process ``watched`` ends."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    loop.add_reader(os.pidfd_open(watched), ended.set)
    try:
        servers = find(os.environ, Wanted(directory, directory))
        await servers.start()
    except ServersUnavailable as error:
        publish(directory, Found(error=str(error)))
        return
    try:
        publish(
            directory,
            Found(
                database_admin_url=servers.postgres.url,
                amqp_admin_url=servers.rabbitmq.url,
                management_url=servers.rabbitmq.management_url,
                redis_url=servers.redis.url,
            ),
        )
        await ended.wait()
        await leave_nothing(servers, directory)
    finally:
        await servers.kill()


async def leave_nothing(servers: Servers, directory: Path) -> None:
    """Drop what this run made in servers that outlive it."""
    prefix = run_name(directory)
    if servers.postgres.pid is None:
        connection = await asyncpg.connect(servers.postgres.url)
        for row in await connection.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix):
            await connection.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)')
        await connection.close()
    if servers.rabbitmq.pid is None:
        async with BrokerAdmin(servers.rabbitmq.management_url) as admin:
            for name in await admin.vhosts():
                if name.startswith(prefix):
                    await admin.delete_vhost(name)


def run_name(directory: Path) -> str:
    """Return what the names of the run's databases and virtual hosts begin with."""
    return "koinonia_" + directory.name.rpartition("-")[2].lower()


def publish(directory: Path, found: Found) -> None:
    """Write ``servers.json`` at one go."""
    draft = directory / "servers.json.new"
    draft.write_bytes(msgspec.json.encode(found))
    draft.rename(directory / "servers.json")


def main() -> None:
    """Keep, then remove the directory."""
    watched, directory = int(sys.argv[1]), Path(sys.argv[2])
    try:
        asyncio.run(keep(watched, directory))
    finally:
        if not _is_running(watched):
            shutil.rmtree(directory, ignore_errors=True)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


if __name__ == "__main__":
    main()
