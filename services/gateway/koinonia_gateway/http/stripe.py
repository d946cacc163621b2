"""Stripe's webhooks: what it tells of checkouts, subscriptions and invoices."""

from collections.abc import Mapping

import structlog
from aiohttp import web

from koinonia import metrics
from koinonia.api import Endpoint, webhooks
from koinonia.db import Database
from koinonia.security.identity import Identity
from koinonia.stripe import SIGNATURE_HEADER, Verifier, parse
from koinonia.web import Raw
from koinonia_gateway import payments
from koinonia_gateway.http.signed import SignedBodies

log = structlog.get_logger()


class StripeWebhooks:
    """The door that Stripe calls."""

    def __init__(self, database: Database, bodies: SignedBodies, verifier: Verifier) -> None:
        self._database = database
        self._bodies = bodies
        self._verifier = verifier

    def handlers(self) -> Mapping[Endpoint, Raw]:
        return {webhooks.STRIPE: Raw(self.take)}

    async def take(self, request: web.Request, _caller: Identity | None) -> web.Response:
        """Answer 200 once the event is stored, was stored before, or is known to mean nothing to us."""
        event = parse(await self._bodies.read(request, webhooks.STRIPE, self._verify))
        if event.about is None:
            log.info("webhook_ignored", event_type=event.type[:50])
            return web.Response()
        async with self._database.across_churches() as tx:
            is_new = await payments.report(tx, event, event.about)
        metrics.stripe_events_total.add(1, {"type": event.type, "effect": "stored" if is_new else "repeated"})
        return web.Response()

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._verifier.verify(body, headers.get(SIGNATURE_HEADER))
