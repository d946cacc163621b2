"""Conversations: one per number of the church and number of a person."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_ENSURE = statement(
    "conversations.ensure",
    """
    INSERT INTO conversations (
        id, church_id, number_id, phone_index, phone_ciphertext, status, last_message_at, created_at, updated_at
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $7)
    ON CONFLICT (church_id, phone_index, number_id) DO UPDATE SET phone_ciphertext = excluded.phone_ciphertext
    RETURNING id
    """,
)


async def ensure(
    tx: Transaction,
    new_id: UUID,
    *,
    number_id: UUID,
    phone_index: bytes,
    phone_ciphertext: bytes,
    status: str,
    at: datetime,
) -> UUID:
    """The conversation of these two numbers, made where there is none; its row is locked."""
    found: UUID = await tx.fetch_value(_ENSURE, new_id, tx.tenant, number_id, phone_index, phone_ciphertext, status, at)
    return found


_NOTE_MESSAGE = statement(
    "conversations.note_message",
    """
    UPDATE conversations
    SET unread_count = unread_count + $4,
        status = CASE WHEN $5 THEN 'open' ELSE status END,
        last_message_id = CASE WHEN last_message_id IS NULL OR last_message_id < $2 THEN $2 ELSE last_message_id END,
        last_message_at = greatest(last_message_at, $3),
        updated_at = clock_timestamp()
    WHERE id = $1
    """,
)


async def note_message(
    tx: Transaction, conversation_id: UUID, message_id: UUID, at: datetime, *, unread: int, opens: bool
) -> None:
    """Count a text that came or went; an older one does not become the last."""
    await tx.execute(_NOTE_MESSAGE, conversation_id, message_id, at, unread, opens)


_VIEW = """
    SELECT
        conversations.id, conversations.number_id, phone_ciphertext, conversations.status, unread_count,
        last_message_at, conversations.created_at, updated_at,
        numbers.status AS number_status,
        contact.member_id, contact.first_name, contact.last_name,
        message.id AS message_id, message.direction, message.content, message.media_urls,
        message.status AS message_status, message.created_at AS message_created_at,
        conversations.phone_index
    FROM conversations
    LEFT JOIN numbers ON numbers.number_id = conversations.number_id
    LEFT JOIN LATERAL (
        SELECT member_id, first_name, last_name
        FROM contacts
        WHERE contacts.church_id = conversations.church_id AND contacts.phone_index = conversations.phone_index
            AND NOT deleted
        ORDER BY first_name, last_name, member_id
        LIMIT 1
    ) AS contact ON true
    LEFT JOIN conversation_messages AS message ON message.id = conversations.last_message_id
"""
_FIND = statement("conversations.find", f"{_VIEW} WHERE conversations.id = $1")


async def find(tx: Transaction, conversation_id: UUID) -> asyncpg.Record | None:
    """A conversation as it is shown: with its member, number and last text."""
    return await tx.fetch_row(_FIND, conversation_id)


_LIST_PAGE = statement(
    "conversations.list_page",
    f"""
    {_VIEW}
    WHERE ($1::text IS NULL OR conversations.status = $1)
        AND ($2::timestamptz IS NULL OR (last_message_at, conversations.id) < ($2, $3::uuid))
    ORDER BY last_message_at DESC, conversations.id DESC
    LIMIT $4
    """,
)


async def list_page(
    tx: Transaction, status: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[asyncpg.Record]:
    """A page, latest activity first."""
    at, conversation_id = after or (None, None)
    return await tx.fetch(_LIST_PAGE, status, at, conversation_id, limit)


_MARK_READ = statement(
    "conversations.mark_read",
    "UPDATE conversations SET unread_count = 0, updated_at = clock_timestamp() WHERE id = $1",
)


async def mark_read(tx: Transaction, conversation_id: UUID) -> bool:
    """Nothing is unread any more; False: no such conversation."""
    return await tx.execute(_MARK_READ, conversation_id) == 1


_SET_STATUS = statement(
    "conversations.set_status",
    "UPDATE conversations SET status = $2, updated_at = clock_timestamp() WHERE id = $1",
)


async def set_status(tx: Transaction, conversation_id: UUID, status: str) -> bool:
    """Open, close or archive; False: no such conversation."""
    return await tx.execute(_SET_STATUS, conversation_id, status) == 1
