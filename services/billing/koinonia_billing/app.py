"""How billing is put together."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.trail import answering
from koinonia_billing import events, http, trail
from koinonia_billing.settings import BillingSettings


def build(parts: Parts[BillingSettings]) -> ServiceDefinition:
    """The service: three routes, three queues."""
    return ServiceDefinition(
        handlers={**http.HANDLERS, **answering(trail.tell)}, subscriptions=events.listing(parts.settings)
    )
