"""One process in place of another: nobody who calls notices, and who fails to take over is gone again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from koinonia.cli.environment import OperatorSettings
from koinonia.cli.main import CommandFailed
from koinonia.cli.platform import Layout
from koinonia.cli.processes import PlatformProcess, ProcessSpec, Supervisor, until_ready
from koinonia.cli.state import Process, StateDirectory
from koinonia.cli.up import Options, Platform
from koinonia.servers.ports import free_ports

WaitUntil = Callable[..., Awaitable[object]]

# A process as koinonia.service makes one, without its servers: every answer takes a while, or what is asked of it,
# and names who gave it.
SERVICE = """
import asyncio, os
import structlog
from aiohttp import web
from koinonia import activation, life
from koinonia.web import Server
from koinonia.web.observing import DRAINING, EXPRESS, LOAD, Load, count, observe
from koinonia.web.server import IDLE_SECONDS, PATIENT_SECONDS
structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])

async def answer(request):
    await request.read()
    await asyncio.sleep(float(request.query.get("seconds", 0.01)))
    return web.json_response({"pid": os.getpid(), "word": os.environ["WORD"]})

async def serve(this):
    app = web.Application(middlewares=[count, observe(draining=this.stopping.is_set)])
    app[DRAINING], app[LOAD], app[EXPRESS] = asyncio.Event(), Load(), {}
    app.router.add_route("*", "/{path:.*}", answer)
    port = int(os.environ["PORT"])
    server = await Server.start(app, "127.0.0.1", port, sock=activation.socket_of(port))
    activation.say_ready()
    await this.stopping.wait()
    await server.stop(20, idle_seconds=PATIENT_SECONDS if this.replaced else IDLE_SECONDS)

life.run(serve)
"""
REFUSES_WHILE_IT_IS_THERE = """
import os, sys
if os.path.exists(os.environ["WORD"]):
    sys.exit(sys.stderr.write("notes: KOINONIA_NOTES is not set\\n") and 2)
"""
REFUSES = "import sys; print('{}', flush=True); print('notes: KOINONIA_NOTES is not set', file=sys.stderr); sys.exit(2)"


def spec(port: int, word: str, code: str = SERVICE, drain_seconds: float = 30) -> ProcessSpec:
    environ = {**os.environ, "PORT": str(port), "WORD": word}
    command = [sys.executable, "-c", code]
    return ProcessSpec("notes", command, environ, port, held=[port], drain_seconds=drain_seconds)


def is_running(pid: int | None) -> bool:
    """Whether it lives; a pid of None never did."""
    return pid is not None and Path(f"/proc/{pid}").exists()


class World:
    """One process under a supervisor."""

    def __init__(self, folder: Path, drain_seconds: float = 30) -> None:
        self.drain_seconds = drain_seconds
        self.state = StateDirectory(folder)
        self.state.logs.mkdir()
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.supervisor = Supervisor(self._note)

    def _note(self) -> None:
        self.state.write_processes(
            {each.name: Process(each.pid, each.port, each.url) for each in self.supervisor.all()}
        )

    @property
    def process(self) -> PlatformProcess:
        (process,) = self.supervisor.all()
        assert isinstance(process, PlatformProcess)
        return process

    async def start(self, word: str = "first", code: str = SERVICE) -> None:
        first = PlatformProcess(spec(self.port, word, code, self.drain_seconds), self.state.logs)
        await first.start()
        self.supervisor.keep(first)
        await until_ready([first])

    async def replace(self, word: str, code: str = SERVICE) -> None:
        old = self.process
        new = PlatformProcess(spec(self.port, word, code, self.drain_seconds), self.state.logs, old.door)
        await self.supervisor.replace(old, new)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.start()
    yield world
    await world.supervisor.stop(world.supervisor.all())
    assert world.state.read_processes() == {}


class Callers:
    """Some who call all the time, on connections that they keep, or on a new one each time; none calls twice."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = asyncio.Event()
        self.words: list[str] = []

    async def call(self, pause: float, *, keep: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not keep)
        async with aiohttp.ClientSession(connector=connector) as session:
            session._retry_connection = False
            while not self._stopping.is_set():
                async with session.post(self._url, data=b"x" * 2000) as answer:
                    assert answer.status == 200
                    self.words.append((await answer.json())["word"])
                await asyncio.sleep(pause)

    @asynccontextmanager
    async def calling(self) -> AsyncIterator["Callers"]:
        async with asyncio.TaskGroup() as group:
            for pause in (0.0, 0.03, 0.2, 0.9, 1.0, 1.1):
                group.create_task(self.call(pause, keep=True))
                group.create_task(self.call(pause / 10, keep=False))
            try:
                yield self
            finally:
                self._stopping.set()


