"""``koinonia messaging rebuild-figures``: compare figures with a count over their rows, and put them right."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import click
import msgspec

from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors, schema_errors
from koinonia.db.operators import reading, writing
from koinonia_messaging import figures
from koinonia_messaging.store import figures as store
from koinonia_messaging.store.figures import Difference


class Wrong(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A row of a church's figures that did not equal its rows."""

    church_id: UUID
    table: str
    key: str  # the day, or the branch
    missing: dict[str, int]


class Compared(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run has found."""

    churches: int
    wrong: list[Wrong]


@click.command("rebuild-figures")
@click.option("--church", "church_id", type=click.UUID, metavar="ID", help="Of this church alone.")
@click.option("--dry-run", is_flag=True, help="Only tell what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
@state_directory
def rebuild_command(state: Path, church_id: UUID | None, *, dry_run: bool, as_json: bool) -> None:
    """Compare the figures of dashboards, days and branches with their rows, and put right what differs.

    It may run at any time: nobody waits for it.
    """
    with database_errors(), schema_errors():
        compared = asyncio.run(rebuild(find_places(state).database(), church_id, correct=not dry_run))
    if as_json:
        click.echo(msgspec.json.encode(compared))
        return
    for each in compared.wrong:
        missing = ", ".join(f"{name} {count:+}" for name, count in each.missing.items())
        click.echo(f"{each.church_id}  {each.table} {each.key}: {missing}")
    done = "found" if dry_run else "corrected"
    click.echo(f"{compared.churches} churches, {len(compared.wrong)} rows {done}")


async def rebuild(admin_url: str, church_id: UUID | None = None, *, correct: bool = True) -> Compared:
    """Compare one church or all, each in a transaction of its own; ``correct``: and put right."""
    connection = await asyncpg.connect(admin_url, timeout=5)
    try:
        churches, wrong = 0, []
        async for each in _churches(connection, church_id):
            churches += 1
            wrong += [
                Wrong(church_id=each, table=found.table, key=found.key, missing=found.missing)
                for found in await _compare(connection, each, correct=correct)
            ]
        return Compared(churches=churches, wrong=wrong)
    finally:
        await connection.close()


async def _churches(connection: "asyncpg.Connection[asyncpg.Record]", church_id: UUID | None) -> AsyncIterator[UUID]:
    if church_id is not None:
        yield church_id
        return
    after: UUID | None = None
    while True:
        async with reading(connection, "messaging") as tx:
            page = await store.list_churches(tx, after)
        for each in page:
            yield each
        if not page:
            return
        after = page[-1]


async def _compare(
    connection: "asyncpg.Connection[asyncpg.Record]", church_id: UUID, *, correct: bool
) -> list[Difference]:
    async with writing(connection, "messaging", church_id) as tx:
        return await (figures.rebuild(tx, church_id) if correct else store.compare(tx, church_id, correct=False))
