"""``koinonia church suspend``, ``resume`` and ``announce``: a church may not go on for now, or is told of anew."""

import asyncio
import getpass
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
import click

from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.db.operators import changing, writing
from koinonia.errors import NotFound
from koinonia_gateway import churches
from koinonia_gateway.audit import Actor

BATCH = 500
"""Of so many churches at once the others are told."""


@click.command("suspend")
@click.argument("church_id", type=click.UUID, metavar="CHURCH")
@state_directory
def suspend_command(church_id: UUID, state: Path) -> None:
    """Shut CHURCH (its id) out, and send nothing of it any more.

    Within a second its sessions and API keys get 403; within seconds its numbers rest and its broadcasts are declined.
    Inbound texts and STOP are taken as before. What waits to be sent stays, and goes when the church is resumed.
    """
    _report(state, church_id, "suspended")


@click.command("resume")
@click.argument("church_id", type=click.UUID, metavar="CHURCH")
@state_directory
def resume_command(church_id: UUID, state: Path) -> None:
    """Let CHURCH (its id), which was suspended, go on."""
    _report(state, church_id, "active")


@click.command("announce")
@click.argument("church_id", type=click.UUID, metavar="[CHURCH]", required=False)
@click.option("--all", "everybody", is_flag=True, help="Of every church but those that were erased.")
@state_directory
def announce_command(church_id: UUID | None, everybody: bool, state: Path) -> None:
    """Tell all services anew of the settings of CHURCH (its id), as they are.

    After an upgrade: a service that obeys a setting since this version knows it from then on, where it was made before.
    Nothing changes for the church, and it can be repeated, also where it was broken off.
    """
    if (church_id is None) != everybody:
        raise click.UsageError("name a CHURCH, or say --all")
    with database_errors(), schema_errors():
        count = asyncio.run(announce(find_places(state).database(), church_id))
    click.echo(f"churches that were announced: {count}")


def _report(state: Path, church_id: UUID, status: Literal["active", "suspended"]) -> None:
    with database_errors(), schema_errors():
        changed = asyncio.run(set_status(find_places(state).database(), church_id, status))
    click.echo(f"church {church_id} is {status}{'' if changed else ' already'}")


async def set_status(admin_url: str, church_id: UUID, status: Literal["active", "suspended"]) -> bool:
    """Suspend a church or let it go on; False: it is so already.

    Raises:
        CommandFailed: there is no such church.
    """
    connection = await asyncpg.connect(admin_url, timeout=5, server_settings={"lock_timeout": "5000"})
    try:
        async with writing(connection, "gateway", church_id) as tx:
            return await churches.set_status(tx, status, Actor.operator(), operator=getpass.getuser())
    except NotFound:
        raise CommandFailed(f"there is no church {church_id}") from None
    finally:
        await connection.close()


async def announce(admin_url: str, church_id: UUID | None, batch: int = BATCH) -> int:
    """Tell the other services anew of a church, or (None) of all, a transaction for each ``batch``; answers how many.

    Raises:
        CommandFailed: there is no such church, or it was erased.
    """
    connection = await asyncpg.connect(admin_url, timeout=5, server_settings={"lock_timeout": "5000"})
    try:
        count, after = 0, None
        while True:
            async with changing(connection, "gateway") as tx:
                told = await churches.announce(tx, batch, church_id=church_id, after=after)
            count += len(told)
            if church_id is not None or len(told) < batch:
                break
            after = told[-1]
    finally:
        await connection.close()
    if church_id is not None and count == 0:
        raise CommandFailed(f"there is no church {church_id}")
    return count
