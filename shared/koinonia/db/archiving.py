"""Archiving partitions: detached, written to a file, read again, and only then dropped; and read back.

Each step leaves what the next begins with, in the catalogue and among the files, so that a run that was broken off
anywhere is taken up by the next:

1. attached: the partition is a part of its table. One with an open row stays so;
2. detach pending: Postgres waits for transactions that use it, and was broken off: finalized;
3. detached: a table of its own that nobody but its owner reaches, so that it stands still. It is looked at for open
   rows once more (one may have been opened again before 2), and attached again if there is any;
4. detached, and its archive is there and verified;
5. gone.

A partition that was read back says so in its comment, and is left alone for thirty days.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import asyncpg
import msgspec
import structlog

from koinonia import clock
from koinonia.db import partitions
from koinonia.db.archives import Archive, Archives, Writer, read_lines
from koinonia.db.statement import statement

Connection = asyncpg.Connection

RESTORED_DAYS = 30
BATCH = 1000
LOCK_TIMEOUT = "5s"

OPEN = {"delivery.recipients": "settled_at IS NULL"}
"""What must not be archived yet, by table."""
DERIVED = {
    "delivery.recipients": (
        "problems",
        """
        INSERT INTO {derived} (source_id, status, id, church_id)
        SELECT source_id, status, id, church_id
        FROM {partition}
        WHERE id >= $1 AND id < $2
            AND status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
        """,
    )
}
"""Tables whose partitions hold nothing of their own: dropped with those of another, and made again from them."""
FOLLOWS = {("delivery", "trail"): "recipients"}
"""Tables whose rows are written with those of another: a month goes after the other's and is back before it."""

_RESTORED = "restored at "
_NAME = re.compile(r"(?P<table>[a-z_]+)_(?P<year>\d{4})_(?P<month>\d{2})")

log = structlog.get_logger()


class NoSuchPartition(Exception):
    """There is no such partition, or no such archive; the message says which."""


class RowsOpen(Exception):
    """A partition cannot be archived: what became of some of its rows is not known yet."""


@dataclass(frozen=True)
class Partition:
    """A month of a table."""

    service: str
    table: str
    partition: str
    attached: bool
    pending: bool = False  # its detaching was broken off
    restored_at: datetime | None = None

    @property
    def name(self) -> str:
        """``delivery.recipients_2025_11``."""
        return f"{self.service}.{self.partition}"

    @property
    def starts_at(self) -> datetime:
        return _starts_at(self.partition)

    @property
    def ends_at(self) -> datetime:
        """The first moment that is not its month's any more."""
        return partitions.next_month(self.starts_at)


_LIST = statement(
    "partitions.list_all",
    r"""
    SELECT
        parent.relname AS table_name, child.relname AS name, pg_inherits.inhparent IS NOT NULL AS attached,
        coalesce(pg_inherits.inhdetachpending, false) AS pending, obj_description(child.oid, 'pg_class') AS comment
    FROM pg_class AS parent
    JOIN pg_class AS child
        ON child.relnamespace = parent.relnamespace
        AND child.relkind = 'r'
        AND child.relname ~ ('^' || parent.relname || '_\d{4}_\d{2}$')
    LEFT JOIN pg_inherits ON pg_inherits.inhrelid = child.oid AND pg_inherits.inhparent = parent.oid
    WHERE parent.relnamespace = to_regnamespace($1) AND parent.relkind = 'p'
    ORDER BY child.relname
    """,
)


async def list_partitions(connection: "Connection[asyncpg.Record]", service: str) -> list[Partition]:
    """Every month of every table of a service, attached or not; what is made from another's is left out."""
    derived = {f"{table.partition('.')[0]}.{name}" for table, (name, _) in DERIVED.items()}
    return [
        Partition(
            service,
            row["table_name"],
            row["name"],
            row["attached"],
            row["pending"],
            _restored_at(row["comment"]),
        )
        for row in await connection.fetch(_LIST.text, service)
        if f"{service}.{row['table_name']}" not in derived
    ]


