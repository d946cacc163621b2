"""Processes kept running: started, restarted with backoff when they die, and stopped in order."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp
import click

from koinonia import activation
from koinonia.cli.main import CommandFailed
from koinonia.servers import ServersUnavailable
from koinonia.servers.child import Child, spawn

READY_SECONDS = 180.0
STABLE_SECONDS = 10.0  # who lived this long is started again at once
LONGEST_PAUSE_SECONDS = 15.0
WRONG_SETTINGS = 2  # the exit status of a process that cannot be helped by starting it again


class Supervised(Protocol):
    """What is kept running: a server, or a process of the platform."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def port(self) -> int: ...
    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...
    async def wait(self) -> None: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


@dataclass(frozen=True)
class ProcessSpec:
    """How a process of the platform is started.

    Attributes:
        ready_path: answers 200 when it takes work.
        held: the ports of ``host`` that are bound for it, so that a successor can take over.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    port: int
    held: Sequence[int] = ()
    host: str = "127.0.0.1"
    ready_path: str = "/ready"
    drain_seconds: float = 30.0


class Door:
    """The sockets of a process: bound here, listened at by the process, and by its successor."""

    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}

    def bind(self, host: str, ports: Sequence[int]) -> None:
        """Bind what is not.

        Raises:
            OSError: somebody else has a port, or the host is none of this machine.
        """
        for port in ports:
            if port not in self.sockets:
                try:
                    self.sockets[port] = activation.bind(host, port)
                except (OSError, UnicodeError) as error:  # the latter: no name of a host looks like that
                    raise OSError(f"port {port} of {host}: {getattr(error, 'strerror', None) or error}") from error

    def close(self) -> None:
        """Let go of them: once nobody listens, connections are refused."""
        for each in self.sockets.values():
            each.close()
        self.sockets.clear()


class PlatformProcess:
    """One process of the platform, with its log."""

    def __init__(self, spec: ProcessSpec, logs: Path, door: Door | None = None) -> None:
        self.spec = spec
        self.door = door or Door()
        self.name = spec.name
        self.port = spec.port
        self.url = f"http://127.0.0.1:{spec.port}"
        self._log = logs / f"{spec.name}.log"
        self._child: Child | None = None
        self.exit_status: int | None = None
        self.was_ready = False  # once at least: settings that it refuses later were good for it before

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.running else None

    async def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self._spawn()

    async def start_and_wait(self, *, seconds: float = READY_SECONDS) -> None:
        """Start it, and wait until it says that it takes work. Its port may be answered by its predecessor.

        Raises:
            CommandFailed: it does not in time, or has ended.
        """
        reading, writing = os.pipe()
        try:
            child = self._spawn(writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(seconds):
                if await _is_told(reading):
                    self.was_ready = True
                    return
                status = await child.wait()
        except TimeoutError:
            why = f"it takes longer than {seconds:g} s"
            raise CommandFailed(f"{self.name} does not get ready: {why} (see {self._log})") from None
        raise CommandFailed(f"{self.name} does not get ready: {self._complaint(status)}")

    def _spawn(self, ready: int | None = None) -> Child:
        self.door.bind(self.spec.host, self.spec.held)
        sockets = self.door.sockets
        descriptors = [each.fileno() for each in sockets.values()] + ([ready] if ready is not None else [])
        environ = {**self.spec.environ, **activation.told(sockets, ready)}
        self._child = spawn(self.spec.command, log=self._log, environ=environ, pass_fds=descriptors)
        return self._child

    async def wait(self) -> None:
        if self._child:
            self.exit_status = await self._child.wait()
            self.door.close()

    async def stop(self) -> None:
        self.door.close()
        if self._child:
            await self._child.stop(grace_seconds=self.spec.drain_seconds)

    async def give_way(self) -> None:
        """Let it drain and end, now that its successor has its door."""
        if self._child:
            await self._child.stop(signal.SIGUSR1, grace_seconds=self.spec.drain_seconds)

    async def kill(self) -> None:
        if self._child:
            await self._child.kill()

    def last_line(self) -> str:
        """The last line of its log."""
        return self._child.tail(1) if self._child else ""

    def _complaint(self, status: int) -> str:
        """What it said last that is no log entry, such as a setting that it refuses; its predecessor logs beside it."""
        tail = self._child.tail(1000).splitlines() if self._child else []
        said = [line for line in tail if line and not line.startswith("{")]
        return said[-1] if said else f"it ended with status {status} (see {self._log})"

    async def is_ready(self, session: aiohttp.ClientSession) -> bool:
        """Ask it."""
        try:
            async with session.get(self.url + self.spec.ready_path) as answer:
                ready = answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        self.was_ready = self.was_ready or ready
        return ready


class Supervisor:
    """Keeps what it is given running, until it is told to stop.

    ``changed`` is called whenever a process id has changed. ``failed`` holds the error that makes going on senseless.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._kept: list[tuple[Supervised, asyncio.Task[None]]] = []
        self._leaving: dict[asyncio.Task[None], PlatformProcess] = {}  # predecessors that drain, by what awaits it
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def all(self) -> list[Supervised]:
        """Everything that is kept, in the order of its starting."""
        return [each for each, _ in self._kept]

    def keep(self, supervised: Supervised) -> None:
        """Keep running what was started."""
        self._kept.append((supervised, self._keeper(supervised)))
        self._changed()

    def _keeper(self, supervised: Supervised) -> asyncio.Task[None]:
        task = asyncio.create_task(self._keep(supervised), name=f"keep {supervised.name}")
        task.add_done_callback(self._ended)
        return task

    async def replace(self, old: PlatformProcess, new: PlatformProcess) -> None:
        """Start ``new`` beside ``old``, and when it takes work let ``old`` drain.

        Raises:
            CommandFailed: ``new`` does not get ready. It is gone again, and ``old`` goes on.
        """
        place = self.all().index(old)
        await self._let_go([old])
        try:
            await new.start_and_wait()
        except BaseException as error:
            await new.kill()
            self._kept[place] = (old, self._keeper(old))
            if isinstance(error, OSError):
                raise CommandFailed(f"{new.name} cannot be started: {error}") from error
            raise
        self._kept[place] = (new, self._keeper(new))
        leaving = asyncio.create_task(old.give_way(), name=f"{old.name} gives way")
        self._leaving[leaving] = old
        leaving.add_done_callback(self._leaving.pop)
        self._changed()
        await asyncio.shield(leaving)  # who stops waiting for it, since all is to stop, does not cut its drain short

    async def stop(self, group: Sequence[Supervised]) -> None:
        """Stop these and their predecessors, all at once, each draining; none is started again."""
        names = {each.name for each in group}
        leaving = [task for task, old in self._leaving.items() if old.name in names]
        await self._let_go(group)
        await asyncio.gather(*(each.stop() for each in group), *leaving)
        self._kept = [pair for pair in self._kept if pair[0] not in group]
        self._changed()

    async def kill(self) -> None:
        """End all at once, those who drain as well; none is started again."""
        await self._let_go(self.all())
        await asyncio.gather(*(each.kill() for each in (*self.all(), *self._leaving.values())))

    async def _let_go(self, group: Sequence[Supervised]) -> None:
        tasks = [task for each, task in self._kept if each in group]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, supervised: Supervised) -> None:
        clock = asyncio.get_running_loop().time
        pause = 0.0
        while True:
            started = clock()
            await supervised.wait()
            pause = 0.0 if clock() - started > STABLE_SECONDS else min(max(0.5, pause * 2), LONGEST_PAUSE_SECONDS)
            await self._restart(supervised, pause)

    async def _restart(self, supervised: Supervised, pause: float) -> None:
        status = getattr(supervised, "exit_status", None)
        if status == WRONG_SETTINGS and isinstance(supervised, PlatformProcess):
            if not supervised.was_ready:
                raise CommandFailed(supervised.last_line())
            click.echo(supervised.last_line(), err=True)  # somebody may be at the settings: the others go on
        click.echo(f"{supervised.name} ended, starting it again{f' in {pause:g} s' if pause else ''}", err=True)
        if pause:
            self._changed()
            await _back_off(pause)
        try:
            await supervised.start()
        except (OSError, ServersUnavailable) as error:  # its next turn comes with a longer pause
            click.echo(f"{supervised.name}: {error}", err=True)
        self._changed()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)


async def until_ready(processes: Sequence[PlatformProcess], *, seconds: float = READY_SECONDS) -> None:
    """Wait until every process says that it is ready.

    Raises:
        CommandFailed: one is not in time; the end of its log follows.
    """
    waiting = list(processes)
    deadline = asyncio.get_running_loop().time() + seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while waiting:
            answers = await asyncio.gather(*(process.is_ready(session) for process in waiting))
            waiting = [process for process, ready in zip(waiting, answers, strict=True) if not ready]
            if waiting and asyncio.get_running_loop().time() > deadline:
                late = waiting[0]
                raise CommandFailed(f"{late.name} is not ready after {seconds:g} s; its log ends: {late.last_line()}")
            if waiting:
                await asyncio.sleep(0.1)


async def _is_told(descriptor: int) -> bool:
    """Whether something is written to a pipe before all who could have closed it. Closes our end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor))
    try:
        return bool(await reader.read(1))
    finally:
        transport.close()


async def _back_off(seconds: float) -> None:
    await asyncio.sleep(seconds)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]
