"""Events that a queue's consumer has applied: a repeat finds its row and changes nothing.

The row is written in the transaction that applies the event, so it is there exactly when the effect is. Rows are kept
longer than any dead letter can be replayed (``INBOX_DAYS``).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from koinonia.db import Transaction, statement
from koinonia.events import Envelope

INBOX_DAYS = 90

_NOTE = statement(
    "inbox.note",
    """
    INSERT INTO inbox (queue, event_id)
    SELECT $1, event_id FROM unnest($2::uuid[]) AS received (event_id) ORDER BY event_id
    ON CONFLICT DO NOTHING
    RETURNING event_id
    """,
)


async def note(tx: Transaction, queue: str, envelopes: Sequence[Envelope[Any]]) -> list[Envelope[Any]]:
    """Note events as applied by this transaction; returns the new ones, in order, each once.

    A twin that is being applied elsewhere is waited for.
    """
    by_id = {envelope.id: envelope for envelope in envelopes}
    fresh = {row["event_id"] for row in await tx.fetch(_NOTE, queue, list(by_id))}
    return [envelope for event_id, envelope in by_id.items() if event_id in fresh]


_FORGET = statement(
    "inbox.forget",
    """
    DELETE FROM inbox
    WHERE ctid = ANY (
        ARRAY(SELECT ctid FROM inbox WHERE received_at < now() - $1::interval ORDER BY received_at LIMIT $2)
    )
    """,
)


async def forget(tx: Transaction, limit: int) -> int:
    """Delete rows that no replay can need any more, ``limit`` at most; returns how many."""
    return await tx.execute(_FORGET, timedelta(days=INBOX_DAYS), limit)
