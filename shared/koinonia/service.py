"""A service as a process: settings in, parts made, doors opened, loops run, and all of it drained on SIGTERM.

A service says what it is in one function, ``build(parts) -> ServiceDefinition``; a test runs the same with ``running``.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import redis.asyncio as redis
import structlog
from aiohttp import web
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from koinonia import activation, metrics, telemetry
from koinonia import life as process_life
from koinonia import settings as process_settings
from koinonia.api import Endpoint
from koinonia.api.health import Check
from koinonia.bus import Bus, Subscription
from koinonia.db import Database
from koinonia.errors import is_transient
from koinonia.housekeeping import Forget, keep_tidy
from koinonia.life import Life, watch_loop_lag
from koinonia.security.keyring import KeyringInvalid
from koinonia.security.keys import Keys
from koinonia.settings import ServiceSettings, SettingsError
from koinonia.web import Handler, Identify, Probe, Raw, Server, build_app, build_operators_app, signed_identity
from koinonia.web.health import PING
from koinonia.web.server import IDLE_SECONDS, PATIENT_SECONDS

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

START_RETRY_SECONDS = 1.0
WARM_CONNECTIONS = 4
"""To the database before a process is ready: one that takes over gets all of its predecessor's requests at once."""
CLOSE_SECONDS = 2.0
BUS_RESERVE_SECONDS = 2.0  # of the drain, for acknowledging what was finished last
REDIS_CONNECTIONS = 20
REDIS_SECONDS = 0.2  # for a connection to become free, to connect, and to be answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Generic[S]):
    """What a service is made of; each is one per process."""

    settings: S
    database: Database
    bus: Bus
    redis: "redis.Redis"
    keys: Keys
    life: Life


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """What a service does.

    Attributes:
        handlers: the endpoints that it answers.
        subscriptions: what it reacts to.
        loops: what runs by the clock; each ends soon after ``life.stopping`` is set.
        forgetting: what deletes rows whose time is over, every ten minutes.
        routes: adds routes that the gateway alone calls.
        identify: who calls; behind the gateway, its signed word.
        operators_port: where metrics and details are served, if not beside the rest.
        https: whether browsers come by https.
        cors_origins: the other origins whose pages may call.
        close: called last, when nothing runs any more.
    """

    handlers: Mapping[Endpoint, Handler | Raw | Callable[..., Awaitable[Any]]] = field(default_factory=dict)
    subscriptions: Sequence[Subscription] = ()
    loops: Mapping[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    forgetting: Sequence[Forget] = ()
    routes: Callable[[web.Application], None] | None = None
    identify: Identify | None = None
    operators_port: int | None = None
    https: bool = False
    cors_origins: frozenset[str] = frozenset()
    close: Callable[[], Awaitable[None]] | None = None


Build = Callable[[Parts[S]], ServiceDefinition]


@dataclass(frozen=True, slots=True)
class Running(Generic[S]):
    """A service that runs in this process."""

    parts: Parts[S]
    port: int
    operators_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def main(
    service: str,
    build: Build[S],
    shape: type[S],
    *,
    process: str | None = None,
) -> None:
    """Run a service until it is told to stop, and exit.

    ``process`` is its name in logs where a service has several kinds of process. Wrong settings end in one line and
    exit status 2.
    """
    name = process or service
    try:
        settings = process_settings.load(shape)
        process_settings.refuse_unsafe(settings)
        process_settings.refuse_missing_files(settings)
        telemetry.configure(name, settings.log_level)
        keys = keys_of(settings)
    except (SettingsError, KeyringInvalid) as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)

    async def live(life: Life) -> None:
        async with running(service, build, settings, keys, life, name=name):
            await life.stopping.wait()

    status = process_life.run(live)
    telemetry.shut_down()
    sys.exit(status)


def keys_of(settings: ServiceSettings) -> Keys:
    """The keys that the settings hold."""
    return Keys.parse(
        encryption_keys=settings.encryption_keys,
        token_keys=settings.token_keys,
        blind_index_key=settings.blind_index_key,
    )


