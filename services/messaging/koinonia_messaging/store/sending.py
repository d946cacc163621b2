"""Whether a church sends."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_FIND = statement("sending.find", "SELECT version, paused_at, stop_id FROM sending")


async def find(tx: Transaction) -> asyncpg.Record | None:
    """The church's ``version``, ``paused_at`` and ``stop_id``; None: it was never paused."""
    return await tx.fetch_row(_FIND)


_LOCK = statement(
    "sending.lock",
    """
    INSERT INTO sending (church_id)
    VALUES ($1)
    ON CONFLICT (church_id) DO UPDATE SET version = sending.version
    RETURNING version, paused_at, stop_id
    """,
)


async def lock(tx: Transaction) -> asyncpg.Record:
    """As ``find``; who else pauses, stops or resumes this church waits until the transaction ends."""
    row = await tx.fetch_row(_LOCK, tx.tenant)
    assert row is not None, "an upsert returns its row"  # noqa: S101
    return row


_SAVE = statement("sending.save", "UPDATE sending SET version = $1, paused_at = $2, stop_id = $3")


async def save(tx: Transaction, version: int, paused_at: datetime | None, stop_id: UUID | None) -> None:
    """Keep the next state of a locked one."""
    await tx.execute(_SAVE, version, paused_at, stop_id)