def _restored_at(comment: str | None) -> datetime | None:
    if comment is None or not comment.startswith(_RESTORED):
        return None
    return datetime.fromisoformat(comment.removeprefix(_RESTORED))


class Archivist:
    """Archives and reads back, as an administrator."""

    def __init__(self, admin_url: str, archives: Archives) -> None:
        self._admin_url = admin_url
        self._archives = archives

    async def look(self, services: Sequence[str]) -> tuple[list[Partition], list[Archive]]:
        """The partitions and the archives that there are."""
        connection = await asyncpg.connect(self._admin_url, timeout=10)
        try:
            found = [each for service in services for each in await list_partitions(connection, service)]
        finally:
            await connection.close()
        return found, [each for service in services for each in await self._archives.list(service)]

    async def archive_due(self, services: Sequence[str], before: datetime) -> list[Archive]:
        """Archive the partitions that ended before a time, and what an earlier run has left; those with open rows stay.

        Those that were read back lately stay too.
        """
        made = []
        for service in services:
            async with self._owner(service) as connection:
                due = [each for each in await list_partitions(connection, service) if _is_due(each, before)]
                for each in due:
                    try:
                        made.append(await self._archive(connection, each))
                    except RowsOpen as error:
                        log.warning("partition_not_archived", partition=each.name, reason=str(error))
        return made

    async def archive(self, name: str) -> Archive:
        """Archive one partition, whatever its age.

        Raises:
            NoSuchPartition: it is not there.
            RowsOpen: it has open rows.
        """
        service = _service_of(name)
        async with self._owner(service) as connection:
            return await self._archive(connection, await _find(connection, name))

    async def restore(self, name: str) -> Archive:
        """Read a partition back: it is attached, as it was. Its archive stays.

        Raises:
            NoSuchPartition: it was not archived, or it is in its table.
        """
        service = _service_of(name)
        async with self._owner(service) as connection:
            archive = await self._archives.find(service, name.partition(".")[2])
            if archive is None:
                raise NoSuchPartition(f"{name} is not among the archives")
            if any(each.name == name for each in await list_partitions(connection, service)):
                raise NoSuchPartition(f"{name} is in the database already")
            await self._restore_followers(connection, archive)
            await self._restore(connection, archive)
        return archive

    async def _restore_followers(self, connection: "Connection[asyncpg.Record]", archive: Archive) -> None:
        """Have the months back that rows of this one write to, without rows where there is no archive of them."""
        present = {each.partition for each in await list_partitions(connection, archive.service) if each.attached}
        for table in _followers(archive.service, archive.table):
            partition = f"{table}{archive.partition[-8:]}"
            if partition in present:
                continue
            follower = await self._archives.find(archive.service, partition)
            if follower is None:
                await partitions.make(connection, table, partition, _starts_at(partition))
                await _note_restored(connection, partition)
            else:
                await self._restore(connection, follower)

    async def _restore(self, connection: "Connection[asyncpg.Record]", archive: Archive) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows"
            await self._archives.fetch(archive, path)
            async with connection.transaction():
                await _load(connection, archive, path)
        log.info("partition_restored", partition=archive.name, rows=archive.rows)

    async def drop_due(self, services: Sequence[str], before: datetime) -> list[Archive]:
        """Delete the archives of months that ended before a time."""
        dropped = []
        for service in services:
            async with self._archives.locked(service):
                for archive in await self._archives.list(service):
                    if archive.ends_at <= before:
                        await self._archives.drop(archive)
                        dropped.append(archive)
        for archive in dropped:
            log.info("archive_dropped", partition=archive.name, rows=archive.rows)
        return dropped

    async def drop(self, name: str) -> Archive:
        """Delete one archive, whatever its age.

        Raises:
            NoSuchPartition: there is no such archive.
        """
        service = _service_of(name)
        async with self._archives.locked(service):
            archive = await self._archives.find(service, name.partition(".")[2])
            if archive is None:
                raise NoSuchPartition(f"{name} is not among the archives")
            await self._archives.drop(archive)
        return archive

    @asynccontextmanager
    async def _owner(self, service: str) -> "AsyncIterator[Connection[asyncpg.Record]]":
        """A connection as the schema's owner, alone among those that archive the service."""
        async with self._archives.locked(service):
            settings = {"lock_timeout": LOCK_TIMEOUT, "search_path": service, "TimeZone": "UTC"}
            connection = await asyncpg.connect(self._admin_url, timeout=10, server_settings=settings)
            try:
                await connection.execute(f"SET ROLE koinonia_{service}_owner")
                yield connection
            finally:
                await connection.close()

    async def _archive(self, connection: "Connection[asyncpg.Record]", each: Partition) -> Archive:
        if each.attached:
            if not each.pending:
                await _refuse_open(connection, each, each.table)
            await _detach(connection, each.table, each.partition)
        async with connection.transaction():
            await connection.execute(_SHOW_TO_OWNER.format(partition=each.partition, service=each.service))
        try:
            await _refuse_open(connection, each, each.partition)
        except RowsOpen:
            async with connection.transaction():
                await connection.execute(f"DROP POLICY owner ON {each.partition}")
                await _attach(connection, each.table, each.partition, each.starts_at)
            raise
        archive = await self._write(connection, each)
        await _drop(connection, each)
        log.info("partition_archived", partition=each.name, rows=archive.rows, bytes=archive.bytes)
        return archive

    async def _write(self, connection: "Connection[asyncpg.Record]", each: Partition) -> Archive:
        """Write the rows of a detached partition, and count them against the table."""
        with tempfile.TemporaryDirectory() as folder:
            writer = Writer(Path(folder) / "rows")
            query = f"SELECT row_to_json(kept)::text FROM {each.partition} AS kept ORDER BY id"  # noqa: S608
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                expected = await connection.fetchval(f"SELECT count(*) FROM {each.partition}")  # noqa: S608
                cursor = await connection.cursor(query)
                while rows := await cursor.fetch(BATCH):
                    await asyncio.to_thread(writer.write, [row[0].encode() for row in rows])
            if writer.rows != expected:
                raise RuntimeError(f"{each.name}: {writer.rows} rows were read of {expected}")
            return await self._archives.keep(
                writer, service=each.service, table=each.table, partition=each.partition, ends_at=each.ends_at
            )


