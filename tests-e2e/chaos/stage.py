"""A platform made ready for chaos: what a process of each kind holds open when nothing happens, and its churches."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aio_pika
import aiohttp

from koinonia.bus.topology import QUEUES
from koinonia.cli import development_keys
from koinonia.cli.state import Process
from koinonia.db.roles import SERVICES
from koinonia.security.keys import Keys
from koinonia.servers.rabbitmq import RabbitMQ
from koinonia.testing.fixtures import wait_until

from ..church import Church
from ..platform import Platform
from ..stores import plain_in
from .books import Reader
from .kernel import Held, held, listens, sockets
from .plan import LATENCY_SECONDS, PROCESSES, RATE

LAYOUT = ("--delivery-workers", "2", "--processes", "messaging=2")
SERVERS = ("postgres", "rabbitmq", "redis")
AHEAD = 4  # churches registered at once


@dataclass
class Stage:
    """One platform, and what it was like before anything went wrong."""

    platform: Platform
    idempotency: bool
    reader: Reader
    keys: Keys
    baseline: dict[str, Counter[str]] = field(
        default_factory=dict
    )  # kind of process: what it holds besides connections
    consumers: dict[str, int] = field(default_factory=dict)  # queue: how many
    gone: set[int] = field(default_factory=set)  # the process ids that were killed
    _churches: list[Church] = field(default_factory=list)

    @classmethod
    async def open(cls, directory: Path, *, idempotency: bool) -> Self:
        """Start it, and return when a broker that is killed would come back with all its queues."""
        settings = {
            "KOINONIA_LONG_CODE_RATE": str(RATE),
            "KOINONIA_TELNYX_IDEMPOTENCY": str(idempotency).lower(),
        }
        began = time.time()
        platform = await Platform.start(directory, *LAYOUT, settings=settings)
        reader = Reader(lambda: platform.process("postgres").url)
        stage = cls(platform, idempotency, reader, _keys(platform))
        try:
            await platform.carrier.change(idempotency=idempotency, autoresponses=False, latency_seconds=LATENCY_SECONDS)
            assert {*stage.processes(), *SERVERS} == set(PROCESSES)  # each is killed in a block
            await stage._register()
            broker = RabbitMQ(platform.state.data, platform.state.logs)
            await wait_until(lambda: broker.remembers(began), seconds=30, what="a broker that knows its queues")
            stage.baseline = {kind_of(name): each.others for name, each in stage.held().items()}
            stage.consumers = await stage.count_consumers()
        except BaseException:
            await stage.close()
            raise
        return stage

    async def close(self) -> None:
        """Stop it; where it is whole, nothing plain of anybody may be left in it."""
        plain = await plain_in(self.platform) if await self.is_ready() else {}
        await self.reader.close()
        for church in self._churches:
            await church.close()
        await self.platform.stop()
        assert plain == {}

    async def church(self) -> Church:
        """A church that nobody else has."""
        if not self._churches:
            await self._register()
        return self._churches.pop()

    async def _register(self) -> None:
        self._churches += await Church.register_some(self.platform, AHEAD)

    def processes(self) -> dict[str, Process]:
        """The processes of the platform itself: no servers, no carrier."""
        found = self.platform.state.read_processes()
        return {name: each for name, each in found.items() if name not in (*SERVERS, "carrier")}

    def held(self) -> dict[str, Held]:
        """What each process of the platform holds open."""
        among = sockets()
        pids = {name: self.pid(name) for name in self.processes()}
        return {name: held(pid, among) for name, pid in pids.items() if pid is not None}

    async def count_consumers(self) -> dict[str, int]:
        """How many consumers each queue has."""
        async with await aio_pika.connect(self.platform.process("rabbitmq").url, timeout=5) as connection:
            channel = await connection.channel()
            found = [(await channel.declare_queue(name, passive=True)).declaration_result for name in QUEUES]
        return {name: each.consumer_count or 0 for name, each in zip(QUEUES, found, strict=True)}

    def database_ports(self, name: str) -> set[int]:
        """The ports that a process of the platform has at Postgres; none while it does not run."""
        pid = self.pid(name)
        server = self.platform.process("postgres").port
        return {each.local_port for each in held(pid, sockets()).to(server)} if pid is not None else set()

    def pid(self, name: str) -> int | None:
        """A process's id; None until it runs again. A server runs once clients can connect."""
        process = self.platform.process(name)
        # While a server starts, its id is listed as soon as that of another process changes.
        is_there = process.pid not in self.gone and (name not in SERVERS or listens(process.port))
        return process.pid if is_there else None

    def runs(self, *names: str) -> bool:
        """Whether these run (again)."""
        return all(self.pid(name) is not None for name in names)

    async def is_ready(self) -> bool:
        """Whether everything runs and takes work."""
        if not self.runs(*self.platform.state.read_processes()):
            return False
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            return all(await asyncio.gather(*(_is_ready(session, each.url) for each in self.processes().values())))


class Stages:
    """The one platform that is up; another is started in its place when a run needs another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started = 0
        self.current: Stage | None = None

    async def of(self, idempotency: bool) -> Stage:
        """The platform whose carrier honours idempotency keys, or does not."""
        if self.current is None or self.current.idempotency is not idempotency:
            await self.close()
            self._started += 1
            self._directory.mkdir(mode=0o755, exist_ok=True)
            self.current = await Stage.open(self._directory / f"platform-{self._started}", idempotency=idempotency)
        return self.current

    async def close(self) -> None:
        """Stop what is up."""
        stage, self.current = self.current, None
        if stage is not None:
            await stage.close()


def kind_of(name: str) -> str:
    """``delivery-worker`` of ``delivery-worker-2``."""
    stem, _, number = name.rpartition("-")
    return stem if number.isdigit() else name


def service_of(name: str) -> str:
    """The service that a process belongs to."""
    kind = kind_of(name)
    return kind if kind in SERVICES else "delivery"


def _keys(platform: Platform) -> Keys:
    made = development_keys.ensure(platform.state.keys)
    names = ("encryption_keys", "token_keys", "blind_index_key")
    return Keys.parse(**{name: made[f"KOINONIA_{name.upper()}"] for name in names})


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
