"""How the gateway is put together."""

from functools import partial

from koinonia import stripe
from koinonia.carrier.webhooks import Verifier
from koinonia.security.passwords import Passwords
from koinonia.service import Parts, ServiceDefinition
from koinonia_gateway import events, own_phones
from koinonia_gateway.audit import Refusals
from koinonia_gateway.budgets import Budgets
from koinonia_gateway.callers import Callers
from koinonia_gateway.confirmation import Confirmation
from koinonia_gateway.forwarding import Forwarder
from koinonia_gateway.http import churches, docs, trail
from koinonia_gateway.http.admins import Admins
from koinonia_gateway.http.auth import Auth
from koinonia_gateway.http.own_phones import OwnPhones
from koinonia_gateway.http.passwords import PasswordRoutes
from koinonia_gateway.http.progress import Progress
from koinonia_gateway.http.sessions import SessionRoutes
from koinonia_gateway.http.signed import SignedBodies
from koinonia_gateway.http.stripe import StripeWebhooks
from koinonia_gateway.http.webhooks import Webhooks
from koinonia_gateway.intake import Intake
from koinonia_gateway.limits import Limiter
from koinonia_gateway.progress import Hub
from koinonia_gateway.schedule import BacklogReport, delete_expired
from koinonia_gateway.settings import GatewaySettings
from koinonia_gateway.trail import Trails
from koinonia_gateway.tries import Tries


def build(parts: Parts[GatewaySettings]) -> ServiceDefinition:
    """The service: its own routes, everybody else's, one queue."""
    settings, database, keys = parts.settings, parts.database, parts.keys
    limiter = Limiter(parts.redis, settings.rate_limit_prefix)
    refusals = Refusals(database, parts.life)
    callers = Callers(
        database,
        keys,
        limiter,
        budgets=Budgets(limiter, database, settings),
        refusals=refusals,
        failed_keys=settings.rate("webhook"),
        public_url=settings.public_url,
        trusted_proxies=settings.proxy_networks,
        cors_origins=settings.origins,
        require_mfa=settings.require_mfa,
    )
    passwords = Passwords(settings.password_cost)
    tries = Tries(limiter, settings.rate("auth"))
    confirmation = Confirmation(database, callers, passwords, tries)
    auth = Auth(parts, callers, limiter, passwords, tries=tries, confirmation=confirmation, refusals=refusals)
    forwarder = Forwarder(
        keys,
        settings.owner_urls,
        settings.forward_concurrency,
        with_own_phone=partial(own_phones.known, database),
    )
    hub = Hub(keys, forwarder.owners["messaging"])
    intake = Intake(database, parts.bus.publisher)
    bodies = SignedBodies(callers, limiter, settings.rate("webhook"))
    webhooks = Webhooks(database, keys, intake, bodies, Verifier(settings.telnyx_public_key or ()))
    stripes = StripeWebhooks(database, bodies, stripe.Verifier(settings.stripe_webhook_secret))

    async def end_streams() -> None:
        await parts.life.stopping.wait()
        hub.close()

    async def close() -> None:
        await intake.close()
        await forwarder.close()
        passwords.close()

    return ServiceDefinition(
        handlers={
            **auth.handlers(),
            **Admins(parts, callers, limiter, passwords, refusals=refusals).handlers(),
            **churches.HANDLERS,
            **churches.ApiKeys(keys, refusals).handlers(),
            **docs.HANDLERS,
            **OwnPhones(parts, limiter).handlers(),
            **PasswordRoutes(parts, callers, passwords, tries=tries, confirmation=confirmation).handlers(),
            **Progress(hub, callers).handlers(),
            **SessionRoutes(database, callers, confirmation).handlers(),
            **trail.handlers(Trails(database, keys, forwarder.owners)),
            **webhooks.handlers(),
            **stripes.handlers(),
            **forwarder.handlers(),
        },
        subscriptions=events.subscriptions(keys),
        loops={
            "backlog": BacklogReport(database, parts.bus.publisher, parts.life).run,
            "expired": lambda: delete_expired(database, parts.life),
            "end streams": end_streams,
        },
        identify=callers.identify,
        operators_port=settings.ops_port or 0,
        cors_origins=settings.origins,
        https=settings.public_url.startswith("https://"),
        close=close,
    )
