"""The platform that the demo plays on: the one that runs here, or one of its own that ends with it."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import aiohttp
import click

from koinonia.cli import environment
from koinonia.cli.main import CommandFailed
from koinonia.cli.places import find_places
from koinonia.cli.state import Process, StateDirectory
from koinonia.demo.waiting import DemoFailed, until
from koinonia.servers import discard
from koinonia.servers.child import Child, spawn
from koinonia.servers.ports import free_ports

_READY_SECONDS = 120.0
_START_SECONDS = 900.0  # the servers' programs may have to be installed first
_STOP_SECONDS = 90.0
_LAST_LINES = 5  # of what the platform itself says; shown when the demo fails
_UP = "import sys; from koinonia.cli import main; main(['up', *sys.argv[1:]])"


@dataclass(frozen=True)
class Place:
    """Where a running platform is found. ``database_url`` is an administrator's."""

    url: str
    carrier_url: str
    database_url: str
    logs: Path


@asynccontextmanager
async def running(state: Path, say: Callable[[str], None]) -> AsyncIterator[Place]:
    """Use the platform of this state directory; where none runs, start one and stop it at the end.

    Raises:
        CommandFailed: the one that runs sends its texts through a real carrier.
        DemoFailed: the one started did not become ready.
        Exit: none can be started here; it has said why.
    """
    processes = StateDirectory(state).read_processes()
    if any(_lives(process) for process in processes.values()):
        yield await _ready(state)
        return
    async with _own(state, say) as own:
        yield own


@asynccontextmanager
async def _own(state: Path, say: Callable[[str], None]) -> AsyncIterator[Place]:
    """A platform with a new state directory, removed when all went well and kept for its logs when not."""
    own = _new_directory(state)
    log, directory = own / "up.log", own / "state"
    port = str(free_ports(1)[0])
    command = [sys.executable, "-c", _UP, "--port", port, "--carrier", "simulated", "--state-dir", str(directory)]
    child = spawn(command, log=log, environ=environment.inherited())
    try:
        await _started(child, log, say)
        yield await _ready(directory)
    except click.exceptions.Exit:  # nothing has run
        shutil.rmtree(own)
        raise
    except BaseException:
        for line in _lines(log)[-_LAST_LINES:]:
            say(line)
        await child.stop(grace_seconds=_STOP_SECONDS)
        say(f"the platform's logs are kept in {directory / 'logs'}")
        raise
    say("stopping the platform that the demo started")
    await child.stop(grace_seconds=_STOP_SECONDS)
    await asyncio.to_thread(discard, StateDirectory(directory).data)
    shutil.rmtree(own)


async def _started(child: Child, log: Path, say: Callable[[str], None]) -> None:
    """Wait for the line that says so, and tell each line that comes before it."""
    told = 0

    async def ready() -> bool | None:
        nonlocal told
        ended = await child.wait() if not child.running else None
        lines = _lines(log)
        for line in lines[told:]:
            say(line)
        told = len(lines)
        if ended == CommandFailed.exit_code:
            raise click.exceptions.Exit(ended)
        if ended is not None:
            raise DemoFailed("the platform ended while it started")
        return True if any(line.startswith("ready ") for line in lines) else None

    await until("the platform to start", ready, seconds=_START_SECONDS)


async def _ready(state: Path) -> Place:
    """The place of a platform that takes work; one that is just starting is waited for."""
    directory = StateDirectory(state)

    async def gateway() -> Process | None:
        found = directory.read_processes()
        process = found.get("gateway") or found.get("gateway-1")
        return process if process and await _answers(f"{process.url}/ready") else None

    process = await until(f"the gateway of {state} to be ready", gateway, seconds=_READY_SECONDS)
    carrier = directory.read_processes().get("carrier")
    if carrier is None:
        raise CommandFailed("the running platform has a real carrier; the demo plays with the simulated one alone")
    places = await asyncio.to_thread(find_places, state)
    return Place(process.url, carrier.url, places.database(), directory.logs)


async def _answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _new_directory(state: Path) -> Path:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    (state / "lock").touch()  # by which `up` knows it for a state directory, when this demo leaves its logs there
    return Path(mkdtemp(prefix="demo-", dir=state)).absolute()


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


def _lives(process: Process) -> bool:
    return process.pid is not None and Path(f"/proc/{process.pid}").exists()
