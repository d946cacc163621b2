"""``koinonia migrate``: schemas, roles, partitions, queues and broker users."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from koinonia.cli import prepare
from koinonia.cli.environment import read
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import Places, find_places
from koinonia.db import migrate
from koinonia.db.roles import SERVICES


@click.command("migrate")
@click.argument("services", nargs=-1, type=click.Choice(SERVICES), metavar="[SERVICE]...")
@click.option("--down", type=click.IntRange(min=1), help="Take back the last N migrations of one SERVICE.")
@click.option("--status", "show_status", is_flag=True, help="Show each migration, and when it was applied.")
@state_directory
def command(services: tuple[str, ...], down: int | None, show_status: bool, state: Path) -> None:
    """Bring the schemas, roles, queues and broker users of the SERVICEs (all, unless named) up to date.

    It takes an administrator's KOINONIA_DATABASE_URL (or _DIRECT_URL) and KOINONIA_AMQP_URL; where they are not set,
    those of a `koinonia up` that runs. KOINONIA_<SERVICE>_PASSWORD, where set, becomes the password of that service's
    database role and broker user.
    """
    places = find_places(state)
    chosen = services or SERVICES
    if show_status:
        _print_status(asyncio.run(migrate.status(places.database(), chosen)))
    elif down is not None:
        if len(services) != 1:
            raise CommandFailed("--down needs the one SERVICE whose migrations are taken back")
        _report(asyncio.run(migrate.roll_back(places.database(), services[0], down)), "taken back")
    else:
        asyncio.run(_up(places, chosen))


async def _up(places: Places, services: Sequence[str]) -> None:
    passwords = {name: value for name, value in read().passwords().items() if name in services}
    _report(await prepare.prepare_database(places.database(), services, passwords), "applied")
    if places.amqp_url and places.management_url:
        await prepare.prepare_broker(places.amqp_url, places.management_url, passwords)


def _report(steps: Sequence[str], what: str) -> None:
    for step in steps:
        click.echo(f"{what} {step}")
    if not steps:
        click.echo(f"nothing to be {what}")


def _print_status(migrations: Sequence[migrate.MigrationStatus]) -> None:
    table = Table("service", "migration", "applied")
    for each in migrations:
        applied = f"{each.applied_at:%Y-%m-%d %H:%M:%S} UTC" if each.applied_at else "no"
        table.add_row(each.service, f"{each.version:04} {each.name}", applied)
    Console().print(table)
