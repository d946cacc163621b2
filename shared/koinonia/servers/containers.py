"""The three servers in containers of the Docker engine: published on 127.0.0.1 alone, gone when their starter is.

A container is made at the first start, killed and started again as it is, with its ports and its data. Where the data
shall outlive it they lie in a volume, whose name is kept in the server's directory: without the one, the other is lost.
"""

import asyncio
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from docker.errors import APIError, NotFound  # type: ignore[import-untyped]

from koinonia.servers import engine, probes
from koinonia.servers.child import private
from koinonia.servers.engine import Recipe
from koinonia.servers.finding import NAMES
from koinonia.servers.ports import free_ports
from koinonia.servers.postgres import STATISTICS, as_options, server_settings
from koinonia.servers.programs import Kind
from koinonia.servers.unavailable import ServersUnavailable
from koinonia.servers.waiting import until_ready

IMAGES: dict[Kind, tuple[str, str]] = {
    "postgres": ("POSTGRES_IMAGE", "postgres:15"),
    "rabbitmq": ("RABBITMQ_IMAGE", "rabbitmq:3.10-management"),
    "redis": ("REDIS_IMAGE", "redis:7"),
}
_NODE = "rabbit@koinonia"  # fixed, as its data lies under this name; it is made of the container's
_GRACE_SECONDS = 30

T = TypeVar("T")


def provide(kinds: Sequence[Kind], environ: Mapping[str, str]) -> None:
    """See to it that these servers can be started in containers, and nothing of dead processes is in their way.

    Raises:
        ServersUnavailable: no engine answers, or an image cannot be had.
    """
    client = engine.connect()
    for kind in kinds:
        engine.ensure_image(client, image(kind, environ), IMAGES[kind][0])
    engine.remove_leftovers(client)
    client.client.close()


def discard(directory: Path) -> None:
    """Remove the containers of a directory, and the volumes with their data."""
    client = engine.connect()
    for kind in get_args(Kind):
        engine.remove(client, _own(directory, kind)[0])
    client.client.close()


def image(kind: Kind, environ: Mapping[str, str]) -> str:
    """Return the image of a server."""
    variable, usual = IMAGES[kind]
    return environ.get(variable) or usual


