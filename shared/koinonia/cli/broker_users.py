"""A broker user per service, held to its own queues and to the events that it publishes, by name."""

import re
from collections.abc import Iterable, Mapping

from yarl import URL

from koinonia.bus.declare import DEAD_EXCHANGE, DELAY_SECONDS, delay_exchange
from koinonia.bus.topology import EXCHANGE, queues_of, types_of
from koinonia.servers.broker_admin import BrokerAdmin

GIVEN_BACK = (DEAD_EXCHANGE, *(delay_exchange(seconds) for seconds in DELAY_SECONDS))
"""Exchanges for events that failed; a routing key there is the name of the queue they came from."""


def user_of(service: str) -> str:
    """The name of a service's broker user."""
    return f"koinonia_{service}"


async def ensure(amqp_url: str, management_url: str, passwords: Mapping[str, str]) -> None:
    """Make each service's user, or set its password, and its rights in the virtual host of ``amqp_url``."""
    vhost = vhost_of(amqp_url)
    async with BrokerAdmin(management_url) as admin:
        for service, password in passwords.items():
            user, queues = user_of(service), _any_of(queues_of(service))
            await admin.put_user(user, password)
            await admin.permit(user, vhost, configure="^$", write=_any_of((EXCHANGE, *GIVEN_BACK)), read=queues)
            await admin.permit_topic(user, vhost, exchange=EXCHANGE, write=_any_of(types_of(service)))
            for exchange in GIVEN_BACK:
                await admin.permit_topic(user, vhost, exchange=exchange, write=queues)


def vhost_of(amqp_url: str) -> str:
    """The virtual host that a URL names."""
    return URL(amqp_url).path.removeprefix("/") or "/"


def _any_of(names: Iterable[str]) -> str:
    """The pattern for these names and no others."""
    return rf"\A({'|'.join(map(re.escape, names))})\z"
