"""Servers that run already and that a setting names."""

import asyncio
from abc import ABC, abstractmethod

from yarl import URL

from koinonia.servers import probes
from koinonia.servers.unavailable import ServersUnavailable

_PORTS = {"postgres": 5432, "rabbitmq": 5672, "redis": 6379}


class NotPrivateError(RuntimeError):
    """A running server that somebody else owns is never killed."""


class _External(ABC):
    """A server of somebody else's: reached, never stopped."""

    name: str
    variable: str
    pid: int | None = None

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = URL(url).port or _PORTS[self.name]

    async def start(self) -> None:
        """Check that it answers.

        Raises:
            ServersUnavailable: it does not.
        """
        try:
            await asyncio.wait_for(self._connect(), 10)
        except Exception as error:
            place = f"{URL(self.url).host}:{self.port}"
            raise ServersUnavailable(f"{self.variable}: no answer from {place}: {error!r}") from error

    async def wait(self) -> None:
        """Never ends: its process is not ours to watch."""
        await asyncio.Event().wait()

    async def stop(self) -> None:  # noqa: B027 - that is all there is to do, for each of them
        """Leave it running."""

    async def kill(self) -> None:
        raise NotPrivateError(f"{self.name} is not ours")

    @abstractmethod
    async def _connect(self) -> None:
        """Be answered by the server, or raise."""


class ExternalPostgres(_External):
    name = "postgres"
    variable = "KOINONIA_DATABASE_URL"

    async def _connect(self) -> None:
        await probes.postgres(self.url)


class ExternalRabbitMQ(_External):
    name = "rabbitmq"
    variable = "KOINONIA_AMQP_URL"

    def __init__(self, url: str, management_url: str) -> None:
        super().__init__(url)
        self.management_url = management_url

    async def _connect(self) -> None:
        await probes.rabbitmq(self.url, self.management_url)


class ExternalRedis(_External):
    name = "redis"
    variable = "KOINONIA_REDIS_URL"

    async def _connect(self) -> None:
        await probes.redis(self.url)
