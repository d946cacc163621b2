"""What imports did, as rows."""

from uuid import UUID

import msgspec

from koinonia import clock
from koinonia.api.members import ImportResult, ImportRowError
from koinonia.db import Transaction, statement

_INSERT = statement(
    "imports.insert",
    """
    INSERT INTO imports (id, church_id, created, updated, skipped, errors, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    """,
)


async def insert(tx: Transaction, import_id: UUID, result: ImportResult) -> None:
    errors = msgspec.json.encode(result.errors).decode()
    await tx.execute(_INSERT, import_id, tx.tenant, result.created, result.updated, result.skipped, errors, clock.now())


_FIND = statement("imports.find", "SELECT created, updated, skipped, errors FROM imports WHERE id = $1")


async def find(tx: Transaction, import_id: UUID) -> ImportResult | None:
    row = await tx.fetch_row(_FIND, import_id)
    if row is None:
        return None
    return ImportResult(
        created=row["created"],
        updated=row["updated"],
        skipped=row["skipped"],
        errors=msgspec.json.decode(row["errors"], type=list[ImportRowError]),
    )