class Container:
    """One container, as its starter sees a child process: running or not, with a log."""

    def __init__(self, recipe: Recipe, log: Path) -> None:
        self._recipe = recipe
        self._log = log
        self._container: Any = None
        self._pid: int | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    @property
    def pid(self) -> int | None:
        """The process id of its first process, on this machine."""
        return self._pid if self.running else None

    async def start(self) -> None:
        """Start it; it is made where it is not there.

        Raises:
            ServersUnavailable: the engine would not.
        """
        engine.watch_over_this_process()
        try:
            since = await _in_thread(self._start)
        except engine.ERRORS as error:
            raise ServersUnavailable(f"{self._recipe.name}: {engine.in_one_line(error)}") from error
        self._ended = asyncio.Event()
        follow = partial(self._follow, since, asyncio.get_running_loop(), self._ended)
        threading.Thread(target=follow, name=f"log of {self._recipe.name}", daemon=True).start()

    async def wait(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    async def stop(self) -> None:
        """Ask it to end, and kill it where it does not."""
        if self.running:
            await _in_thread(partial(self._container.stop, timeout=_GRACE_SECONDS))
            await self.wait()

    async def kill(self) -> None:
        """SIGKILL to all its processes, then wait until it is gone."""
        if self.running:
            await _in_thread(self._kill)
            await self.wait()

    async def execute(self, *command: str) -> None:
        """Run a command inside."""
        status, output = await _in_thread(partial(self._container.exec_run, list(command)))
        if status != 0:
            raise RuntimeError(f"{' '.join(command)}: {output.decode(errors='replace')}")

    async def modified_at(self, path: str) -> float:
        """Return when a file inside was written, in seconds since 1970; 0 where it is not there."""
        return await _in_thread(partial(self._modified_at, path))

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _start(self) -> float:
        since = time.time()
        if self._container is not None:
            with suppress(NotFound):  # somebody removed it
                self._container.start()
                return self._noted(since)
        self._container = engine.create(self._recipe)
        self._container.start()
        return self._noted(since)

    def _noted(self, since: float) -> float:
        self._container.reload()
        self._pid = self._container.attrs["State"]["Pid"] or None
        return since

    def _follow(self, since: float, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """Copy this run's output to the log until there is no more, and say so."""
        try:
            with open(self._log, "ab", buffering=0, opener=private) as log, suppress(*engine.ERRORS):
                output = self._container.logs(stream=True, follow=True, since=since)
                log.writelines(output)
                output.close()
                self._container.wait()
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set)

    def _kill(self) -> None:
        with suppress(NotFound):
            try:
                self._container.kill()
            except APIError as error:
                if error.status_code != 409:  # it is not running any more
                    raise

    def _modified_at(self, path: str) -> float:
        try:
            content, about = self._container.get_archive(path)
        except NotFound:
            return 0.0
        for _ in content:
            pass
        return datetime.fromisoformat(about["mtime"]).timestamp()


class _Contained(ABC):
    """A server in a container; its client and its ports are each server's own."""

    name: Kind
    url: str
    port: int
    _container: Container

    @property
    def pid(self) -> int | None:
        return self._container.pid

    async def start(self) -> None:
        """Start it (again, on the same ports and data), and return when a client can log in."""
        await self._container.start()
        await until_ready(self.name, self._container, self.port, self._probe)

    async def wait(self) -> None:
        """Wait until it ends."""
        await self._container.wait()

    async def stop(self) -> None:
        """An orderly stop."""
        await self._container.stop()

    async def kill(self) -> None:
        """As ``kill -9`` of every process of the server at once."""
        await self._container.kill()

    @abstractmethod
    async def _probe(self) -> None:
        """Be answered by the server, or raise."""


class ContainerPostgres(_Contained):
    name = "postgres"

    def __init__(self, image: str, directory: Path, logs: Path, *, durable: bool, max_connections: int) -> None:
        name, secret = _own(directory, self.name)
        (self.port,) = free_ports(1)
        self.url = f"postgresql://postgres:{secret}@127.0.0.1:{self.port}/postgres"
        settings = server_settings(durable=durable, max_connections=max_connections) | STATISTICS
        recipe = Recipe(
            name=name,
            directory=directory,
            image=image,
            command=["postgres", *as_options(settings)],
            environment={"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": secret},
            ports={5432: self.port},
            data="/var/lib/postgresql/data" if durable else None,
            options={"shm_size": "256m", "stop_signal": "SIGINT"},  # a fast shutdown
        )
        self._container = Container(recipe, logs / "postgres.log")

    async def _probe(self) -> None:
        await probes.postgres(self.url)


class ContainerRabbitMQ(_Contained):
    name = "rabbitmq"

    def __init__(self, image: str, directory: Path, logs: Path, *, durable: bool) -> None:
        name, secret = _own(directory, self.name)
        self.port, management_port = free_ports(2)
        self.url = f"amqp://koinonia_admin:{secret}@127.0.0.1:{self.port}/"
        self.management_url = f"http://koinonia_admin:{secret}@127.0.0.1:{management_port}"
        recipe = Recipe(
            name=name,
            directory=directory,
            image=image,
            environment={
                "RABBITMQ_DEFAULT_USER": "koinonia_admin",
                "RABBITMQ_DEFAULT_PASS": secret,
                # Erlang makes room for as many ports as it may open files, and an engine may allow 1,000,000,000.
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+Q 65536",
            },
            ports={5672: self.port, 15672: management_port},
            data="/var/lib/rabbitmq" if durable else None,
            options={"hostname": _NODE.partition("@")[2]},
        )
        self._container = Container(recipe, logs / "rabbitmq.log")

    async def remembers(self, since: float) -> bool:
        """As that of a private one: see `koinonia.servers.rabbitmq`."""
        folder = f"/var/lib/rabbitmq/mnesia/{_NODE}/quorum/{_NODE}"
        times = [await self._container.modified_at(f"{folder}/{name}") for name in ("names.dets", "meta.dets")]
        return min(times) >= since

    async def control(self, *command: str) -> None:
        """Run ``rabbitmqctl``."""
        await self._container.execute("rabbitmqctl", *command)

    async def _probe(self) -> None:
        await probes.rabbitmq(self.url, self.management_url)


class ContainerRedis(_Contained):
    """It keeps nothing over a restart."""

    name = "redis"

    def __init__(self, image: str, directory: Path, logs: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = ["redis-server", "--protected-mode", "no", "--save", "", "--appendonly", "no"]
        name, _ = _own(directory, self.name)
        recipe = Recipe(name, image, {6379: self.port}, directory, command)
        self._container = Container(recipe, logs / "redis.log")

    async def _probe(self) -> None:
        await probes.redis(self.url)


def _own(directory: Path, kind: Kind) -> tuple[str, str]:
    """Return a server's name on the engine and its administrator's password: the directory's own, made once."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / NAMES
    if not file.exists():
        with open(file, "w", opener=private) as new:
            new.write(f"{secrets.token_hex(6)} {secrets.token_hex(16)}")
    name, secret = file.read_text().split()
    return f"koinonia-{name}-{kind}", secret


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread what blocks; a caller that is cancelled meanwhile waits for it, and knows what it did."""
    running: Awaitable[T] = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])  # type: ignore[type-var]
        raise
