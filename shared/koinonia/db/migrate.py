"""Migrations: plain SQL, up and down, per service, each in a transaction as the schema's owner.

``services/<service>/koinonia_<service>/migrations/0001_what_it_does.up.sql`` and ``.down.sql``. An applied file must
not change: its checksum is kept. Two processes that start at once take turns by an advisory lock of the service. What a
migration may call stands in ``tools.sql``.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import structlog

from koinonia.db import partitions
from koinonia.db.roles import SERVICES, ensure_roles
from koinonia.db.statement import statement

log = structlog.get_logger()

_FILE_NAME = re.compile(r"^(\d{4})_([a-z0-9_]+)\.up\.sql$")


class MigrationError(Exception):
    """The migrations of a service cannot be run; the message says why."""


@dataclass(frozen=True)
class Migration:
    """One step of a service's schema."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True)
class MigrationStatus:
    """A migration, and when it was applied."""

    service: str
    version: int
    name: str
    applied_at: datetime | None


def load(service: str) -> list[Migration]:
    """The migrations of a service, in order.

    Raises:
        MigrationError: no such service, a number given twice, or an up without its down.
    """
    spec = find_spec(f"koinonia_{service}") if service in SERVICES else None
    if spec is None or spec.origin is None:
        raise MigrationError(f"no service is called {service!r}")
    found = []
    for path in sorted((Path(spec.origin).parent / "migrations").glob("*.up.sql")):
        match = _FILE_NAME.match(path.name)
        down = path.with_name(path.name.replace(".up.sql", ".down.sql"))
        if match is None or not down.is_file():
            raise MigrationError(f"{service}: {path.name} is misnamed or has no .down.sql beside it")
        found.append(Migration(int(match[1]), match[2], path.read_text("utf-8"), down.read_text("utf-8")))
    if len({migration.version for migration in found}) != len(found):
        raise MigrationError(f"{service}: two migrations have the same number")
    return found


async def migrate(
    admin_url: str, services: Sequence[str] = SERVICES, passwords: Mapping[str, str] | None = None
) -> list[str]:
    """Bring schemas to their newest version, with their roles and partitions; answers what was applied.

    Raises:
        MigrationError: an applied migration's file has changed, or the database is newer than the code.
    """
    applied = []
    for service in services:
        steps = load(service)
        async with _session(admin_url, service) as connection:
            await ensure_roles(connection, service, (passwords or {}).get(service))
            done = await _applied(connection, service)
            _check(service, steps, done)
            for step in [step for step in steps if step.version not in done]:
                await _apply(connection, service, step)
                applied.append(f"{service} {step.version:04} {step.name}")
            await partitions.make_ahead(connection, service)
    return applied


async def roll_back(admin_url: str, service: str, count: int) -> list[str]:
    """Take back the last ``count`` migrations of a service; answers which."""
    steps = load(service)
    async with _session(admin_url, service) as connection:
        await ensure_roles(connection, service, None)
        done = await _applied(connection, service)
        _check(service, steps, done)
        undone = []
        for step in [step for step in reversed(steps) if step.version in done][:count]:
            await _undo(connection, service, step)
            undone.append(f"{service} {step.version:04} {step.name}")
    return undone


async def status(admin_url: str, services: Sequence[str] = SERVICES) -> list[MigrationStatus]:
    """Each migration of the services, and when it was applied."""
    answer = []
    for service in services:
        async with _session(admin_url, service) as connection:
            await ensure_roles(connection, service, None)
            done = await _applied(connection, service)
        for step in load(service):
            row = done.get(step.version)
            answer.append(MigrationStatus(service, step.version, step.name, row["applied_at"] if row else None))
    return answer


_LOCK = statement("migrations.lock", "SELECT pg_advisory_lock(hashtextextended('koinonia.migrations.' || $1, 0))")


@asynccontextmanager
async def _session(admin_url: str, service: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection that alone migrates the service, with the tools of ``tools.sql``."""
    connection = await asyncpg.connect(admin_url, timeout=10, server_settings={"lock_timeout": "60000"})
    try:
        await connection.execute(_LOCK.text, service)
        await connection.execute((files("koinonia.db") / "tools.sql").read_text("utf-8"))
        yield connection
    finally:
        await connection.close()


_CREATE_TABLE = """
SET LOCAL ROLE koinonia_{service}_owner;
CREATE TABLE IF NOT EXISTS {service}.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


async def _applied(connection: "asyncpg.Connection[asyncpg.Record]", service: str) -> dict[int, asyncpg.Record]:
    async with connection.transaction():
        await connection.execute(_CREATE_TABLE.format(service=service))
        query = f"SELECT version, name, checksum, applied_at FROM {service}.schema_migrations ORDER BY version"  # noqa: S608
        return {row["version"]: row for row in await connection.fetch(query)}


def _check(service: str, steps: Sequence[Migration], done: Mapping[int, asyncpg.Record]) -> None:
    known = {step.version: step for step in steps}
    for version, row in done.items():
        if version not in known:
            raise MigrationError(
                f"{service}: the database has migration {version:04} {row['name']}, this code does not"
            )
        if known[version].checksum != row["checksum"]:
            raise MigrationError(f"{service}: migration {version:04} {row['name']} was changed after it was applied")


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", service: str, step: Migration) -> None:
    async with connection.transaction():
        await _become_owner(connection, service)
        await connection.execute(step.up)
        insert = f"INSERT INTO {service}.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"  # noqa: S608
        await connection.execute(insert, step.version, step.name, step.checksum)
    log.info("migration_applied", service=service, version=step.version, migration=step.name)


async def _undo(connection: "asyncpg.Connection[asyncpg.Record]", service: str, step: Migration) -> None:
    async with connection.transaction():
        await _become_owner(connection, service)
        await connection.execute(step.down)
        await connection.execute(f"DELETE FROM {service}.schema_migrations WHERE version = $1", step.version)  # noqa: S608
    log.info("migration_undone", service=service, version=step.version, migration=step.name)


async def _become_owner(connection: "asyncpg.Connection[asyncpg.Record]", service: str) -> None:
    await connection.execute(f"SET LOCAL ROLE koinonia_{service}_owner; SET LOCAL search_path = {service}, pg_temp;")
