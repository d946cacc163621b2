"""What was stopped, and what delivery and billing have confirmed of it."""

from datetime import datetime
from uuid import UUID

from koinonia.api.messages import StopFigures
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.messages import STATUSES
from koinonia_messaging.store.messages import CANCEL_SQL, stopped

_CANCEL_ALL = statement("messages.cancel_all", f"{CANCEL_SQL} AND NOT test RETURNING id")


async def cancel_all(tx: Transaction, at: datetime, stop_id: UUID) -> list[UUID]:
    """Cancel every message of the church, tests excepted, that still has something to cancel; the ids of these."""
    return [row["id"] for row in await tx.fetch(_CANCEL_ALL, at, stop_id)]


_LIST_FIGURES = statement(
    "messages.list_stopped",
    f"""
    SELECT
        stop_total, streamed_recipients, {", ".join(STATUSES)}, stop_sent, stop_in_flight, credited_segments,
        credited_cents
    FROM messages
    WHERE stop_id = $1
    """,
)


async def list_figures(tx: Transaction, stop_id: UUID) -> list[StopFigures]:
    """The figures of each message that a stop of everything has cancelled."""
    found = [stopped(row) for row in await tx.fetch(_LIST_FIGURES, stop_id)]
    return [figures for figures in found if figures is not None]


_IS_CONFIRMED = statement(
    "messages.is_stop_confirmed",
    """
    SELECT NOT EXISTS (
        SELECT
        FROM messages
        WHERE (id = $1 OR stop_id = $1)
            AND stop_total IS NOT NULL
            AND (stop_sent IS NULL OR credited_segments IS NULL)
    )
    """,
)


async def is_confirmed(tx: Transaction, stop_id: UUID) -> bool:
    """Whether delivery and billing have confirmed the stop of everything, or the cancel of the message, of this id."""
    return bool(await tx.fetch_value(_IS_CONFIRMED, stop_id))


_CONFIRM = statement(
    "messages.confirm_stop",
    """
    UPDATE messages
    SET stop_sent = $2, stop_in_flight = $3, revision = revision + 1
    WHERE id = $1 AND stop_total IS NOT NULL AND stop_sent IS NULL
    """,
)


async def confirm(tx: Transaction, message_id: UUID, *, sent: int, in_flight: int) -> None:
    """Keep what delivery says of a cancelled message; the first word holds."""
    await tx.execute(_CONFIRM, message_id, sent, in_flight)


_CREDIT = statement(
    "messages.credit",
    """
    UPDATE messages
    SET credited_segments = $2, credited_cents = $3, revision = revision + 1
    WHERE id = $1 AND stop_total IS NOT NULL AND credited_segments IS NULL
    """,
)


async def credit(tx: Transaction, message_id: UUID, *, segments: int, cents: int) -> None:
    """Keep what billing gave back for a cancelled message; the first word holds."""
    await tx.execute(_CREDIT, message_id, segments, cents)
