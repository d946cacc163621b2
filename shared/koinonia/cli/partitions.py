"""``koinonia partitions``: the monthly partitions of the tables that grow."""

import asyncio
from pathlib import Path

import click

from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors
from koinonia.db.partitions import maintain
from koinonia.db.roles import SERVICES


@click.group("partitions")
def command() -> None:
    """Keep the partitioned tables' partitions made ahead."""


@command.command("maintain")
@state_directory
def maintain_command(state: Path) -> None:
    """Make the partitions that are missing, from last month to three months ahead."""
    with database_errors():
        made = asyncio.run(maintain(find_places(state).database(), SERVICES))
    for name in made:
        click.echo(f"made {name}")
    if not made:
        click.echo("nothing to be made")