async def test_nobody_who_calls_notices_that_a_process_is_replaced(world: World, wait_until: WaitUntil) -> None:
    pids = [world.process.pid]
    async with Callers(world.url).calling() as callers:
        for word in ("second", "third"):
            await world.replace(word)
            pids.append(world.process.pid)
            assert world.state.read_processes()["notes"].pid == world.process.pid
            callers.words.clear()
            await wait_until(lambda: len(callers.words) > 50)
            assert set(callers.words) == {word}  # the predecessor has ended
    assert len(set(pids)) == 3


async def test_who_does_not_take_over_is_named_and_the_predecessor_goes_on(world: World) -> None:
    pid = world.process.pid
    async with Callers(world.url).calling():
        with pytest.raises(CommandFailed, match=r"^notes does not get ready: notes: KOINONIA_NOTES is not set$"):
            await world.replace("second", REFUSES)
    assert world.process.pid == pid == world.state.read_processes()["notes"].pid
    assert not world.supervisor.failed.done()
    await world.replace("third")
    assert world.process.pid != pid


async def test_a_reload_that_fails_says_what_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # whatever .env there is elsewhere
    state = StateDirectory(tmp_path)
    state.logs.mkdir()
    platform = Platform(Options(8080, Layout({}), "simulated"), OperatorSettings(), state)
    (port,) = free_ports(1)
    try:
        (process,) = await platform.start_processes([spec(port, "first")])
        await until_ready([process])
        pid = process.pid
        monkeypatch.setattr(platform, "_specs", lambda _keys: [spec(port, "second", REFUSES)])
        line = (
            r"^notes does not get ready: notes: KOINONIA_NOTES is not set; "
            r"its predecessor goes on, and so do those after it$"
        )
        with pytest.raises(CommandFailed, match=line):
            await anext(platform.reload())
        monkeypatch.setenv("KOINONIA_ENCRYPTION_KEYS", "no-key")
        with pytest.raises(CommandFailed, match=r"^KOINONIA_ENCRYPTION_KEYS: .*; nothing was restarted$"):
            await anext(platform.reload())
        monkeypatch.setenv("KOINONIA_DATABASE_POOL_SIZE", "many")
        with pytest.raises(CommandFailed, match=r"^KOINONIA_DATABASE_POOL_SIZE: .*; nothing was restarted$"):
            await anext(platform.reload())
        assert platform.supervisor.all() == [process]
        assert process.pid == pid
    finally:
        await platform.supervisor.stop(platform.supervisor.all())
    assert not is_running(pid)


async def test_who_ends_without_a_word_is_named_with_its_status_and_its_log(world: World) -> None:
    line = r"^notes does not get ready: it ended with status 3 \(see /.*/notes\.log\)$"
    with pytest.raises(CommandFailed, match=line):
        await world.replace("second", "print('{}'); raise SystemExit(3)")


@pytest.mark.parametrize("replaced", [False, True])
async def test_who_was_ready_once_ends_nothing_when_it_refuses_its_settings_later(
    world: World, tmp_path: Path, replaced: bool, wait_until: WaitUntil, capfd: pytest.CaptureFixture[str]
) -> None:
    unfinished = tmp_path / "unfinished"
    if replaced:
        await world.replace(str(unfinished), REFUSES_WHILE_IT_IS_THERE + SERVICE)
    else:
        await world.supervisor.stop(world.supervisor.all())
        await world.start(str(unfinished), REFUSES_WHILE_IT_IS_THERE + SERVICE)
    unfinished.touch()
    pid = world.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    said = ""

    def is_refused() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "notes: KOINONIA_NOTES is not set\nnotes ended, starting it again in" in said

    await wait_until(is_refused)
    assert not world.supervisor.failed.done()
    unfinished.unlink()
    await until_ready([world.process])


