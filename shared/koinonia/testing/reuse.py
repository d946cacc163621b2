"""Databases that one test has used, made as good as new for the next: far less work than to drop and make them.

Sessions that a test has left are ended, its rows go, and the database gets another name: what still tries to reach it
by the old one finds nothing, as when it was dropped. Where more has changed than rows (tables, rights, sequences, the
planner's statistics, rows that the migrations made), it is dropped indeed.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

import asyncpg

from koinonia.testing.servers import TestServers

_USES = 50
"""After so many tests a database is dropped: emptying a table leaves dead rows in the catalogue."""
_GONE_SECONDS = 5.0
_FIRST_OF_USERS = 16384  # lower object ids are the server's own

# Emptying a table gives it another file and changes its row in pg_class alone: of that, only what stays is compared.
_CATALOGUE = f"""
SELECT (
    SELECT md5(string_agg(concat_ws(' ', oid, relname, relnamespace, relkind, relowner, relacl, reloptions,
        relrowsecurity, relforcerowsecurity, relispartition, relreplident), ',' ORDER BY oid))
    FROM pg_class WHERE oid >= {_FIRST_OF_USERS} AND relpersistence <> 't'
) || (
    SELECT concat_ws(' ', datconnlimit, datallowconn, datdba, datacl,
        (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = pg_database.oid))
    FROM pg_database WHERE datname = current_database()
) || (
    SELECT string_agg(concat_ws(' ', kind, count, newest), ',' ORDER BY kind)
    FROM (
        {{counts}}
    ) AS counted (kind, count, newest)
)
"""  # noqa: S608 - put together from what stands here
_CATALOGUES = {
    "pg_attribute": f"attrelid >= {_FIRST_OF_USERS}",
    "pg_attrdef": "true",
    "pg_constraint": "true",
    "pg_default_acl": "true",
    "pg_event_trigger": "true",
    "pg_extension": "true",
    "pg_index": f"indexrelid >= {_FIRST_OF_USERS}",
    "pg_inherits": "true",
    "pg_largeobject_metadata": "true",
    "pg_namespace": "nspname !~ '^pg_'",
    "pg_policy": "true",
    "pg_proc": "true",
    "pg_publication": "true",
    "pg_rewrite": "true",
    "pg_sequence": "true",
    "pg_statistic": f"starelid >= {_FIRST_OF_USERS}",  # a plan is chosen by them
    "pg_statistic_ext": "true",
    "pg_trigger": "true",
    "pg_type": "true",
}
_STATE = _CATALOGUE.format(
    counts=" UNION ALL ".join(
        f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name} WHERE {which}"  # noqa: S608
        for name, which in _CATALOGUES.items()
    )
)
# A table has no file to speak of until the first row is put into it, committed or not.
_WRITTEN = f"""
SELECT oid::regclass::text AS name FROM pg_class
WHERE relkind = 'r' AND oid >= {_FIRST_OF_USERS} AND relpersistence <> 't' AND pg_relation_size(oid) > 0
ORDER BY 1
"""  # noqa: S608
_SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename) AS name, last_value FROM pg_sequences ORDER BY 1"
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
_HAS_SESSIONS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)"

Connection = asyncpg.Connection


@dataclass(frozen=True)
class Pristine:
    """What a database is like before its first test."""

    written: frozenset[str]
    contents: tuple[object, ...]  # of the tables that migrations have written
    sequences: tuple[object, ...]
    catalogue: str

    @classmethod
    async def read(cls, connection: Connection) -> "Pristine":
        """Look at a database that nobody has used."""
        written = frozenset(row["name"] for row in await connection.fetch(_WRITTEN))
        return cls(
            written,
            await _contents(connection, written),
            tuple(map(tuple, await connection.fetch(_SEQUENCES))),
            await connection.fetchval(_STATE),
        )

    async def restore(self, connection: Connection) -> bool:
        """Take a test's rows away; false: something else has changed."""
        if written := [row["name"] for row in await connection.fetch(_WRITTEN) if row["name"] not in self.written]:
            await connection.execute(f"TRUNCATE {', '.join(written)} CASCADE")
        return await Pristine.read(connection) == self


@dataclass
class Reuse:
    """The databases of one pytest process that wait for their next test, by service."""

    _waiting: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _pristine: dict[str, Pristine] = field(default_factory=dict)
    _uses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _administrator: Connection | None = None

    async def take(self, servers: TestServers, service: str, template: str) -> str:
        """Return the name of a database as the migrations leave it."""
        async with self._lock:
            if waiting := self._waiting[service]:
                return waiting.pop()
            name = servers.new_name()
            await servers.create_database(name, template)
            if service not in self._pristine:
                connection = await asyncpg.connect(servers.database_url(name))
                try:
                    self._pristine[service] = await Pristine.read(connection)
                finally:
                    await connection.close()
            return name

    async def give_back(self, servers: TestServers, service: str, name: str) -> None:
        """Make a used database ready for the next test, or drop it."""
        async with self._lock:
            uses = self._uses.pop(name, 0) + 1
            renamed = servers.new_name()
            if uses < _USES and await self._is_made_ready(servers, service, name, renamed):
                self._waiting[service].append(renamed)
                self._uses[renamed] = uses
            else:
                await servers.drop_database(name)
                await servers.drop_database(renamed)

    async def close(self) -> None:
        """Leave the databases to the keeper, who drops what a run has made."""
        if self._administrator is not None:
            await self._administrator.close()

    async def _is_made_ready(self, servers: TestServers, service: str, name: str, renamed: str) -> bool:
        administrator = self._administrator
        if administrator is None or administrator.is_closed():
            administrator = self._administrator = await asyncpg.connect(servers.database_admin_url)
        try:
            await _end_sessions(administrator, name)
            await administrator.execute(f'ALTER DATABASE "{name}" RENAME TO "{renamed}"')
            # From here on nothing that the test has left finds it.
            connection = await asyncpg.connect(servers.database_url(renamed), command_timeout=30)
            try:
                return await self._pristine[service].restore(connection)
            finally:
                await connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # TimeoutError too
            return False


async def _end_sessions(administrator: Connection, name: str) -> None:
    """Return when nobody is connected; to rename a database from under a session takes the server 100 ms.

    Raises:
        TimeoutError: somebody connects again and again.
    """
    async with asyncio.timeout(_GONE_SECONDS):
        while await administrator.fetchval(_HAS_SESSIONS, name):
            await administrator.execute(_END_SESSIONS, name)
            await asyncio.sleep(0.002)


async def _contents(connection: Connection, tables: frozenset[str]) -> tuple[object, ...]:
    """Tell whether tables are as they were: a row that was changed is another one."""
    looks = [f"SELECT count(*), max(xmin::text::bigint) FROM {table}" for table in sorted(tables)]  # noqa: S608
    return tuple(map(tuple, await connection.fetch(" UNION ALL ".join(looks)))) if looks else ()
