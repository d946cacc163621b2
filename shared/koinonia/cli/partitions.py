"""``koinonia partitions``: the monthly partitions of the tables that grow, and their archives."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import click
import msgspec
from rich.console import Console
from rich.table import Table

from koinonia import clock, settings
from koinonia.cli import environment
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.places import find_places
from koinonia.cli.prepare import database_errors
from koinonia.cli.state import StateDirectory
from koinonia.db import partitions
from koinonia.db.archives import Archive, ArchiveDamaged, Archives
from koinonia.db.archiving import Archivist, NoSuchPartition, Partition, RowsOpen
from koinonia.db.roles import SERVICES
from koinonia.files import FileSettings, FilesUnavailable, open_files
from koinonia.settings import SettingsError

T = TypeVar("T")
Days = Annotated[int, msgspec.Meta(ge=31)]
DAY_SECONDS = 86_400.0


class ArchiveSettings(FileSettings, frozen=True, kw_only=True):
    """How long what is in a month stays in the database, and how long it is kept at all."""

    archive_after_days: Days = 365
    retention_days: Days = 2555  # seven years


class Keeper:
    """Keeps the partitions of a platform: made ahead, archived in time, dropped in the end."""

    def __init__(self, admin_url: str, archivist: Archivist, wanted: ArchiveSettings) -> None:
        self._admin_url = admin_url
        self._archivist = archivist
        self._wanted = wanted

    async def keep(self) -> list[str]:
        """Do what is due; answers a line for each thing that was done."""
        done = [f"made {name}" for name in await partitions.maintain(self._admin_url, SERVICES)]
        done += [archived(each) for each in await self.archive_due()]
        return done + [dropped(each) for each in await self.drop_due()]

    async def archive_due(self) -> list[Archive]:
        """Archive what is old enough."""
        before = clock.now() - timedelta(days=self._wanted.archive_after_days)
        return await self._archivist.archive_due(SERVICES, before)

    async def drop_due(self) -> list[Archive]:
        """Delete the archives that nobody may keep any longer."""
        return await self._archivist.drop_due(SERVICES, clock.now() - timedelta(days=self._wanted.retention_days))


def make_keeper(admin_url: str, state: Path) -> Keeper:
    """A keeper by the settings as they are now.

    Raises:
        SettingsError: one is malformed, or archives would be dropped before they are made.
    """
    wanted = settings.load(ArchiveSettings)
    if wanted.retention_days <= wanted.archive_after_days:
        raise SettingsError("KOINONIA_RETENTION_DAYS must be more than KOINONIA_ARCHIVE_AFTER_DAYS")
    return Keeper(admin_url, make_archivist(admin_url, state, wanted), wanted)


def make_archivist(admin_url: str, state: Path, wanted: FileSettings | None = None) -> Archivist:
    """An archivist of the files that the settings name, else of those in the state directory."""
    return Archivist(admin_url, make_archives(admin_url, state, wanted))


def make_archives(admin_url: str, state: Path, wanted: FileSettings | None = None) -> Archives:
    """The archives among the files that the settings name, else of those in the state directory."""
    encrypted = environment.read().environment == "production"
    files = open_files(wanted or settings.load(FileSettings), StateDirectory(state).path / "files", encrypted=encrypted)
    return Archives(files, admin_url)


def archived(archive: Archive) -> str:
    """What is said of an archive that was made."""
    return f"archived {archive.name}: {archive.rows} rows in {archive.bytes} bytes"


def dropped(archive: Archive) -> str:
    """What is said of an archive that was deleted."""
    return f"dropped {archive.name}: {archive.rows} rows"


@click.group("partitions")
def command() -> None:
    """Keep the partitioned tables' partitions made ahead, archive old ones, read them back, drop them in the end."""


@command.command("maintain")
@click.option("--daily", is_flag=True, help="Stay, and do so every day.")
@state_directory
def maintain_command(daily: bool, state: Path) -> None:
    """Make the partitions that are missing, from last month to three months ahead; archive and drop what is due.

    A month is archived when it ended KOINONIA_ARCHIVE_AFTER_DAYS ago and none of its rows is open, its archive dropped
    after KOINONIA_RETENTION_DAYS. A running `koinonia up` does this every day by itself.
    """
    keeper = make_keeper(find_places(state).database(), state)
    if daily:
        asyncio.run(_keep_daily(keeper))
    _tell(_run(keeper.keep()), "nothing to be made, archived or dropped")


