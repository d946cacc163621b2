"""A broker user per service, held to its own queues and to the events that it publishes."""

from collections.abc import Mapping

from yarl import URL

from koinonia.bus.declare import DEAD_EXCHANGE, DELAY_SECONDS, delay_exchange
from koinonia.bus.topology import EXCHANGE
from koinonia.servers.broker_admin import BrokerAdmin


def user_of(service: str) -> str:
    """The name of a service's broker user."""
    return f"koinonia_{service}"


async def ensure(amqp_url: str, management_url: str, passwords: Mapping[str, str]) -> None:
    """Make each service's user, or set its password, and its rights in the virtual host of ``amqp_url``."""
    vhost = vhost_of(amqp_url)
    async with BrokerAdmin(management_url) as admin:
        for service, password in passwords.items():
            user = user_of(service)
            await admin.put_user(user, password)
            exchanges = "|".join(name.replace(".", r"\.") for name in _exchanges())
            await admin.permit(user, vhost, configure="^$", write=f"^({exchanges})$", read=rf"^{service}\.")
            await admin.permit_topic(user, vhost, exchange=EXCHANGE, write=_published(service))
            for exchange in _exchanges()[1:]:  # what it gives back, under the name of a queue of its own
                await admin.permit_topic(user, vhost, exchange=exchange, write=rf"^{service}\.")


def vhost_of(amqp_url: str) -> str:
    """The virtual host that a URL names."""
    return URL(amqp_url).path.removeprefix("/") or "/"


def _exchanges() -> list[str]:
    return [EXCHANGE, DEAD_EXCHANGE, *(delay_exchange(seconds) for seconds in DELAY_SECONDS)]


def _published(service: str) -> str:
    """The event types of a service: its own, what it did for the audit, and, for the gateway, the carrier's word."""
    sources = [service, "audit", *(["carrier"] if service == "gateway" else [])]
    return rf"^({'|'.join(sources)})\."
