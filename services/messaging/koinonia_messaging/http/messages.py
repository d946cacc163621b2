"""Requests about messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page
from koinonia.api import messages as api
from koinonia.api.messages import Message, MessageEnvelope, MessagePreview, MessageQuery, SendRequest
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.web import Call, Handler
from koinonia_messaging import messages, pauses
from koinonia_messaging.http.pages import like_pattern, page_by_id
from koinonia_messaging.schedule import Bells
from koinonia_messaging.store import messages as message_store


@dataclass(frozen=True, slots=True)
class Messages:
    """What the handlers need."""

    bells: Bells
    segment_price_cents: float

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.PREVIEW: Handler(self.preview),
            api.SEND: Handler(self.send, rebuild=self.rebuild),
            api.LIST: Handler(self.list_page),
            api.GET: Handler(self.get),
            api.PAUSE: Handler(self.pause, rebuild=self.rebuild_one),
            api.RESUME: Handler(self.resume, rebuild=self.rebuild_one),
        }

    async def preview(self, call: Call[SendRequest, NoQuery], tx: Transaction) -> MessagePreview:
        return await messages.preview(tx, call.body, self.segment_price_cents)

    async def send(self, call: Call[SendRequest, NoQuery], tx: Transaction) -> MessageEnvelope:
        message = await messages.accept(tx, call.identity, call.body)
        call.made(message.id)
        tx.after_commit(self.bells.due.set)
        return MessageEnvelope(message=message)

    async def list_page(self, call: Call[None, MessageQuery], tx: Transaction) -> Page[Message]:
        query = call.query
        test = call.identity.shows_tests(query.test)
        listing = f"{api.LIST.name} tests" if test else api.LIST.name
        found = await message_store.list_page(
            tx,
            last_id(listing, query),
            query.limit + 1,
            status=query.status,
            pattern=None if query.search is None else like_pattern(query.search),
            tag=query.tag,
            test=test,
        )
        return page_by_id(listing, query, found)

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        return await messages.fetch(tx, call.path["id"])

    async def pause(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        return await pauses.pause(tx, call.identity, call.path["id"])

    async def resume(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        tx.after_commit(self.bells.due.set)
        tx.after_commit(self.bells.streaming.set)
        return await pauses.resume(tx, call.identity, call.path["id"])

    async def rebuild_one(self, call: Call[object, NoQuery], tx: Transaction, _made_id: UUID | None) -> Message:
        return await messages.fetch(tx, call.path["id"])

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> MessageEnvelope:
        return MessageEnvelope(message=await messages.fetch(tx, made_id))
