"""Subscriptions and plans."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_INSERT = statement(
    "subscriptions.insert",
    """
    INSERT INTO subscriptions (
        church_id, id, version, plan_code, status, church_status, church_version,
        period_start, period_end, included_segments, created_at
    )
    VALUES ($1, $2, 1, 'trial', 'trialing', $3, $4, $5, $6, $7, $5)
    ON CONFLICT (church_id) DO NOTHING
    """,
)


async def insert_trial(
    tx: Transaction,
    subscription_id: UUID,
    *,
    church_status: str,
    church_version: int,
    begins_at: datetime,
    ends_at: datetime,
    included_segments: int,
) -> bool:
    """Begin a church's trial; False: it has a subscription already."""
    count = await tx.execute(
        _INSERT, tx.tenant, subscription_id, church_status, church_version, begins_at, ends_at, included_segments
    )
    return count == 1


_UPDATE_CHURCH = statement(
    "subscriptions.update_church",
    "UPDATE subscriptions SET church_status = $1, church_version = $2 WHERE church_version < $2",
)


async def update_church(tx: Transaction, status: str, version: int) -> None:
    """Note the church's status, unless a newer one is known."""
    await tx.execute(_UPDATE_CHURCH, status, version)


_FIND = statement(
    "subscriptions.find",
    """
    SELECT
        subscriptions.id, version, plan_code, status, church_status, period_start, period_end, created_at,
        subscriptions.included_segments, used_segments, reserved_segments,
        plans.id AS plan_id, name, price_cents, overage_cents, currency
    FROM subscriptions
    JOIN plans ON plans.code = subscriptions.plan_code
    """,
)


async def find(tx: Transaction) -> asyncpg.Record | None:
    """The church's subscription with its plan."""
    return await tx.fetch_row(_FIND)


_LOCK = statement("subscriptions.lock", f"{_FIND.text} FOR UPDATE OF subscriptions")


async def lock(tx: Transaction) -> asyncpg.Record | None:
    """As ``find``; nobody else decides for this church until the transaction ends."""
    return await tx.fetch_row(_LOCK)


_LOCK_MANY = statement(
    "subscriptions.lock_many",
    """
    SELECT church_id
    FROM subscriptions
    WHERE church_id = ANY($1::uuid[])
    ORDER BY church_id
    FOR UPDATE
    """,
)


async def lock_many(tx: Transaction, church_ids: Sequence[UUID]) -> set[UUID]:
    """Lock the subscriptions of several churches, in one order; answers which there are."""
    return {row["church_id"] for row in await tx.fetch(_LOCK_MANY, church_ids)}


_SET_PLAN = statement(
    "subscriptions.set_plan",
    """
    UPDATE subscriptions
    SET
        plan_code = plans.code, included_segments = plans.included_segments,
        status = CASE WHEN plans.code = 'trial' THEN 'trialing' ELSE 'active' END,
        version = version + 1
    FROM plans
    WHERE church_id = $1 AND plans.code = $2
    RETURNING version, plan_code, status, period_start, period_end, subscriptions.included_segments
    """,
)


async def set_plan(tx: Transaction, code: str) -> asyncpg.Record | None:
    """Give the church another plan within its running period; answers its subscription at the next version."""
    return await tx.fetch_row(_SET_PLAN, tx.tenant, code)


_LOCK_PLAN = statement(
    "subscriptions.lock_plan", "SELECT plan_code, status FROM subscriptions WHERE church_id = $1 FOR UPDATE"
)


async def lock_plan(tx: Transaction) -> asyncpg.Record | None:
    """The plan of the transaction's church, whatever else the transaction may see; nobody decides by it meanwhile."""
    return await tx.fetch_row(_LOCK_PLAN, tx.tenant)


_ADD = statement(
    "subscriptions.add",
    """
    UPDATE subscriptions
    SET used_segments = used_segments + change.used, reserved_segments = reserved_segments + change.reserved
    FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS change (church_id, used, reserved)
    WHERE subscriptions.church_id = change.church_id
    """,
)


async def add(tx: Transaction, church_ids: Sequence[UUID], used: Sequence[int], reserved: Sequence[int]) -> None:
    """Add to what locked subscriptions have used and reserved; differences may be negative."""
    await tx.execute(_ADD, church_ids, used, reserved)


_LIST_PLANS = statement(
    "plans.list",
    """
    SELECT id, code, name, price_cents, overage_cents, currency, included_segments
    FROM plans
    ORDER BY price_cents, code
    """,
)


async def list_plans(tx: Transaction) -> list[asyncpg.Record]:
    """Every plan, cheapest first."""
    return await tx.fetch(_LIST_PLANS)
