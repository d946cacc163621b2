"""Billing's routes: plans, the church's subscription, its usage."""

from collections.abc import Mapping

import asyncpg

from koinonia.api import Endpoint, billing
from koinonia.api.billing import Plan, Subscription, Usage, UsageQuery
from koinonia.api.common import NoQuery, Page
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.web import Call, Handler
from koinonia_billing import usage
from koinonia_billing.store import subscriptions as store


async def list_plans(_call: Call[None, NoQuery], tx: Transaction) -> Page[Plan]:
    """Every plan, cheapest first."""
    plans = [_plan(row, code=row["code"], identifier="id") for row in await store.list_plans(tx)]
    return Page(data=plans, has_more=False, next_cursor=None)


async def get_subscription(_call: Call[None, NoQuery], tx: Transaction) -> Subscription:
    """The church's plan and period."""
    row = await store.find(tx)
    if row is None:
        raise NotFound
    return Subscription(
        id=row["id"],
        plan=_plan(row, code=row["plan_code"], identifier="plan_id"),
        status=row["status"],
        period_start=row["period_start"],
        period_end=row["period_end"],
        created_at=row["created_at"],
    )


async def get_usage(call: Call[None, UsageQuery], tx: Transaction) -> Usage:
    """What the church used."""
    return await usage.show(tx, call.query)


def _plan(row: asyncpg.Record, *, code: str, identifier: str) -> Plan:
    return Plan(
        id=row[identifier],
        code=code,
        name=row["name"],
        price_cents=row["price_cents"],
        overage_cents=row["overage_cents"],
        currency=row["currency"],
        included_segments=row["included_segments"],
    )


HANDLERS: Mapping[Endpoint, Handler] = {
    billing.LIST_PLANS: Handler(list_plans),
    billing.GET_SUBSCRIPTION: Handler(get_subscription),
    billing.GET_USAGE: Handler(get_usage),
}