def _is_due(each: Partition, before: datetime) -> bool:
    if not each.attached or each.pending:
        return True
    if each.restored_at is not None and clock.now() - each.restored_at < timedelta(days=RESTORED_DAYS):
        return False
    return each.ends_at <= before


def _service_of(name: str) -> str:
    service, _, partition = name.partition(".")
    if _NAME.fullmatch(partition) is None:
        raise NoSuchPartition(f"{name} is no partition's name, which is like delivery.recipients_2025_11")
    return service


def _starts_at(partition: str) -> datetime:
    return datetime.strptime(partition[-7:], "%Y_%m").replace(tzinfo=UTC)


def _followers(service: str, table: str) -> list[str]:
    return [follower for (owner, follower), leader in FOLLOWS.items() if (owner, leader) == (service, table)]


async def _find(connection: "Connection[asyncpg.Record]", name: str) -> Partition:
    for each in await list_partitions(connection, _service_of(name)):
        if each.name == name:
            return each
    raise NoSuchPartition(f"{name} is not in the database")


async def _refuse_open(connection: "Connection[asyncpg.Record]", each: Partition, source: str) -> None:
    """Look for open rows of a month in its table, or in what was its partition; and for those that it follows."""
    leader = FOLLOWS.get((each.service, each.table))
    if leader is not None and await connection.fetchrow(_STATE.text, f"{leader}{each.partition[-8:]}") is not None:
        raise RowsOpen(f"the month's {leader} are still in their table")
    condition = OPEN.get(f"{each.service}.{each.table}")
    if condition is None:
        return
    query = f"SELECT count(*) FROM {source} WHERE id >= $1 AND id < $2 AND {condition}"  # noqa: S608
    count = await connection.fetchval(query, *partitions.bounds(each.starts_at))
    if count:
        raise RowsOpen(f"{count} open rows")


