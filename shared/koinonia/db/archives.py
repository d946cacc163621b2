"""Archives: what partitions held, a compressed file each, with a checksum, told by a manifest beside it.

``archives/<service>/<partition>.json`` is the manifest, and names the file of rows: JSON lines, gzip. A file is written
and read again before its manifest is, and a manifest is replaced at one go: whatever a crash leaves, the manifest names
a file that is whole. What no manifest names is rubbish, and is deleted by the next that has the lock.

Rows are as Postgres writes them (``row_to_json``): ids and times as text, binary columns as ``\\x`` and hexadecimal
digits. What is encrypted in a table is encrypted here, under the same key.
"""

import asyncio
import gzip
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import asyncpg
import msgspec

from koinonia import clock
from koinonia.db.statement import statement
from koinonia.files import Files
from koinonia.security.encryption import CiphertextInvalid, key_id_of

FOLDER = "archives"
_CHUNK_BYTES = 1 << 20
_COMPRESSION = 6

Row = dict[str, Any]
Change = Callable[[Row], Row | None]
"""Answers the row as it shall be, the same one where it stays, or None where it goes."""


class ArchiveDamaged(Exception):
    """An archive's file is not what its manifest says; the message names it."""


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """What one partition held. ``file`` is the name of its file of rows."""

    service: str
    table: str
    partition: str
    ends_at: datetime  # the first moment that is not its month's any more
    rows: int
    bytes: int
    sha256: str
    file: str
    key_ids: list[str]  # the keys that its ciphertexts are under
    archived_at: datetime

    @property
    def name(self) -> str:
        """As a partition is called: ``delivery.recipients_2025_11``."""
        return f"{self.service}.{self.partition}"

    @property
    def manifest(self) -> str:
        """The name of its manifest."""
        return f"{FOLDER}/{self.service}/{self.partition}.json"


