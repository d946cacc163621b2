"""``koinonia delivery``: how sending stands, and why somebody got a text, or did not."""

import asyncio
import importlib
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import click
import msgspec

from koinonia.api.messages import RecipientStatus, TrailEntry
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.db.operators import reading
from koinonia.errors import NotFound
from koinonia.trail import ASKED, DeliveryPart, Part, actors, merge, trace_id


class OperatorsTrail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A trail as an operator sees it: with the church, and the trace to look up."""

    church_id: UUID
    message_id: UUID
    recipient_id: UUID
    status: RecipientStatus
    trace_id: str | None
    entries: list[TrailEntry]


@click.group("delivery")
def command() -> None:
    """Show how sending stands; tell why somebody got a text, or did not."""


@command.command("trail")
@click.argument("recipient_id", type=click.UUID, metavar="RECIPIENT_ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@state_directory
def trail_command(recipient_id: UUID, as_json: bool, state: Path) -> None:
    """Tell everything that happened to one recipient's copy, with the trace id.

    RECIPIENT_ID stands in `GET /api/messages/{id}/recipients`, and in logs.
    """
    with database_errors(), schema_errors():
        trail = asyncio.run(collect(find_places(state).database(), recipient_id))
    if as_json:
        click.echo(msgspec.json.encode(trail))
        return
    click.echo(f"recipient  {trail.recipient_id}  {trail.status}")
    click.echo(f"message    {trail.message_id} of church {trail.church_id}")
    click.echo(f"trace      {trail.trace_id or '-'}")
    for entry in trail.entries:
        click.echo(f"{_time(entry.at)}  {entry.service:<12}  {entry.sentence}{_figures(entry)}")


def _figures(entry: TrailEntry) -> str:
    told = {"code": entry.code, "attempt": entry.attempt, "began": entry.began_at, "until": entry.until}
    words = [f"{name} {_time(value)}" for name, value in told.items() if value is not None]
    return f" ({', '.join(words)})" if words else ""


def _time(value: datetime | str | int) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S.%f}"[:-3] if isinstance(value, datetime) else str(value)


async def collect(admin_url: str, recipient_id: UUID) -> OperatorsTrail:
    """Ask each service's own function in the database; they are found by their services' names."""
    connection = await asyncpg.connect(admin_url, timeout=5)
    try:
        async with reading(connection, "delivery") as tx:
            begun: DeliveryPart = await _of("delivery").begin(tx, recipient_id)
        church_id, parts = begun.church_id, [begun.part]
        for service in ASKED:
            async with reading(connection, service, church_id) as tx:
                part: Part = await _of(service).tell(tx, begun.question)
                parts.append(part)
        async with reading(connection, "gateway", church_id) as tx:
            names = await _module("koinonia_gateway.store.actors").list_names(tx, actors(parts))
    except NotFound as error:
        raise CommandFailed(f"there is no recipient {recipient_id}") from error
    finally:
        await connection.close()
    return OperatorsTrail(
        church_id=church_id,
        message_id=begun.question.source_id,
        recipient_id=recipient_id,
        status=begun.question.status,
        trace_id=trace_id(parts),
        entries=merge(parts, names),
    )


def _of(service: str) -> Any:
    return _module(f"koinonia_{service}.trail")


def _module(name: str) -> Any:
    """A service's module, found by its name as its migrations are: what is shared imports no service."""
    return importlib.import_module(name)


for _name in ("status_command", "emails_command"):
    command.add_command(getattr(_module("koinonia_delivery.commands"), _name))
