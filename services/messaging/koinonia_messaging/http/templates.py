"""Requests about templates."""

from collections.abc import Mapping
from uuid import UUID

from koinonia.api import Endpoint, NoQuery, Page, PageQuery
from koinonia.api import templates as api
from koinonia.api.templates import Template, TemplatePatch, TemplateRequest
from koinonia.db import Transaction
from koinonia.paging import last_id
from koinonia.web import Call, Handler
from koinonia_messaging import templates
from koinonia_messaging.http.pages import page_by_id


def handlers() -> Mapping[Endpoint, Handler]:
    """The handlers by endpoint."""
    return {
        api.LIST: Handler(list_page),
        api.CREATE: Handler(create, rebuild=rebuild),
        api.PATCH: Handler(patch, rebuild=rebuild),
        api.DELETE: Handler(delete),
    }


async def list_page(call: Call[None, PageQuery], tx: Transaction) -> Page[Template]:
    before = last_id(api.LIST.name, call.query)
    return page_by_id(api.LIST.name, call.query, await templates.list_page(tx, before, call.query.limit + 1))


async def create(call: Call[TemplateRequest, NoQuery], tx: Transaction) -> Template:
    template = await templates.create(tx, call.identity, call.body)
    call.made(template.id)
    return template


async def patch(call: Call[TemplatePatch, NoQuery], tx: Transaction) -> Template:
    call.made(call.path["id"])
    return await templates.change(tx, call.identity, call.path["id"], call.body)


async def delete(call: Call[None, NoQuery], tx: Transaction) -> None:
    await templates.delete(tx, call.identity, call.path["id"])


async def rebuild(_call: Call[object, NoQuery], tx: Transaction, made_id: UUID) -> Template:
    return await templates.fetch(tx, made_id)