class Writer:
    """Writes the rows of an archive into a local file, and notes what its manifest tells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self.key_ids: set[str] = set()
        self._file = path.open("wb")
        self._gzip = gzip.GzipFile("", "wb", _COMPRESSION, self._file, mtime=0)

    def write(self, lines: list[bytes]) -> None:
        """Add rows, each a line of JSON without its end."""
        for line in lines:
            self._note_keys(line)
        self._gzip.write(b"".join(line + b"\n" for line in lines))
        self.rows += len(lines)

    def close(self) -> None:
        self._gzip.close()
        self._file.close()

    def _note_keys(self, line: bytes) -> None:
        for column, value in msgspec.json.decode(line).items():
            if column.endswith("_ciphertext") and value:
                with suppress(CiphertextInvalid, ValueError):  # an erased one is empty
                    self.key_ids.add(key_id_of(bytes.fromhex(value[2:])))


class Archives:
    """The archives among these files. ``database_url``: anybody's, for the lock that keeps writers apart."""

    def __init__(self, files: Files, database_url: str) -> None:
        self._files = files
        self._database_url = database_url

    @asynccontextmanager
    async def locked(self, service: str) -> AsyncIterator[None]:
        """Be alone in writing archives of a service; who comes second waits. A crash lets go of it."""
        connection = await asyncpg.connect(self._database_url, timeout=10)
        try:
            await connection.execute(_LOCK.text, service)
            await self._tidy(service)
            yield
        finally:
            await connection.close()

    async def list(self, service: str) -> list[Archive]:
        """The archives of a service, in the order of their names."""
        names = [each for each in await self._files.names(f"{FOLDER}/{service}/") if each.endswith(".json")]
        with tempfile.TemporaryDirectory() as folder:
            return [await self._read(name, Path(folder) / "manifest") for name in names]

    async def find(self, service: str, partition: str) -> Archive | None:
        """The archive of a partition, if there is one."""
        return next((each for each in await self.list(service) if each.partition == partition), None)

    async def keep(self, writer: Writer, *, service: str, table: str, partition: str, ends_at: datetime) -> Archive:
        """Store the rows that a writer has written as the partition's archive, in place of an older one.

        The caller has the lock.

        Raises:
            ArchiveDamaged: what was stored is not what was written; nothing has changed then.
        """
        writer.close()
        size, digest = await asyncio.to_thread(_digest, writer.path)
        archive = Archive(
            service=service,
            table=table,
            partition=partition,
            ends_at=ends_at,
            rows=writer.rows,
            bytes=size,
            sha256=digest,
            file=f"{FOLDER}/{service}/{partition}.{digest[:16]}.jsonl.gz",
            key_ids=sorted(writer.key_ids),
            archived_at=clock.now(),
        )
        await self._files.put(archive.file, writer.path)
        with tempfile.TemporaryDirectory() as folder:
            await self.fetch(archive, Path(folder) / "again")
            manifest = Path(folder) / "manifest"
            manifest.write_bytes(msgspec.json.format(msgspec.json.encode(archive), indent=2) + b"\n")
            await self._files.put(archive.manifest, manifest)
        await self._tidy(service)
        return archive

    async def fetch(self, archive: Archive, target: Path) -> None:
        """Copy the file of rows to ``target`` and check it.

        Raises:
            ArchiveDamaged: checksum or count of rows is another than the manifest's.
        """
        await self._files.get(archive.file, target)
        if await asyncio.to_thread(_digest, target) != (archive.bytes, archive.sha256):
            raise ArchiveDamaged(f"{archive.file}: its checksum is not the manifest's")
        if await asyncio.to_thread(_count, target) != archive.rows:
            raise ArchiveDamaged(f"{archive.file}: it does not hold as many rows as the manifest says")

    async def rewrite(self, table: str, change: Change, *, since: datetime | None = None) -> int:
        """Change rows in all archives of a table (``service.table``); answers how many were changed or left out.

        ``since``: months that ended before it are passed over.
        """
        service, _, name = table.partition(".")
        changed = 0
        async with self.locked(service):
            for archive in await self.list(service):
                if archive.table == name and (since is None or archive.ends_at > since):
                    changed += await self._rewrite(archive, change)
        return changed

    async def drop(self, archive: Archive) -> None:
        """Delete an archive. The caller has the lock."""
        await self._files.delete(archive.manifest)
        await self._tidy(archive.service)

    async def _rewrite(self, archive: Archive, change: Change) -> int:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "old"
            await self.fetch(archive, source)
            writer = Writer(Path(folder) / "new")
            changed = await asyncio.to_thread(_change_rows, source, writer, change)
            if not changed:
                writer.close()
                return 0
            await self.keep(
                writer,
                service=archive.service,
                table=archive.table,
                partition=archive.partition,
                ends_at=archive.ends_at,
            )
        return changed

    async def _tidy(self, service: str) -> None:
        """Delete what no manifest names: left by a crash, or replaced."""
        named = {each.file for each in await self.list(service)}
        for name in await self._files.names(f"{FOLDER}/{service}/"):
            if not name.endswith(".json") and name not in named:
                await self._files.delete(name)

    async def _read(self, name: str, path: Path) -> Archive:
        await self._files.get(name, path)
        try:
            return msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=Archive)
        except msgspec.DecodeError as error:
            raise ArchiveDamaged(f"{name}: {error}") from error


_LOCK = statement("archives.lock", "SELECT pg_advisory_lock(hashtextextended('koinonia.archives.' || $1, 0))")


def read_lines(path: Path) -> Iterator[bytes]:
    """The rows of a file, each a line of JSON without its end."""
    with gzip.open(path) as file:
        for line in cast("BinaryIO", file):
            yield line.rstrip(b"\n")


def _change_rows(source: Path, writer: Writer, change: Change) -> int:
    changed = 0
    for line in read_lines(source):
        row = msgspec.json.decode(line)
        new = change(row)
        changed += new is not row
        if new is not None:
            writer.write([line if new is row else msgspec.json.encode(new)])
    return changed


def _digest(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _count(path: Path) -> int:
    return sum(1 for _ in read_lines(path))
