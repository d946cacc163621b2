"""Requests about groups and who is in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page, PageQuery
from koinonia.api import groups as api
from koinonia.api.groups import Group, GroupMembersRequest, GroupPatch, GroupQuery, GroupRequest
from koinonia.api.members import Member
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.security import Keys
from koinonia.web import Call, Handler
from koinonia_messaging import groups
from koinonia_messaging.http.members import shown
from koinonia_messaging.http.pages import page_by_id
from koinonia_messaging.store import member_lists
from koinonia_messaging.store.member_lists import Filters


@dataclass(frozen=True, slots=True)
class Groups:
    """What the handlers need."""

    keys: Keys

    def handlers(self) -> Mapping[Endpoint, Handler]:
        """The handlers by endpoint."""
        return {
            api.LIST: Handler(self.list_page),
            api.GET: Handler(self.get),
            api.CREATE: Handler(self.create, rebuild=self.rebuild),
            api.PATCH: Handler(self.patch, rebuild=self.rebuild),
            api.DELETE: Handler(self.delete),
            api.RESTORE: Handler(self.restore, rebuild=self.rebuild),
            api.LIST_MEMBERS: Handler(self.list_members),
            api.ADD_MEMBERS: Handler(self.add_members, rebuild=self.rebuild),
            api.REMOVE_MEMBERS: Handler(self.remove_members, rebuild=self.rebuild),
        }

    async def list_page(self, call: Call[None, GroupQuery], tx: Transaction) -> Page[Group]:
        query = call.query
        listing = f"{api.LIST.name} deleted" if query.deleted else api.LIST.name
        found = await groups.list_page(tx, call.identity, query, last_id(listing, query))
        return page_by_id(listing, query, found)

    async def get(self, call: Call[None, NoQuery], tx: Transaction) -> Group:
        return await groups.fetch(tx, call.path["id"])

    async def create(self, call: Call[GroupRequest, NoQuery], tx: Transaction) -> Group:
        group = await groups.create(tx, call.identity, call.body)
        call.made(group.id)
        return group

    async def patch(self, call: Call[GroupPatch, NoQuery], tx: Transaction) -> Group:
        call.made(call.path["id"])
        return await groups.change(tx, call.identity, call.path["id"], call.body)

    async def delete(self, call: Call[None, NoQuery], tx: Transaction) -> None:
        await groups.delete(tx, call.identity, call.path["id"])

    async def restore(self, call: Call[None, NoQuery], tx: Transaction) -> Group:
        call.made(call.path["id"])
        return await groups.restore(tx, call.identity, call.path["id"])

    async def list_members(self, call: Call[None, PageQuery], tx: Transaction) -> Page[Member]:
        group = await groups.fetch(tx, call.path["id"])
        before = last_id(api.LIST_MEMBERS.name, call.query)
        after = None if before is None else (before, "")
        rows = await member_lists.list_page(tx, Filters(group_id=group.id), call.query.limit + 1, after=after)
        members = [shown(row, tx.tenant, self.keys) for row in rows]
        return page_by_id(api.LIST_MEMBERS.name, call.query, members)

    async def add_members(self, call: Call[GroupMembersRequest, NoQuery], tx: Transaction) -> Group:
        call.made(call.path["id"])
        return await groups.add_members(tx, call.identity, call.path["id"], call.body.member_ids)

    async def remove_members(self, call: Call[GroupMembersRequest, NoQuery], tx: Transaction) -> Group:
        call.made(call.path["id"])
        return await groups.remove_members(tx, call.identity, call.path["id"], call.body.member_ids)

    async def rebuild(self, _call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> Group:
        return await groups.fetch(tx, made_id)