async def _detach(connection: "Connection[asyncpg.Record]", table: str, partition: str) -> None:
    """Take a partition out of its table, without a lock that would keep the table's users waiting."""
    row = await connection.fetchrow(_STATE.text, partition)
    if row is None:
        return
    how = "FINALIZE" if row["inhdetachpending"] else "CONCURRENTLY"
    await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {partition} {how}")


_STATE = statement(
    "partitions.state",
    "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1)",
)


async def _attach(connection: "Connection[asyncpg.Record]", table: str, partition: str, starts_at: datetime) -> None:
    first, after = partitions.bounds(starts_at)
    await connection.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{first}') TO ('{after}')"
    )


async def _drop(connection: "Connection[asyncpg.Record]", each: Partition) -> None:
    """Drop a detached partition, after what was made from it: so that what a crash leaves is found again."""
    derived, _ = DERIVED.get(f"{each.service}.{each.table}", (None, ""))
    if derived is not None:
        await _detach(connection, derived, f"{derived}{each.partition[-8:]}")
        await connection.execute(f"DROP TABLE IF EXISTS {derived}{each.partition[-8:]}")
    await _execute_drop(connection, each.partition)


async def _execute_drop(connection: "Connection[asyncpg.Record]", partition: str) -> None:
    await connection.execute(f"DROP TABLE {partition}")


async def _load(connection: "Connection[asyncpg.Record]", archive: Archive, path: Path) -> None:
    """Make the partition from its rows, with the columns that the table has now; attach it once it is whole.

    A column that is gone since is left out, a new one has its default.
    """
    name, starts_at = archive.partition, _starts_at(archive.partition)
    await connection.execute(
        f"CREATE TABLE {name} (LIKE {archive.table} INCLUDING ALL){partitions.STORAGE.get(archive.table, '')}"
    )
    known = {row["attname"] for row in await connection.fetch(_LIST_COLUMNS.text, name)}
    lines = read_lines(path)
    while batch := await asyncio.to_thread(lambda: list(islice(lines, BATCH))):
        columns = ", ".join(column for column in msgspec.json.decode(batch[0]) if column in known)
        await connection.execute(
            f"INSERT INTO {name} ({columns}) SELECT {columns} "  # noqa: S608 - names from the catalogue
            f"FROM unnest($1::jsonb[]) AS line, jsonb_populate_record(NULL::{name}, line)",
            [line.decode() for line in batch],
        )
    await _attach(connection, archive.table, name, starts_at)
    await partitions.close(connection, name)
    await _note_restored(connection, name)
    derived, insert = DERIVED.get(f"{archive.service}.{archive.table}", (None, ""))
    if derived is not None:
        made = f"{derived}{name[-8:]}"
        await partitions.make(connection, derived, made, starts_at)
        # Through the parent: a partition shows its owner nothing.
        await connection.execute(insert.format(derived=derived, partition=archive.table), *partitions.bounds(starts_at))


async def _note_restored(connection: "Connection[asyncpg.Record]", name: str) -> None:
    await connection.execute(f"COMMENT ON TABLE {name} IS '{_RESTORED}{clock.now().isoformat()}'")


_LIST_COLUMNS = statement(
    "partitions.list_columns",
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
)
# The owner sees a table that is no partition by a policy alone. There may be one, from a run that was broken off.
_SHOW_TO_OWNER = """
DROP POLICY IF EXISTS owner ON {partition};
CREATE POLICY owner ON {partition} TO koinonia_{service}_owner USING (true) WITH CHECK (true);
"""