@asynccontextmanager
async def running(
    service: str, build: Build[S], settings: S, keys: Keys, life: Life, *, name: str | None = None
) -> AsyncIterator[Running[S]]:
    """Run a service in this process; leaving the context drains it.

    Draining: no new event and no new request is taken, what was begun is finished, acknowledged and answered, and what
    takes longer than ``drain_seconds`` is cut off.
    """
    database = await Database.open(
        settings.database_url,
        service,
        direct_url=settings.database_direct_url,
        pool_size=settings.database_pool_size,
        acquire_timeout_seconds=settings.database_acquire_timeout,
        statement_timeout_seconds=settings.database_statement_timeout,
        # Of a service's other kinds of process each is told apart: `koinonia delivery status` counts the workers by it.
        application=None if name in {None, service} else f"{name}-{os.getpid()}",
    )
    parts = Parts(
        settings=settings,
        database=database,
        bus=Bus.open(settings.amqp_url, f"koinonia-{name or service}"),
        redis=_open_redis(settings.redis_url),
        keys=keys,
        life=life,
    )
    definition = build(parts)
    probe = _probe(service, parts)
    servers = await _listen(definition, parts, probe)
    try:
        await _until_it_answers(database, life)
        parts.bus.consume(
            database,
            definition.subscriptions,
            life,
            drain_seconds=max(1.0, settings.drain_seconds - BUS_RESERVE_SECONDS),
        )
        for loop_name, loop in definition.loops.items():
            life.spawn(loop_name, loop())
        life.spawn("housekeeping", keep_tidy(database, life, definition.forgetting))
        life.spawn("loop lag", watch_loop_lag(life))
        await probe.look()  # whoever asks for its health first is not kept waiting
        life.ready()
        activation.say_ready()
        log.info("process_ready", port=servers[0].port)
        yield Running(parts, servers[0].port, servers[-1].port)
    finally:
        life.stop("left")
        # Others than the public door are called from inside alone.
        idle = PATIENT_SECONDS if life.replaced and definition.operators_port is not None else IDLE_SECONDS
        await asyncio.gather(
            life.finish(settings.drain_seconds),
            *(server.stop(settings.drain_seconds, idle_seconds=idle) for server in servers),
        )
        await _close_all(definition, parts)
        log.info("process_stopped")


async def _close_all(definition: ServiceDefinition, parts: Parts[S]) -> None:
    if definition.close is not None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await definition.close()
        except TimeoutError:
            log.warning("close_cut_off")
    await parts.bus.close()
    await parts.redis.aclose()
    await parts.database.close()


def _probe(service: str, parts: Parts[S]) -> Probe:
    return Probe(
        service=service,
        checks={"queues": lambda: _check_queues(parts.bus), "redis": lambda: _check_redis(parts.redis)},
        not_ready=lambda: parts.life.not_ready,
        details=lambda: {
            "pool": parts.database.pool_figures(),
            "breakers": {each.name: each.state for each in [*metrics.switches]},
        },
        database=parts.database,
        environment=parts.settings.environment,
    )


async def _listen(definition: ServiceDefinition, parts: Parts[S], probe: Probe) -> list[Server]:
    """The service's door, and the operators' where it is apart."""
    settings = parts.settings
    app = build_app(
        definition.handlers,
        identify=definition.identify or signed_identity(parts.keys),
        probe=probe,
        database=parts.database,
        https=definition.https,
        operators=definition.operators_port is None,
        cors_origins=definition.cors_origins,
    )
    if definition.routes is not None:
        definition.routes(app)
    servers = [await _open(app, settings.host, settings.port)]
    if definition.operators_port is not None:
        operators = build_operators_app(probe)
        servers.append(await _open(operators, settings.host, definition.operators_port))
    return servers


async def _open(app: web.Application, host: str, port: int) -> Server:
    return await Server.start(app, host, port, sock=activation.socket_of(port))


async def _until_it_answers(database: Database, life: Life) -> None:
    """Wait for a database that is away; the door is open meanwhile, and says so."""
    while not life.stopping.is_set():
        try:
            await asyncio.gather(*(_ping(database) for _ in range(WARM_CONNECTIONS)))
        except Exception as error:
            if not is_transient(error):
                raise
            life.not_ready = "the database does not answer"
            log.warning("database_awaited", reason=type(error.__cause__ or error).__name__)
            await life.pause(START_RETRY_SECONDS)
        else:
            return


async def _ping(database: Database) -> None:
    async with database.across_churches() as tx:
        await tx.fetch_value(PING)


def _open_redis(url: str) -> "redis.Redis":
    """A client that fails within a moment: nothing waits for what may be lost."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
    )
    return redis.Redis.from_pool(pool)


async def _check_queues(bus: Bus) -> Check:
    await bus.ping()
    return Check(status="ok")


async def _check_redis(client: "redis.Redis") -> Check:
    # Everything works without Redis, only slower.
    try:
        await client.ping()
    except (redis.RedisError, OSError, TimeoutError) as error:
        return Check(status="degraded", detail=type(error).__name__)
    return Check(status="ok")
