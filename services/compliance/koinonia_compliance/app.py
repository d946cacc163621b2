"""How compliance is put together."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.settings import ServiceSettings
from koinonia.trail import answering
from koinonia_compliance import events, http, trail


def build(parts: Parts[ServiceSettings]) -> ServiceDefinition:
    """The service: one route, four queues."""
    return ServiceDefinition(
        handlers={**http.HANDLERS, **answering(trail.tell)}, subscriptions=events.listing(parts.keys)
    )
