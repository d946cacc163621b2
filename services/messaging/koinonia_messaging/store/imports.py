"""Imports, as rows: what they did, and of those in the background what is still to be done.

A piece is a part of a file. Whoever deletes it writes its rows in the same transaction, so that it is written once,
whatever dies. ``members.lock`` is held meanwhile: the next piece is asked for by one replica at a time.
"""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec

from koinonia import clock, telemetry
from koinonia.api.members import ImportResult, ImportRowError
from koinonia.db import Transaction, statement

ERRORS_SHOWN = 100


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """An import in the background, and the request that began it."""

    id: UUID
    church_id: UUID
    attempt: int
    correlation_id: str | None
    traceparent: str | None


_INSERT = statement(
    "imports.insert",
    """
    INSERT INTO imports (
        id, church_id, created, updated, skipped, errors, created_at, row_count, done_rows, bad_rows
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
    """,
)


async def insert(tx: Transaction, import_id: UUID, result: ImportResult) -> None:
    """Keep what an import in the request did."""
    errors = msgspec.json.encode(result.errors).decode()
    counts = (result.created, result.updated, result.skipped)
    await tx.execute(_INSERT, import_id, tx.tenant, *counts, errors, clock.now(), result.rows, result.bad_rows)


_FIND = statement(
    "imports.find",
    """
    SELECT id, status, created, updated, skipped, errors, row_count, done_rows, bad_rows
    FROM imports
    WHERE id = $1 AND status <> 'receiving'
    """,
)


async def find(tx: Transaction, import_id: UUID) -> ImportResult | None:
    """An import, with all errors of one in the request and the first of one in the background."""
    row = await tx.fetch_row(_FIND, import_id)
    if row is None:
        return None
    errors = msgspec.json.decode(row["errors"], type=list[ImportRowError])
    if row["bad_rows"] and not errors:
        errors = [error for error, _ in await list_errors(tx, import_id, (0, 0), ERRORS_SHOWN)]
    return ImportResult(
        created=row["created"],
        updated=row["updated"],
        skipped=row["skipped"],
        errors=errors,
        id=row["id"],
        status=row["status"],
        rows=row["row_count"],
        done_rows=row["done_rows"],
        bad_rows=row["bad_rows"],
    )


_OPEN = statement(
    "imports.open",
    """
    INSERT INTO imports (id, church_id, status, created, updated, skipped, errors, created_at)
    SELECT $1, $2, 'receiving', 0, 0, 0, '[]', $3
    WHERE (
        SELECT count(*)
        FROM imports
        WHERE status = 'receiving' AND created_at > $3::timestamptz - interval '5 minutes'
    ) < $4
    """,
)


async def open_(tx: Transaction, import_id: UUID, most: int) -> bool:
    """Begin to take a file; False when ``most`` of the church's have begun to come in the last minutes.

    Older ones are of senders that have long gone, or of processes that died.
    """
    return await tx.execute(_OPEN, import_id, tx.tenant, clock.now(), most) == 1


_ADD_PIECES = statement(
    "imports.add_pieces",
    """
    INSERT INTO import_pieces (import_id, place, church_id, rows_ciphertext)
    SELECT $1, $2 + place, $3, piece
    FROM unnest($4::bytea[]) WITH ORDINALITY AS pieces (piece, place)
    """,
)


async def add_pieces(tx: Transaction, import_id: UUID, after: int, pieces: Sequence[bytes]) -> None:
    """Lay by the next pieces; ``after``: how many there are already."""
    await tx.execute(_ADD_PIECES, import_id, after, tx.tenant, pieces)


_COUNT_RUNNING = statement("imports.count_running", "SELECT count(*) FROM imports WHERE status = 'running'")


async def count_running(tx: Transaction) -> int:
    """How many of the church's imports go on in the background."""
    return int(await tx.fetch_value(_COUNT_RUNNING))


_START = statement(
    "imports.start",
    """
    UPDATE imports
    SET status = CASE WHEN $2::integer = 0 THEN 'completed' ELSE 'running' END,
        row_count = $2,
        group_ids = $3,
        correlation_id = $4,
        traceparent = $5
    WHERE id = $1 AND status = 'receiving'
    """,
)


async def start(tx: Transaction, import_id: UUID, rows: int, group_ids: Sequence[UUID]) -> bool:
    """Let the loops work on a file that has come whole; False when it is gone."""
    origin = (telemetry.correlation_id(), telemetry.current_traceparent())
    return await tx.execute(_START, import_id, rows, group_ids, *origin) == 1


_DISCARD = statement("imports.discard", "DELETE FROM imports WHERE id = $1 AND status = 'receiving'")


async def discard(tx: Transaction, import_id: UUID) -> None:
    """Forget a file that did not come whole."""
    await tx.execute(_DISCARD, import_id)


_DISCARD_STALE = statement(
    "imports.discard_stale",
    "DELETE FROM imports WHERE status = 'receiving' AND created_at < $1::timestamptz - interval '1 hour'",
)