async def test_who_refuses_its_settings_before_it_was_ready_ends_everything(tmp_path: Path) -> None:
    world = World(tmp_path)
    process = PlatformProcess(spec(world.port, "first", REFUSES), world.state.logs)
    await process.start()
    world.supervisor.keep(process)
    with pytest.raises(CommandFailed, match=r"^notes: KOINONIA_NOTES is not set$"):
        await asyncio.wait_for(asyncio.shield(world.supervisor.failed), 20)
    await world.supervisor.stop(world.supervisor.all())


async def test_a_killed_process_refuses_callers_and_comes_back_on_its_port_also_after_it_was_replaced(
    world: World, wait_until: WaitUntil
) -> None:
    await world.replace("second")
    pid = world.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: world.process.pid not in {None, pid})
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):  # not left waiting at a port where nobody answers yet
            await session.get(world.url, timeout=aiohttp.ClientTimeout(total=5))
        await until_ready([world.process])
        async with session.get(world.url) as answer:
            assert (await answer.json())["word"] == "second"
    await world.replace("third")


@asynccontextmanager
async def replacing_amid_a_request(
    world: World, seconds: float, wait_until: WaitUntil
) -> AsyncIterator[tuple[int, "asyncio.Task[str]"]]:
    """The process has a successor and drains, what awaited that is cancelled; its id, and the word of its answer."""
    pid = world.process.pid
    assert pid is not None

    async def ask() -> str:
        async with aiohttp.ClientSession() as session, session.get(f"{world.url}?seconds={seconds}") as answer:
            return str((await answer.json())["word"])

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0.5)
    replacing = asyncio.create_task(world.replace("second"))
    await wait_until(lambda: world.state.read_processes()["notes"].pid not in {None, pid})
    assert not replacing.done()
    replacing.cancel()  # as `koinonia up` does at a signal
    await asyncio.wait([replacing])
    assert replacing.cancelled()
    yield pid, asking
    await asyncio.gather(asking, return_exceptions=True)


async def test_who_drains_for_its_successor_goes_on_doing_so_when_all_stop(world: World, wait_until: WaitUntil) -> None:
    async with replacing_amid_a_request(world, 5, wait_until) as (pid, asking):
        successor = world.process.pid
        await world.supervisor.stop(world.supervisor.all())
        assert asking.done()
        assert await asking == "first"
        assert not is_running(pid)
        assert not is_running(successor)


async def test_who_drains_for_longer_than_it_may_is_killed_when_all_stop(tmp_path: Path, wait_until: WaitUntil) -> None:
    world = World(tmp_path, drain_seconds=3)
    await world.start()
    async with replacing_amid_a_request(world, 60, wait_until) as (pid, asking):
        await asyncio.wait_for(world.supervisor.stop(world.supervisor.all()), 30)
        assert not is_running(pid)
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_who_drains_for_its_successor_is_killed_with_all_others(world: World, wait_until: WaitUntil) -> None:
    async with replacing_amid_a_request(world, 60, wait_until) as (pid, asking):
        successor = world.process.pid
        stopping = asyncio.create_task(world.supervisor.stop(world.supervisor.all()))
        await asyncio.sleep(0.2)
        assert is_running(pid)
        await world.supervisor.kill()
        await asyncio.wait_for(stopping, 5)
        assert not is_running(pid)
        assert not is_running(successor)
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_nobody_is_started_again_when_all_are_killed(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    pid = world.process.pid
    await world.supervisor.kill()
    await asyncio.sleep(0.5)
    assert not is_running(pid)
    assert world.process.pid is None
    assert "starting it again" not in capfd.readouterr().err
