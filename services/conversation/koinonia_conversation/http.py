"""The inbox's routes. Phones are shown to the church whose they are."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.api import Endpoint
from koinonia.api import conversations as api
from koinonia.api.common import NoQuery, Page, TestableQuery
from koinonia.api.conversations import (
    Conversation,
    ConversationMember,
    ConversationMessage,
    ConversationQuery,
    ConversationStatusRequest,
    ConversationThread,
    ReplyRequest,
)
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.db.cursor import decode_cursor
from koinonia.errors import NotFound
from koinonia.paging import last_id, page_of
from koinonia.security.keys import Keys
from koinonia.web import Call, Handler
from koinonia_conversation import inbox
from koinonia_conversation.store import conversations, messages


class Routes:
    """The handlers; they hold the keys that open phones."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """Each endpoint of the inbox, and who answers it."""
        return {
            api.LIST: Handler(self.list_page),
            api.GET: Handler(self.get),
            api.REPLY: Handler(self.reply, rebuild=self.replied),
            api.READ: Handler(self.read, rebuild=self.show),
            api.SET_STATUS: Handler(self.set_status, rebuild=self.show),
        }

    async def list_page(self, call: Call[None, ConversationQuery], tx: Transaction) -> Page[Conversation]:
        """The inbox, latest activity first; one statement."""
        query = call.query
        after = decode_cursor("conversations", query.cursor, tuple[datetime, UUID]) if query.cursor else None
        rows = await conversations.list_page(tx, query.status, after, query.limit + 1)
        return page_of(
            "conversations",
            query,
            rows,
            show=lambda row: self._conversation(row, tx.tenant),
            key=lambda row: (row["last_message_at"], row["id"]),
        )

    async def get(self, call: Call[None, TestableQuery], tx: Transaction) -> ConversationThread:
        """One conversation with a page of its texts; two statements."""
        conversation_id, query = call.path["id"], call.query
        tests = call.identity.shows_tests(query.test)
        listing = f"conversation:{conversation_id}:tests" if tests else f"conversation:{conversation_id}"
        before = last_id(listing, query)
        conversation = await self.show(call, tx, conversation_id)
        rows = await messages.list_page(tx, conversation_id, before, query.limit + 1, tests=tests)
        page = page_of(listing, query, rows, show=_message, key=lambda row: (row["id"],))
        return ConversationThread(conversation=conversation, messages=page)

    async def reply(self, call: Call[ReplyRequest, NoQuery], tx: Transaction) -> ConversationMessage:
        """Send a reply."""
        reply_id = await inbox.reply(tx, call.path["id"], call.body.content, call.identity)
        call.made(reply_id)
        return await self.replied(call, tx, reply_id)

    async def replied(self, _call: Call[ReplyRequest, NoQuery], tx: Transaction, reply_id: UUID) -> ConversationMessage:
        """A reply as it stands."""
        row = await messages.find(tx, reply_id)
        if row is None:
            raise NotFound
        return _message(row)

    async def read(self, call: Call[None, NoQuery], tx: Transaction) -> Conversation:
        """Mark as read."""
        conversation_id = call.path["id"]
        await conversations.mark_read(tx, conversation_id)
        call.made(conversation_id)
        return await self.show(call, tx, conversation_id)

    async def set_status(self, call: Call[ConversationStatusRequest, NoQuery], tx: Transaction) -> Conversation:
        """Open, close or archive."""
        conversation_id, status = call.path["id"], call.body.status
        if not await conversations.set_status(tx, conversation_id, status):
            raise NotFound
        await outbox.add(
            tx, acted(call.identity, "conversation.status_set", "conversation", conversation_id, status=status)
        )
        call.made(conversation_id)
        return await self.show(call, tx, conversation_id)

    async def show(self, _call: object, tx: Transaction, conversation_id: UUID) -> Conversation:
        """A conversation as it stands."""
        row = await conversations.find(tx, conversation_id)
        if row is None:
            raise NotFound
        return self._conversation(row, tx.tenant)

    def _conversation(self, row: asyncpg.Record, church_id: UUID) -> Conversation:
        member = None
        if row["member_id"] is not None:
            member = ConversationMember(id=row["member_id"], first_name=row["first_name"], last_name=row["last_name"])
        last = None
        if row["message_id"] is not None:
            last = ConversationMessage(
                id=row["message_id"],
                direction=row["direction"],
                content=row["content"],
                media_urls=row["media_urls"],
                status=row["message_status"],
                error_code=None,
                created_at=row["message_created_at"],
            )
        return Conversation(
            id=row["id"],
            phone=self._keys.decrypt(row["phone_ciphertext"], church_id, "phone"),
            number_id=row["number_id"],
            member=member,
            status=row["status"],
            unread_count=row["unread_count"],
            last_message=last,
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )


def _message(row: asyncpg.Record) -> ConversationMessage:
    return ConversationMessage(
        id=row["id"],
        direction=row["direction"],
        content=row["content"],
        media_urls=row["media_urls"],
        status=row["status"],
        error_code=None,
        created_at=row["created_at"],
        test=row["test"],
    )
