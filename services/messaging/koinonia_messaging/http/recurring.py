"""Requests about recurring messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page, PageQuery
from koinonia.api import recurring as api
from koinonia.api.recurring import RecurringMessage, RecurringPatch, RecurringRequest
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.web import Call, Handler
from koinonia_messaging import recurring
from koinonia_messaging.http.pages import page_by_id
from koinonia_messaging.store import recurring as store


@dataclass(frozen=True, slots=True)
class RecurringMessages:
    """The handlers."""

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.LIST: Handler(self.list_page),
            api.CREATE: Handler(self.create, rebuild=self.rebuild),
            api.GET: Handler(self.get),
            api.PATCH: Handler(self.patch, rebuild=self.rebuild),
            api.DELETE: Handler(self.delete),
        }

    async def list_page(self, call: Call[None, PageQuery], tx: Transaction) -> Page[RecurringMessage]:
        found = await store.list_page(tx, last_id(api.LIST.name, call.query), call.query.limit + 1)
        return page_by_id(api.LIST.name, call.query, found)

    async def create(self, call: Call[RecurringRequest, NoQuery], tx: Transaction) -> RecurringMessage:
        made = await recurring.create(tx, call.identity, call.body)
        call.made(made.id)
        return made

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> RecurringMessage:
        return await recurring.fetch(tx, call.path["id"])

    async def patch(self, call: Call[RecurringPatch, NoQuery], tx: Transaction) -> RecurringMessage:
        call.made(call.path["id"])
        return await recurring.change(tx, call.identity, call.path["id"], call.body)

    async def delete(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        await recurring.delete(tx, call.identity, call.path["id"])

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> RecurringMessage:
        return await recurring.fetch(tx, made_id)
