"""Every stored ciphertext of the services, found in the catalogue and made anew under the newest key.

A column named ``<kind>_ciphertext`` holds ciphertexts of that kind, of the church in ``church_id``. The work is done as
the schema's owner, in short transactions that wait for no lock: a row that somebody holds is left for the next round, a
row under the newest key is left alone, so that it can be broken off and begun again.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from koinonia.db.archives import Change, Row
from koinonia.db.statement import statement
from koinonia.security.encryption import Cipher, CiphertextInvalid

Connection = asyncpg.Connection  # an administrator's, outside a transaction

BATCH = 500

_LIST_TABLES = statement(
    "ciphertexts.list_tables",
    r"""
    SELECT
        namespace.nspname AS service, class.relname AS name,
        EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid AND polname = 'owner') AS seen_by_owner,
        (
            SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = class.oid AND attname LIKE '%\_ciphertext' AND NOT attisdropped
        ) AS columns,
        key.names AS key_names, key.types AS key_types
    FROM pg_class AS class
    JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    LEFT JOIN LATERAL (
        SELECT
            array_agg(attribute.attname::text ORDER BY part.place) AS names,
            array_agg(format_type(attribute.atttypid, NULL) ORDER BY part.place) AS types
        FROM pg_index AS index, unnest(index.indkey) WITH ORDINALITY AS part (attnum, place)
        JOIN pg_attribute AS attribute ON attribute.attnum = part.attnum
        WHERE index.indrelid = class.oid AND index.indisprimary AND attribute.attrelid = class.oid
    ) AS key ON true
    WHERE namespace.nspname = ANY ($1) AND class.relkind IN ('r', 'p') AND NOT class.relispartition
        AND EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = class.oid AND attname LIKE '%\_ciphertext' AND NOT attisdropped
        )
    ORDER BY namespace.nspname, class.relname
    """,
)


class TableHidden(Exception):
    """A table holds ciphertexts that its owner cannot see."""


@dataclass(frozen=True)
class Table:
    """A table that holds ciphertexts."""

    service: str
    name: str
    columns: tuple[str, ...]
    key_names: tuple[str, ...]
    key_types: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"


@dataclass
class Outcome:
    """What one round over a table did."""

    changed: int = 0  # rows
    unreadable: list[Any] = field(default_factory=list)  # the keys of rows that do not open under any listed key


async def list_tables(connection: "Connection[asyncpg.Record]", services: Sequence[str]) -> list[Table]:
    """The tables that hold ciphertexts.

    Raises:
        TableHidden: one shows its owner no rows (a detached partition, say), so that nothing could be said of it.
    """
    tables = []
    for row in await connection.fetch(_LIST_TABLES.text, services):
        if not row["seen_by_owner"] or row["key_names"] is None:
            raise TableHidden(f"{row['service']}.{row['name']} holds ciphertexts, and has no policy for its owner")
        names = (tuple(row[each]) for each in ("columns", "key_names", "key_types"))
        tables.append(Table(row["service"], row["name"], *names))
    return tables


async def reencrypt(connection: "Connection[asyncpg.Record]", table: Table, cipher: Cipher) -> Outcome:
    """Go once over the rows that are not under the newest key, and make anew what can be read."""
    outcome = Outcome()
    last: Sequence[Any] | None = None
    while True:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE koinonia_{table.service}_owner")
            rows = await connection.fetch(_page(table, first=last is None), cipher.newest_header, *(last or ()))
            changed = [(row, new) for row in rows if (new := _renewed(table, row, cipher, outcome)) is not None]
            if changed:
                await _write(connection, table, changed)
        outcome.changed += len(changed)
        if len(rows) < BATCH:
            return outcome
        last = [rows[-1][name] for name in table.key_names]


def renewing(cipher: Cipher) -> Change:
    """What makes the ciphertexts of an archived row anew under the newest key; one that does not open stays."""

    def change(row: Row) -> Row:
        renewed = dict(row)
        for column, value in row.items():
            if column.endswith("_ciphertext") and value:
                renewed[column] = _renewed_value(cipher, bytes.fromhex(value[2:]), row, column)
        return row if renewed == row else renewed

    return change


def _renewed_value(cipher: Cipher, old: bytes, row: Row, column: str) -> str:
    church_id, kind = UUID(row["church_id"]), column.removesuffix("_ciphertext")
    new = old
    if not cipher.is_current(old):
        with suppress(CiphertextInvalid):
            new = cipher.encrypt(cipher.decrypt(old, church_id, kind), church_id, kind)
    return f"\\x{new.hex()}"


async def count_by_older_key(
    connection: "Connection[asyncpg.Record]", table: Table, newest_header: bytes
) -> Counter[str]:
    """How many ciphertexts are not under the newest key, by the id of theirs."""
    columns = ", ".join(table.columns)
    query = f"""
        SELECT
            CASE
                WHEN length(value) > 2 THEN encode(substr(value, 3, get_byte(value, 1)), 'escape')
                ELSE ''
            END AS key_id,
            count(*) AS count
        FROM {table}, unnest(ARRAY[{columns}]) AS value
        WHERE {_is_stale("value")}
        GROUP BY key_id
    """  # noqa: S608 - names from the catalogue
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE koinonia_{table.service}_owner")
        return Counter({row["key_id"]: row["count"] for row in await connection.fetch(query, newest_header)})


def _page(table: Table, *, first: bool) -> str:
    """The next rows that are not under the newest key ($1), after the key in $2…, locked unless somebody has them."""
    key = ", ".join(table.key_names)
    after = f"({key}) > ({', '.join(f'${place}' for place in range(2, 2 + len(table.key_names)))}) AND"
    return f"""
        SELECT church_id, {", ".join(dict.fromkeys([*table.key_names, *table.columns]))}
        FROM {table}
        WHERE {"" if first else after} ({" OR ".join(_is_stale(column) for column in table.columns)})
        ORDER BY {key}
        LIMIT {BATCH}
        FOR NO KEY UPDATE SKIP LOCKED
    """  # noqa: S608 - names from the catalogue


def _is_stale(value: str) -> str:
    return f"substr({value}, 1, length($1::bytea)) <> $1::bytea"


def _renewed(table: Table, row: asyncpg.Record, cipher: Cipher, outcome: Outcome) -> list[bytes | None] | None:
    """The row's ciphertexts under the newest key; None where none of them changes."""
    renewed = []
    for column in table.columns:
        old = row[column]
        kind = column.removesuffix("_ciphertext")
        if old is None or cipher.is_current(old):
            renewed.append(old)
            continue
        try:
            renewed.append(cipher.encrypt(cipher.decrypt(old, row["church_id"], kind), row["church_id"], kind))
        except CiphertextInvalid:
            outcome.unreadable.append(tuple(row[name] for name in table.key_names))
            renewed.append(old)
    return renewed if any(new is not row[column] for new, column in zip(renewed, table.columns, strict=True)) else None


async def _write(
    connection: "Connection[asyncpg.Record]", table: Table, changed: Sequence[tuple[asyncpg.Record, list[bytes | None]]]
) -> None:
    keys = [[row[name] for row, _ in changed] for name in table.key_names]
    values = [list(column) for column in zip(*(new for _, new in changed), strict=True)]
    types = [*table.key_types, *("bytea" for _ in table.columns)]
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, start=1))
    leading = table.key_names[0]
    query = f"""
        UPDATE {table}
        SET {", ".join(f"{column} = renewed.{column}" for column in table.columns)}
        FROM unnest({arrays}) AS renewed ({", ".join([*table.key_names, *table.columns])})
        WHERE {" AND ".join(f"{table.name}.{name} = renewed.{name}" for name in table.key_names)}
            AND {table.name}.{leading} BETWEEN ${len(types) + 1} AND ${len(types) + 2}  -- few partitions
    """  # noqa: S608 - names from the catalogue
    await connection.execute(query, *keys, *values, keys[0][0], keys[0][-1])
