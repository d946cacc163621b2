"""The order in which a server is found: a setting that names it, an installed program, Docker, the package manager."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

from yarl import URL

from koinonia.servers import install, programs
from koinonia.servers.external import ExternalPostgres, ExternalRabbitMQ, ExternalRedis, NotPrivateError
from koinonia.servers.postgres import Postgres
from koinonia.servers.programs import Kind
from koinonia.servers.rabbitmq import RabbitMQ
from koinonia.servers.redis import Redis
from koinonia.servers.unavailable import ServersUnavailable

Choice = Literal["auto", "native", "docker"]

VARIABLES: dict[Kind, str] = {
    "postgres": "KOINONIA_DATABASE_URL",
    "rabbitmq": "KOINONIA_AMQP_URL",
    "redis": "KOINONIA_REDIS_URL",
}


class Server(Protocol):
    """What a private and a running server have in common. Only a private one has a process id, and can be killed."""

    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def pid(self) -> int | None: ...

    async def start(self) -> None: ...
    async def wait(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


class Broker(Server, Protocol):
    @property
    def management_url(self) -> str: ...


@dataclass(frozen=True)
class Wanted:
    """How private instances are made.

    ``directory`` takes their data, ``logs`` their logs. ``durable``: safe from a crash of the machine too.
    """

    directory: Path
    logs: Path
    durable: bool = False
    max_connections: int = 400


@dataclass(frozen=True)
class Servers:
    """The three servers, each private or somebody else's."""

    postgres: Server
    rabbitmq: Broker
    redis: Server

    async def start(self) -> None:
        """Start all at once, and return when each one's client works; where one fails, the others are stopped."""
        starting = [asyncio.ensure_future(server.start()) for server in self.all()]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for start in starting:
                start.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.kill()
            raise

    async def stop(self) -> None:
        """Stop the private ones in good order."""
        await asyncio.gather(*(server.stop() for server in self.all()))

    async def kill(self) -> None:
        """End the private ones at once."""
        with suppress(NotPrivateError):
            await self.redis.kill()
        with suppress(NotPrivateError):
            await self.rabbitmq.kill()
            await self.rabbitmq.stop()  # its epmd too
        with suppress(NotPrivateError):
            await self.postgres.kill()

    def all(self) -> tuple[Server, Broker, Server]:
        return self.postgres, self.rabbitmq, self.redis


def find(environ: Mapping[str, str], wanted: Wanted) -> Servers:
    """Find each of the three servers by the settings in ``environ``; none is started yet.

    Raises:
        ServersUnavailable: what is missing, or which setting is wrong, in one line.
    """
    provide(environ)
    database, amqp, redis = (environ.get(VARIABLES[kind]) for kind in get_args(Kind))
    return Servers(
        postgres=ExternalPostgres(database) if database else _private_postgres(wanted),
        rabbitmq=_external_rabbitmq(environ, amqp) if amqp else RabbitMQ(wanted.directory, wanted.logs),
        redis=ExternalRedis(redis) if redis else Redis(wanted.directory, wanted.logs),
    )


def provide(environ: Mapping[str, str]) -> None:
    """See to it that every server that no setting names can be started; its programs are installed where need be.

    Raises:
        ServersUnavailable: what is missing, or which setting is wrong, in one line.
    """
    _provide(choice_of(environ), [kind for kind in get_args(Kind) if not environ.get(VARIABLES[kind])])


def choice_of(environ: Mapping[str, str]) -> Choice:
    """Read ``KOINONIA_SERVERS``."""
    choice = environ.get("KOINONIA_SERVERS") or "auto"
    for known in get_args(Choice):
        if choice == known:
            return cast("Choice", known)
    raise ServersUnavailable(f"KOINONIA_SERVERS: {choice!r} is none of auto, native, docker")


def management_url(environ: Mapping[str, str], amqp_url: str) -> str:
    """Return the management API's URL: as set, else at its usual port beside the broker, with the same credentials."""
    if named := environ.get("KOINONIA_AMQP_MANAGEMENT_URL"):
        return named
    address = URL(amqp_url)
    scheme, port = ("https", 15671) if address.scheme == "amqps" else ("http", 15672)
    host = address.host or "127.0.0.1"
    return str(URL.build(scheme=scheme, user=address.user, password=address.password, host=host, port=port))


def _provide(choice: Choice, kinds: Sequence[Kind]) -> None:
    """See to it that private instances of these servers can be started; this is where another back end comes in."""
    if not kinds:
        return
    if choice == "docker":
        raise ServersUnavailable(
            "KOINONIA_SERVERS=docker: servers in containers are not supported by this version; "
            "use native, or name running servers by " + ", ".join(VARIABLES[kind] for kind in kinds)
        )
    missing = [kind for kind in kinds if not programs.is_installed(kind)]
    if missing and install.can_install():
        install.install(missing)
        missing = [kind for kind in kinds if not programs.is_installed(kind)]
    if missing:
        raise ServersUnavailable(
            f"not installed: {', '.join(missing)}; on Debian or Ubuntu, as root: apt-get install "
            + " ".join(install.packages(missing))
            + "; or name running servers by "
            + ", ".join(VARIABLES[kind] for kind in missing)
        )


def _external_rabbitmq(environ: Mapping[str, str], url: str) -> ExternalRabbitMQ:
    return ExternalRabbitMQ(url, management_url(environ, url))


def _private_postgres(wanted: Wanted) -> Postgres:
    return Postgres(wanted.directory, wanted.logs, durable=wanted.durable, max_connections=wanted.max_connections)
