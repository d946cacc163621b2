"""``koinonia admin``: for somebody whose app and recovery codes are lost, or whose sessions somebody else may have."""

import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import click

from koinonia.cli import development_keys, environment
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.cli.state import StateDirectory
from koinonia.db import Transaction
from koinonia.db.operators import reading, writing
from koinonia.security.keys import Keys
from koinonia_gateway import mfa, sessions
from koinonia_gateway.audit import Actor
from koinonia_gateway.store import admins


@click.command("reset-mfa")
@click.argument("email", metavar="EMAIL")
@state_directory
def reset_mfa_command(email: str, state: Path) -> None:
    """Turn an admin's second factor off, so that the password alone logs in.

    Make sure first, by another way than e-mail, that it is the person who asks. Their sessions end within a second, an
    e-mail tells them, and the church's audit log keeps it. Where the factor is required, it is asked for at once.
    """
    keys = _keys(state)
    with database_errors(), schema_errors():
        admin_id, church_id = asyncio.run(reset(find_places(state).database(), keys, email))
    click.echo(f"the second factor of admin {admin_id} of church {church_id} is off")


@click.command("end-sessions")
@click.argument("email", metavar="EMAIL")
@state_directory
def end_sessions_command(email: str, state: Path) -> None:
    """End every session of an admin within a second: of who lost a laptop, or should not be in any more.

    Password and second factor log in again as before; the church's audit log keeps it.
    """
    keys = _keys(state)
    with database_errors(), schema_errors():
        admin_id, church_id, count = asyncio.run(end_sessions(find_places(state).database(), keys, email))
    click.echo(f"sessions of admin {admin_id} of church {church_id} that were ended: {count}")


async def reset(admin_url: str, keys: Keys, email: str) -> tuple[UUID, UUID]:
    """Turn the second factor off; answers whose, and of which church.

    Raises:
        CommandFailed: nobody logs in with this e-mail, or without a second factor.
    """
    async with _admin(admin_url, keys, email) as (tx, admin_id, church_id):
        if not await mfa.reset(tx, keys, admin_id, Actor.operator(), operator=getpass.getuser()):
            raise CommandFailed(f"the admin {admin_id} has no second factor")
    return admin_id, church_id


async def end_sessions(admin_url: str, keys: Keys, email: str) -> tuple[UUID, UUID, int]:
    """End an admin's sessions; answers whose, of which church, and how many.

    Raises:
        CommandFailed: nobody logs in with this e-mail.
    """
    async with _admin(admin_url, keys, email) as (tx, admin_id, church_id):
        count = await sessions.end_for(tx, admin_id, operator=getpass.getuser())
    return admin_id, church_id, count


@asynccontextmanager
async def _admin(admin_url: str, keys: Keys, email: str) -> AsyncIterator[tuple[Transaction, UUID, UUID]]:
    """The admin who logs in with this e-mail, and their church, in a transaction of the church's."""
    connection = await asyncpg.connect(admin_url, timeout=5, server_settings={"lock_timeout": "5000"})
    try:
        async with reading(connection, "gateway") as tx:
            account = await admins.find_login(tx, keys.login_index(email))
        if account is None:
            raise CommandFailed("no admin logs in with this e-mail address")
        async with writing(connection, "gateway", account["church_id"]) as tx:
            yield tx, account["id"], account["church_id"]
    finally:
        await connection.close()


def _keys(state: Path) -> Keys:
    """The keys of the settings, else those made for development."""
    path = StateDirectory(state).keys
    known = development_keys.read(path) | environment.read().environ()
    try:
        return development_keys.parse(known)
    except KeyError as error:
        raise CommandFailed(f"{error.args[0]} is not set, and {path} does not exist") from None
