"""How compliance is put together."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.settings import ServiceSettings
from koinonia_compliance import events, http


def build(parts: Parts[ServiceSettings]) -> ServiceDefinition:
    """The service: one route, three queues."""
    return ServiceDefinition(handlers=http.HANDLERS, subscriptions=events.listing(parts.keys))
