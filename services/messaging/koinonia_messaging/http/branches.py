"""Requests about branches."""

from collections.abc import Mapping
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page, PageQuery
from koinonia.api import branches as api
from koinonia.api.branches import Branch, BranchPatch, BranchRequest, BranchStats
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.web import Call, Handler
from koinonia_messaging import branches
from koinonia_messaging.http.pages import page_by_id
from koinonia_messaging.store import branches as branch_store
from koinonia_messaging.store import figures as figure_store


def handlers() -> Mapping[Endpoint, Handler]:
    """The handlers by endpoint."""
    return {
        api.LIST: Handler(list_page),
        api.STATS: Handler(list_stats),
        api.GET: Handler(get),
        api.CREATE: Handler(create, rebuild=rebuild),
        api.PATCH: Handler(patch, rebuild=rebuild),
        api.DELETE: Handler(delete),
    }


async def list_page(call: Call[None, PageQuery], tx: Transaction) -> Page[Branch]:
    before = last_id(api.LIST.name, call.query)
    return page_by_id(api.LIST.name, call.query, await branch_store.list_page(tx, before, call.query.limit + 1))


async def list_stats(call: Call[None, PageQuery], tx: Transaction) -> Page[BranchStats]:
    before = last_id(api.STATS.name, call.query)
    return page_by_id(api.STATS.name, call.query, await figure_store.list_branches(tx, before, call.query.limit + 1))


async def get(call: Call[None, NoQuery], tx: Transaction) -> Branch:
    return await branches.fetch(tx, call.path["id"])


async def create(call: Call[BranchRequest, NoQuery], tx: Transaction) -> Branch:
    branch = await branches.create(tx, call.identity, call.body)
    call.made(branch.id)
    return branch


async def patch(call: Call[BranchPatch, NoQuery], tx: Transaction) -> Branch:
    call.made(call.path["id"])
    return await branches.change(tx, call.identity, call.path["id"], call.body)


async def delete(call: Call[None, NoQuery], tx: Transaction) -> None:
    await branches.delete(tx, call.identity, call.path["id"])


async def rebuild(_call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> Branch:
    return await branches.fetch(tx, made_id)
