"""Requests about messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page
from koinonia.api import messages as api
from koinonia.api.messages import (
    ApproveRequest,
    DraftRequest,
    DraftSent,
    Message,
    MessageEnvelope,
    MessagePatch,
    MessagePreview,
    MessageQuery,
    RejectRequest,
    SendRequest,
    TagsInUse,
)
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.web import Call, Handler
from koinonia_messaging import approvals, drafts, messages, pauses, resending
from koinonia_messaging.domain.plans import Tariff
from koinonia_messaging.http.pages import like_pattern, page_by_id
from koinonia_messaging.schedule import Bells
from koinonia_messaging.store import messages as message_store


@dataclass(frozen=True, slots=True)
class Messages:
    """What the handlers need."""

    bells: Bells
    tariff: Tariff

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.PREVIEW: Handler(self.preview),
            api.SEND: Handler(self.send, rebuild=self.rebuild),
            api.SEND_TO_ME: Handler(self.send_to_me, rebuild=self.sent_to_me),
            api.LIST: Handler(self.list_page),
            api.LIST_TAGS: Handler(self.list_tags),
            api.GET: Handler(self.get),
            api.PATCH: Handler(self.patch, rebuild=self.rebuild_one),
            api.PAUSE: Handler(self.pause, rebuild=self.rebuild_one),
            api.RESUME: Handler(self.resume, rebuild=self.rebuild_one),
            api.APPROVE: Handler(self.approve, rebuild=self.rebuild_one),
            api.REJECT: Handler(self.reject, rebuild=self.rebuild_one),
            api.RESEND_FAILED: Handler(self.resend_failed, rebuild=self.rebuild),
            api.SEND_AGAIN: Handler(self.send_again, rebuild=self.rebuild_one),
        }

    async def preview(self, call: Call[SendRequest, NoQuery], tx: Transaction) -> MessagePreview:
        return await messages.preview(tx, call.identity, call.body, self.tariff)

    async def send(self, call: Call[SendRequest, NoQuery], tx: Transaction) -> MessageEnvelope:
        message = await messages.accept(tx, call.identity, call.body)
        call.made(message.id)
        tx.after_commit(self.bells.due.set)
        return MessageEnvelope(message=message)

    async def send_to_me(self, call: Call[DraftRequest, NoQuery], tx: Transaction) -> DraftSent:
        draft_id = await drafts.send_to_me(tx, call.identity, call.body)
        call.made(draft_id)
        return DraftSent(id=draft_id)

    async def sent_to_me(self, _call: Call[DraftRequest, NoQuery], _tx: Transaction, made_id: UUID) -> DraftSent:
        return DraftSent(id=made_id)

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

    async def list_tags(self, _call: Call[None, NoQuery], tx: Transaction) -> TagsInUse:
        return TagsInUse(data=await message_store.list_tags(tx, api.MOST_TAGS))

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        return await messages.fetch(tx, call.path["id"])

    async def patch(self, call: Call[MessagePatch, NoQuery], tx: Transaction) -> Message:
        tx.after_commit(self.bells.due.set)
        return await messages.change(tx, call.identity, call.path["id"], call.body)

    async def pause(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        return await pauses.pause(tx, call.identity, call.path["id"])

    async def resume(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        tx.after_commit(self.bells.due.set)
        tx.after_commit(self.bells.streaming.set)
        return await pauses.resume(tx, call.identity, call.path["id"])

    async def approve(self, call: Call[ApproveRequest, NoQuery], tx: Transaction) -> Message:
        tx.after_commit(self.bells.due.set)
        return await approvals.approve(tx, call.identity, call.path["id"], at_once=call.body.at_once)

    async def reject(self, call: Call[RejectRequest, NoQuery], tx: Transaction) -> Message:
        return await approvals.reject(tx, call.identity, call.path["id"], call.body.reason)

    async def resend_failed(self, call: Call[None, NoQuery], tx: Transaction) -> MessageEnvelope:
        message = await resending.resend_failed(tx, call.identity, call.path["id"])
        call.made(message.id)
        return MessageEnvelope(message=message)

    async def send_again(self, call: Call[None, NoQuery], tx: Transaction) -> Message:
        tx.after_commit(self.bells.due.set)
        return await approvals.send_again(tx, call.identity, call.path["id"])

    async def rebuild_one(self, call: Call[object, NoQuery], tx: Transaction, _made_id: UUID | None) -> Message:
        return await messages.fetch(tx, call.path["id"])

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> MessageEnvelope:
        return MessageEnvelope(message=await messages.fetch(tx, made_id))