async def discard_stale(tx: Transaction) -> int:
    """Forget the files of processes that died while they took them, of all churches."""
    return await tx.execute(_DISCARD_STALE, clock.now())


_CLAIM = statement(
    "imports.claim",
    """
    UPDATE imports
    SET leased_until = clock_timestamp() + make_interval(secs => least($1 * 2 ^ least(attempt, 20), $2)),
        attempt = attempt + 1
    WHERE id IN (
        SELECT id
        FROM imports
        WHERE status = 'running' AND leased_until < clock_timestamp()
        ORDER BY leased_until, id
        LIMIT $3
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, church_id, attempt, correlation_id, traceparent
    """,
)


async def claim(tx: Transaction, first_seconds: float, longest_seconds: float, limit: int) -> list[Import]:
    """Lease imports for one piece each, of all churches; each further attempt has a lease twice as long."""
    rows = await tx.fetch(_CLAIM, first_seconds, longest_seconds, limit)
    return [msgspec.convert(dict(row), Import) for row in rows]


_FIND_RUNNING = statement(
    "imports.find_running", "SELECT group_ids FROM imports WHERE id = $1 AND status = 'running' FOR UPDATE"
)


async def find_running(tx: Transaction, import_id: UUID) -> list[UUID] | None:
    """The groups that every row joins; None when the import is over."""
    row = await tx.fetch_row(_FIND_RUNNING, import_id)
    return None if row is None else row["group_ids"]


_TAKE_PIECE = statement(
    "imports.take_piece",
    """
    DELETE FROM import_pieces
    WHERE import_id = $1 AND place = (SELECT min(place) FROM import_pieces WHERE import_id = $1)
    RETURNING rows_ciphertext
    """,
)


async def take_piece(tx: Transaction, import_id: UUID) -> bytes | None:
    """The next piece, which is gone with this transaction's commit; None when there is none."""
    ciphertext: bytes | None = await tx.fetch_value(_TAKE_PIECE, import_id)
    return ciphertext


_ADD_ERRORS = statement(
    "imports.add_errors",
    """
    INSERT INTO import_errors (import_id, row_number, place, church_id, line, field, message)
    SELECT $1, row_number, place, $2, line, field, message
    FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::text[])
        AS error (row_number, place, line, field, message)
    """,
)


async def add_errors(tx: Transaction, import_id: UUID, errors: Sequence[ImportRowError]) -> None:
    """Keep the errors of some rows, all of each row's at once."""
    seen: Counter[int] = Counter()
    places = []
    for error in errors:
        seen[error.row] += 1
        places.append(seen[error.row])
    await tx.execute(
        _ADD_ERRORS,
        import_id,
        tx.tenant,
        [each.row for each in errors],
        places,
        [each.line for each in errors],
        [each.field for each in errors],
        [each.message for each in errors],
    )


_ADVANCE = statement(
    "imports.advance",
    """
    UPDATE imports
    SET created = created + $2,
        updated = updated + $3,
        skipped = skipped + $4,
        bad_rows = bad_rows + $5,
        done_rows = done_rows + $2 + $3 + $4 + $5,
        leased_until = '-infinity',
        attempt = 0,
        status = CASE
            WHEN EXISTS (SELECT FROM import_pieces WHERE import_id = $1) THEN 'running'
            ELSE 'completed'
        END
    WHERE id = $1 AND status = 'running'
    """,
)


async def advance(tx: Transaction, import_id: UUID, *, created: int, updated: int, skipped: int, bad: int) -> None:
    """Count the rows of a piece that was taken; without a further one the import is completed."""
    await tx.execute(_ADVANCE, import_id, created, updated, skipped, bad)


_FAIL = statement(
    "imports.fail",
    """
    WITH failed AS (
        UPDATE imports SET status = 'failed' WHERE id = $1 AND status = 'running' RETURNING id
    )
    DELETE FROM import_pieces USING failed WHERE import_id = failed.id
    """,
)


async def fail(tx: Transaction, import_id: UUID) -> None:
    """Give up an import: what it wrote stays, the rest of its file is deleted."""
    await tx.execute(_FAIL, import_id)


_LIST_ERRORS = statement(
    "imports.list_errors",
    """
    SELECT row_number, place, line, field, message
    FROM import_errors
    WHERE import_id = $1 AND (row_number, place) > ($2, $3)
    ORDER BY row_number, place
    LIMIT $4
    """,
)


async def list_errors(
    tx: Transaction, import_id: UUID, after: tuple[int, int], limit: int
) -> list[tuple[ImportRowError, tuple[int, int]]]:
    """The errors of an import in the background in the order of its rows, each with its place for what comes after."""
    rows = await tx.fetch(_LIST_ERRORS, import_id, *after, limit)
    return [(_error(row), (row["row_number"], row["place"])) for row in rows]


def _error(row: asyncpg.Record) -> ImportRowError:
    return ImportRowError(row=row["row_number"], field=row["field"], message=row["message"], line=row["line"])
