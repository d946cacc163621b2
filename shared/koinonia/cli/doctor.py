"""``koinonia doctor``: what is reachable, at which version, and what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import asyncpg
import click
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from koinonia import clock
from koinonia.bus import dead_letters
from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.link import Link
from koinonia.cli import doctor_database
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import Places, find_places
from koinonia.cli.prepare import database_errors
from koinonia.db import migrate
from koinonia.db.migrate import MigrationError
from koinonia.db.partitions import end_of
from koinonia.db.roles import SERVICES
from koinonia.servers.broker_admin import BrokerAdmin

PARTITIONS_AHEAD = timedelta(days=45)
# A finding: what was looked at, what was found, and whether that is as it should be.
Finding = tuple[str, str, bool]


@click.command("doctor")
@click.argument("what", type=click.Choice(["database"]), required=False, metavar="[database]")
@state_directory
def command(what: str | None, state: Path) -> None:
    """Say what is reachable, at which version, and what is wrong; exit 1 when something is.

    `doctor database` looks closer: slowest statements, lock waits, sizes, bloat, unused indexes.
    """
    places = find_places(state)
    if what == "database":
        with database_errors():
            tables = asyncio.run(doctor_database.examine(places.database()))
        for each in tables:
            Console().print(each)
        return
    findings = asyncio.run(_examine(places))
    table = Table("", "what", "found")
    for name, found, good in findings:
        table.add_row("[green]✓[/]" if good else "[red]✗[/]", name, found)
    Console().print(table)
    if not all(good for *_, good in findings):
        raise click.exceptions.Exit(1)


async def _examine(places: Places) -> list[Finding]:
    checks: list[tuple[str, Callable[[Places], Awaitable[list[Finding]]]]] = [
        ("PostgreSQL", _database),
        ("migrations", _migrations),
        ("partitions", _partitions),
        ("RabbitMQ", _broker),
        ("dead letters", _dead_letters),
        ("Redis", _redis),
    ]
    return [finding for name, check in checks for finding in await _tried(name, check, places)]


async def _tried(name: str, check: Callable[[Places], Awaitable[list[Finding]]], places: Places) -> list[Finding]:
    expected = (
        CommandFailed, MigrationError, BrokerUnavailable, OSError, TimeoutError,
        asyncpg.PostgresError, aiohttp.ClientError, RedisError,
    )  # fmt: skip
    try:
        return await asyncio.wait_for(check(places), 20)
    except expected as error:
        return [(name, str(error) or type(error).__name__, False)]


async def _database(places: Places) -> list[Finding]:
    connection = await asyncpg.connect(places.database(), timeout=5)
    try:
        version = await connection.fetchval("SHOW server_version")
        limit = int(await connection.fetchval("SHOW max_connections"))
        used = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    finally:
        await connection.close()
    return [
        ("PostgreSQL", str(version), int(str(version).split(".", 1)[0]) >= 15),
        ("connections", f"{used} of {limit}", used <= limit - 10),
    ]


async def _migrations(places: Places) -> list[Finding]:
    steps = await migrate.status(places.database())
    waiting = [f"{step.service} {step.version:04} {step.name}" for step in steps if step.applied_at is None]
    return [
        ("migrations", f"not applied: {', '.join(waiting)}" if waiting else f"all {len(steps)} applied", not waiting)
    ]


async def _partitions(places: Places) -> list[Finding]:
    ends = await end_of(places.database(), SERVICES)
    if not ends:
        return [("partitions", "none", False)]
    first = min(ends.values())
    return [("partitions", f"until {first:%Y-%m-%d}", first - clock.now() > PARTITIONS_AHEAD)]


async def _broker(places: Places) -> list[Finding]:
    places.amqp()
    async with BrokerAdmin(places.management_url or "") as admin:
        return [("RabbitMQ", await admin.version(), True)]


async def _dead_letters(places: Places) -> list[Finding]:
    link = Link(places.amqp(), "koinonia doctor")
    try:
        counts = await dead_letters.count(link)
    finally:
        await link.close()
    found = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return [("dead letters", found or "none", not found)]


async def _redis(places: Places) -> list[Finding]:
    if places.redis_url is None:
        raise CommandFailed("KOINONIA_REDIS_URL is not set, and no `koinonia up` runs here (see --state-dir)")
    async with Redis.from_url(places.redis_url, socket_timeout=3, socket_connect_timeout=3) as client:
        return [("Redis", str((await client.info("server"))["redis_version"]), True)]