async def _keep_daily(keeper: Keeper) -> None:
    while True:
        await keep_once(keeper)
        await asyncio.sleep(DAY_SECONDS)


async def keep_once(keeper: Keeper) -> None:
    """Do what is due, and say so; what fails is said, and tried again the next time."""
    try:
        for line in await keeper.keep():
            click.echo(line)
    except FAILURES as error:
        reason = str(error) if isinstance(error, FilesUnavailable | ArchiveDamaged) else type(error).__name__
        click.echo(f"partitions were not kept: {reason}; trying again tomorrow", err=True)


FAILURES = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, FilesUnavailable, ArchiveDamaged,
)  # fmt: skip
"""What the next time may mend."""


@command.command("archive")
@click.argument("names", nargs=-1, metavar="[PARTITION]...")
@state_directory
def archive_command(names: Sequence[str], state: Path) -> None:
    """Archive these PARTITIONs (such as delivery.recipients_2025_11), or all that are old enough.

    Each is detached, written to a compressed file with a checksum, read again, and only then dropped; broken off, it is
    taken up by the next call. One with a row whose fate is open stays.
    """
    admin_url = find_places(state).database()
    if not names:
        _tell([archived(each) for each in _run(make_keeper(admin_url, state).archive_due())], "nothing to be archived")
    for name in names:
        click.echo(archived(_run(make_archivist(admin_url, state).archive(name))))


@command.command("restore")
@click.argument("names", nargs=-1, required=True, metavar="PARTITION...")
@state_directory
def restore_command(names: Sequence[str], state: Path) -> None:
    """Read PARTITIONs back into their tables, for thirty days, or until they are archived by name."""
    archivist = make_archivist(find_places(state).database(), state)
    for name in names:
        archive = _run(archivist.restore(name))
        click.echo(f"restored {archive.name}: {archive.rows} rows")


@command.command("list")
@state_directory
def list_command(state: Path) -> None:
    """List partitions and archives."""
    found, archives = _run(make_archivist(find_places(state).database(), state).look(SERVICES))
    table = Table("partition", "where", "rows", "bytes", "archived")
    kept = {each.name: each for each in archives}
    for name in sorted({each.name for each in found} | kept.keys()):
        here = next((each for each in found if each.name == name), None)
        archive = kept.get(name)
        table.add_row(
            name,
            " + ".join(filter(None, [_where(here), "archive" if archive else None])),
            f"{archive.rows:,}" if archive else "",
            f"{archive.bytes:,}" if archive else "",
            f"{archive.archived_at:%Y-%m-%d %H:%M} UTC" if archive else "",
        )
    Console().print(table)


def _where(here: Partition | None) -> str | None:
    if here is None:
        return None
    if not here.attached or here.pending:
        return "detached"
    return "restored" if here.restored_at else "table"


@command.command("drop")
@click.argument("names", nargs=-1, metavar="[PARTITION]...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_directory
def drop_command(names: Sequence[str], yes: bool, state: Path) -> None:
    """Delete the archives of these PARTITIONs, for good, or all that are older than the longest retention."""
    admin_url = find_places(state).database()
    if not names:
        _tell([dropped(each) for each in _run(make_keeper(admin_url, state).drop_due())], "nothing to be dropped")
    for name in names:
        if not yes:
            click.confirm(f"Delete the archive of {name}? It cannot be had again", abort=True)
        click.echo(dropped(_run(make_archivist(admin_url, state).drop(name))))


def _tell(lines: Sequence[str], nothing: str) -> None:
    for line in lines or [nothing]:
        click.echo(line)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what an operator can mend is one line."""
    try:
        with database_errors():
            return asyncio.run(work)
    except (ArchiveDamaged, FilesUnavailable, NoSuchPartition, RowsOpen) as error:
        raise CommandFailed(str(error)) from None
    except asyncpg.LockNotAvailableError as error:
        raise CommandFailed(f"the table is in use; try again: {error}") from None
