"""Pauses of messages, and the failures that make one pause itself."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_messaging.domain.brake import Tally
from koinonia_messaging.store.broadcasts import Place

_PAUSE = statement(
    "messages.pause",
    """
    UPDATE messages
    SET paused_at = $2, pause_reason = $3, pause_version = pause_version + 1, revision = revision + 1
    WHERE id = $1 AND paused_at IS NULL AND status IN ('scheduled', 'accepted', 'sending')
    RETURNING pause_version, test, urgent_reason IS NOT NULL AS is_urgent
    """,
)


class Turned(msgspec.Struct, frozen=True):
    """A message that was paused or resumed."""

    version: int  # of its pause
    test: bool
    is_urgent: bool


async def pause(tx: Transaction, message_id: UUID, at: datetime, reason: str | None = None) -> Turned | None:
    """Pause a message of which something waits; None: it is paused, or nothing waits."""
    row = await tx.fetch_row(_PAUSE, message_id, at, reason)
    return None if row is None else Turned(row["pause_version"], row["test"], row["is_urgent"])


_RESUME = statement(
    "messages.resume",
    """
    WITH forgotten AS (
        DELETE FROM message_errors WHERE message_id = $1
    )
    UPDATE messages
    SET paused_at = NULL,
        pause_reason = NULL,
        pause_version = pause_version + 1,
        answers_seen = sent + delivered + undelivered + unconfirmed + failed,
        refusals_seen = failed,
        receipts_seen = delivered + undelivered + unconfirmed,
        undelivered_seen = undelivered,
        revision = revision + 1
    WHERE id = $1 AND paused_at IS NOT NULL AND status IN ('scheduled', 'accepted', 'sending')
    RETURNING pause_version, test, urgent_reason IS NOT NULL AS is_urgent
    """,
)


async def resume(tx: Transaction, message_id: UUID) -> Turned | None:
    """Let a paused message go on; None: it is not paused, or ended. Failures before are not counted again."""
    row = await tx.fetch_row(_RESUME, message_id)
    return None if row is None else Turned(row["pause_version"], row["test"], row["is_urgent"])


_MOVE_WINDOW = statement(
    "messages.move_window",
    """
    UPDATE messages
    SET answers_seen = $2, refusals_seen = $3, receipts_seen = $4, undelivered_seen = $5
    WHERE id = $1
    """,
)


async def move_window(tx: Transaction, message_id: UUID, window: Tally) -> None:
    """Note where the next window begins."""
    await tx.execute(_MOVE_WINDOW, message_id, window.answers, window.refusals, window.receipts, window.undelivered)


# In the order of their keys, as every batch does: two that crossed would wait for each other.
_ADD_ERRORS = statement(
    "message_errors.add",
    """
    INSERT INTO message_errors AS known (message_id, code, church_id, failures)
    SELECT error.message_id, error.code, error.church_id, error.failures
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[]) AS error (message_id, code, church_id, failures)
    JOIN messages ON messages.id = error.message_id AND messages.church_id = error.church_id
    ORDER BY error.message_id, error.code
    ON CONFLICT (message_id, code) DO UPDATE SET failures = known.failures + excluded.failures
    """,
)


async def add_errors(tx: Transaction, errors: Mapping[Place, Mapping[str, int]]) -> None:
    """Count failures by the carrier's code, of any number of messages."""
    rows = [(place, code, count) for place, codes in errors.items() for code, count in codes.items() if count > 0]
    if rows:
        await tx.execute(
            _ADD_ERRORS,
            [place.message_id for place, _, _ in rows],
            [code for _, code, _ in rows],
            [place.church_id for place, _, _ in rows],
            [count for _, _, count in rows],
        )


_FIND_COMMONEST = statement(
    "message_errors.find_commonest",
    "SELECT code FROM message_errors WHERE message_id = $1 ORDER BY failures DESC, code LIMIT 1",
)


async def find_commonest_error(tx: Transaction, message_id: UUID) -> str | None:
    """The code of the most frequent failure."""
    code: str | None = await tx.fetch_value(_FIND_COMMONEST, message_id)
    return code
