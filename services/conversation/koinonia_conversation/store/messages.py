"""The texts of conversations."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT_INBOUND = statement(
    "conversation_messages.insert_inbound",
    """
    INSERT INTO conversation_messages (id, church_id, conversation_id, direction, content, media_urls, created_at)
    VALUES ($1, $2, $3, 'inbound', $4, $5, $6)
    ON CONFLICT (id) DO NOTHING
    """,
)


async def insert_inbound(
    tx: Transaction,
    message_id: UUID,
    conversation_id: UUID,
    *,
    content: str,
    media_urls: Sequence[str],
    at: datetime,
) -> bool:
    """Store a text that came; False: it is here already."""
    count = await tx.execute(_INSERT_INBOUND, message_id, tx.tenant, conversation_id, content, list(media_urls), at)
    return count == 1


_INSERT_OUTBOUND = statement(
    "conversation_messages.insert_outbound",
    """
    INSERT INTO conversation_messages (
        id, church_id, conversation_id, direction, content, media_urls, status, status_rank, sent_by, created_at,
        test
    )
    VALUES ($1, $2, $3, 'outbound', $4, '{}', 'queued', 0, $5, $6, $7)
    """,
)


async def insert_outbound(
    tx: Transaction,
    message_id: UUID,
    conversation_id: UUID,
    *,
    content: str,
    sent_by: UUID,
    at: datetime,
    test: bool,
) -> None:
    """Store a reply that is to be sent."""
    await tx.execute(_INSERT_OUTBOUND, message_id, tx.tenant, conversation_id, content, sent_by, at, test)


_COLUMNS = "id, direction, content, media_urls, status, created_at, test"
_FIND = statement("conversation_messages.find", f"SELECT {_COLUMNS} FROM conversation_messages WHERE id = $1")


async def find(tx: Transaction, message_id: UUID) -> asyncpg.Record | None:
    """One text."""
    return await tx.fetch_row(_FIND, message_id)


_PAGE = f"""
    SELECT {_COLUMNS}
    FROM conversation_messages
    WHERE conversation_id = $1 AND ($2::uuid IS NULL OR id < $2) AND {{}}
    ORDER BY id DESC
    LIMIT $3
"""
_LIST_PAGE = statement("conversation_messages.list_page", _PAGE.format("NOT test"))
_LIST_WITH_TESTS = statement("conversation_messages.list_with_tests", _PAGE.format("true"))


async def list_page(
    tx: Transaction, conversation_id: UUID, before: UUID | None, limit: int, *, tests: bool
) -> list[asyncpg.Record]:
    """A page of a conversation's texts, newest first, with ``tests`` among them or without."""
    return await tx.fetch(_LIST_WITH_TESTS if tests else _LIST_PAGE, conversation_id, before, limit)


_ADVANCE = statement(
    "conversation_messages.advance",
    """
    UPDATE conversation_messages
    SET status = change.status, status_rank = change.rank
    FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS change (id, status, rank)
    WHERE conversation_messages.id = change.id AND direction = 'outbound' AND status_rank < change.rank
    """,
)


async def advance(tx: Transaction, ids: Sequence[UUID], statuses: Sequence[str], ranks: Sequence[int]) -> None:
    """Move replies forward to a status; one that is as far already stays."""
    await tx.execute(_ADVANCE, list(ids), list(statuses), list(ranks))


_FIND_OUTBOUND = statement(
    "conversation_messages.find_outbound",
    """
    SELECT sent_by, created_at
    FROM conversation_messages
    WHERE id = $1 AND church_id = $2 AND direction = 'outbound'
    """,
)


async def find_outbound(tx: Transaction, message_id: UUID) -> asyncpg.Record | None:
    """Who wrote a reply, and when."""
    return await tx.fetch_row(_FIND_OUTBOUND, message_id, tx.tenant)
