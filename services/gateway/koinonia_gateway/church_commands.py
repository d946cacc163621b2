"""``koinonia church suspend`` and ``resume``: a church that may not go on for now."""

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
from koinonia.db.operators import writing
from koinonia.errors import NotFound
from koinonia_gateway import churches
from koinonia_gateway.audit import Actor


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
