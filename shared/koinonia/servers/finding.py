"""The order in which a server is found: a setting that names it, an installed program, Docker, the package manager."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
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

NAMES = "containers"
"""The file in a directory of servers that keeps the name and the password of those that ran in containers."""
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


class PrivateBroker(Broker, Protocol):
    async def remembers(self, since: float) -> bool: ...
    async def control(self, *command: str) -> None: ...


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
    contained = provide(environ)
    return Servers(
        postgres=_postgres(environ, wanted, contained="postgres" in contained),
        rabbitmq=_rabbitmq(environ, wanted, contained="rabbitmq" in contained),
        redis=_redis(environ, wanted, contained="redis" in contained),
    )


def provide(environ: Mapping[str, str]) -> Collection[Kind]:
    """See to it that every server that no setting names can be started; returns those that run in containers.

    Images are pulled, and programs installed, where need be.

    Raises:
        ServersUnavailable: what is missing, or which setting is wrong, in one line.
    """
    choice = choice_of(environ)
    kinds = [kind for kind in get_args(Kind) if not environ.get(VARIABLES[kind])]
    missing = [kind for kind in kinds if not programs.is_installed(kind)]
    if choice == "docker":
        _provide_containers(kinds, environ)
        return kinds
    refused = ""
    if missing and choice == "auto":
        try:
            _provide_containers(missing, environ)
        except ServersUnavailable as unavailable:
            refused = f" ({unavailable})"
        else:
            return missing
    _provide_programs(missing, refused)
    return ()


def discard(directory: Path) -> None:
    """Remove what an engine keeps for a directory of servers, which is about to be removed itself."""
    if (directory / NAMES).exists():
        from koinonia.servers import containers  # noqa: PLC0415 - see below

        containers.discard(directory)


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
    trusted = {"cafile": address.query["cafile"]} if "cafile" in address.query else {}
    url = URL.build(scheme=scheme, user=address.user, password=address.password, host=host, port=port, query=trusted)
    return str(url)


def _provide_containers(kinds: Sequence[Kind], environ: Mapping[str, str]) -> None:
    if not kinds:
        return
    try:
        from koinonia.servers import containers  # noqa: PLC0415 - its packages are large, and for development
    except ModuleNotFoundError as error:
        raise ServersUnavailable(f"servers in containers need requirements-dev.txt: {error}") from error
    containers.provide(kinds, environ)


def _provide_programs(missing: Sequence[Kind], refused: str) -> None:
    """Install these servers' programs; ``refused`` tells why they cannot run in containers."""
    if missing and install.can_install():
        install.install(missing)
        missing = [kind for kind in missing if not programs.is_installed(kind)]
    if missing:
        raise ServersUnavailable(
            f"not installed: {', '.join(missing)}{refused}; on Debian or Ubuntu, as root: apt-get install "
            + " ".join(install.packages(missing))
            + "; or name running servers by "
            + ", ".join(VARIABLES[kind] for kind in missing)
        )


def _postgres(environ: Mapping[str, str], wanted: Wanted, *, contained: bool) -> Server:
    if url := environ.get(VARIABLES["postgres"]):
        return ExternalPostgres(url)
    directory, logs, durable, most = wanted.directory, wanted.logs, wanted.durable, wanted.max_connections
    if contained:
        from koinonia.servers.containers import ContainerPostgres, image  # noqa: PLC0415

        named = image("postgres", environ)
        return ContainerPostgres(named, directory, logs, durable=durable, max_connections=most)
    return Postgres(directory, logs, durable=durable, max_connections=most)


def _rabbitmq(environ: Mapping[str, str], wanted: Wanted, *, contained: bool) -> Broker:
    if url := environ.get(VARIABLES["rabbitmq"]):
        return ExternalRabbitMQ(url, management_url(environ, url))
    if contained:
        from koinonia.servers.containers import ContainerRabbitMQ, image  # noqa: PLC0415

        return ContainerRabbitMQ(image("rabbitmq", environ), wanted.directory, wanted.logs, durable=wanted.durable)
    return RabbitMQ(wanted.directory, wanted.logs)


def _redis(environ: Mapping[str, str], wanted: Wanted, *, contained: bool) -> Server:
    if url := environ.get(VARIABLES["redis"]):
        return ExternalRedis(url)
    if contained:
        from koinonia.servers.containers import ContainerRedis, image  # noqa: PLC0415

        return ContainerRedis(image("redis", environ), wanted.directory, wanted.logs)
    return Redis(wanted.directory, wanted.logs)
