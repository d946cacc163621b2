"""What messaging knows of a recipient's message."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_FIND_MESSAGE = statement(
    "trail.find_message",
    """
    SELECT
        created_at, scheduled_at, undo_until, approved_at, dispatched_at, paused_at, pause_reason, cancelled_at,
        rejection_reason, resend_of, recurring_id, traceparent
    FROM messages
    WHERE id = $1 AND church_id = $2
    """,
)


async def find_message(tx: Transaction, message_id: UUID) -> asyncpg.Record | None:
    """The times of a message, and its trace."""
    return await tx.fetch_row(_FIND_MESSAGE, message_id, tx.tenant)


_FIND_OPT_OUT = statement(
    "trail.find_opt_out",
    "SELECT occurred_at FROM opt_outs WHERE church_id = $1 AND phone_index = $2",
)


async def find_opt_out(tx: Transaction, phone_index: bytes) -> datetime | None:
    """When an admin withdrew the consent of a number, if that holds."""
    found: datetime | None = await tx.fetch_value(_FIND_OPT_OUT, tx.tenant, phone_index)
    return found
