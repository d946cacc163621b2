"""Requests about figures."""

from collections.abc import Mapping

from koinonia.api import Endpoint, NoQuery
from koinonia.api import analytics as api
from koinonia.api.analytics import Dashboard, DeliveryByDay, DeliveryQuery
from koinonia.db import Transaction
from koinonia.web import Call, Handler
from koinonia_messaging import figures


def handlers() -> Mapping[Endpoint, Handler]:
    """The handlers by endpoint."""
    return {api.STATS: Handler(stats), api.DELIVERY: Handler(delivery)}


async def stats(_call: Call[None, NoQuery], tx: Transaction) -> Dashboard:
    return await figures.dashboard(tx)


async def delivery(call: Call[None, DeliveryQuery], tx: Transaction) -> DeliveryByDay:
    return await figures.delivery(tx, call.query.from_, call.query.to)
