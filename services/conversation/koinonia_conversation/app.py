"""How conversation is put together."""

from koinonia.service import Parts, ServiceDefinition
from koinonia.settings import ServiceSettings
from koinonia.trail import answering
from koinonia_conversation import trail
from koinonia_conversation.events import subscriptions
from koinonia_conversation.http import Routes


def build(parts: Parts[ServiceSettings]) -> ServiceDefinition:
    """The service: five routes, three queues."""
    return ServiceDefinition(
        handlers={**Routes(parts.keys).handlers(), **answering(trail.tell)}, subscriptions=subscriptions(parts.keys)
    )
