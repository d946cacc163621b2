"""Processes of the platform: kept running, told truly in processes.json, stopped with their supervisor."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from koinonia.cli.main import CommandFailed
from koinonia.cli.processes import PlatformProcess, ProcessSpec, Supervisor, python_module, until_ready
from koinonia.cli.state import Process, StateDirectory
from koinonia.servers.ports import free_ports

WaitUntil = Callable[..., Awaitable[object]]


def carrier(name: str = "carrier") -> ProcessSpec:
    (port,) = free_ports(1)
    command = python_module("koinonia.carrier.simulated", "--port", str(port))
    return ProcessSpec(name, command, dict(os.environ), port, ready_path="/simulator")


def script(name: str, code: str) -> ProcessSpec:
    (port,) = free_ports(1)
    return ProcessSpec(name, [sys.executable, "-c", code], dict(os.environ), port)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path)
    state.logs.mkdir()
    return state


@asynccontextmanager
async def supervised(state: StateDirectory, *specs: ProcessSpec) -> AsyncIterator[Supervisor]:
    def note() -> None:
        state.write_processes({each.name: Process(each.pid, each.port, each.url) for each in supervisor.all()})

    supervisor = Supervisor(note)
    for spec in specs:
        process = PlatformProcess(spec, state.logs)
        await process.start()
        supervisor.keep(process)
    try:
        yield supervisor
    finally:
        await supervisor.stop(supervisor.all())


async def test_a_killed_process_is_started_again_and_processes_json_knows(
    state: StateDirectory, wait_until: WaitUntil
) -> None:
    async with supervised(state, carrier()) as supervisor:
        (process,) = supervisor.all()
        assert isinstance(process, PlatformProcess)
        await until_ready([process])
        first = state.read_processes()["carrier"]
        assert first.pid is not None
        assert first.pid == process.pid
        os.kill(first.pid, signal.SIGKILL)
        await wait_until(lambda: state.read_processes()["carrier"].pid not in {None, first.pid})
        second = state.read_processes()["carrier"]
        assert (second.port, second.url) == (first.port, first.url)
        assert second.pid == process.pid
        await until_ready([process])
    assert state.read_processes() == {}
    assert process.pid is None


async def test_a_process_that_keeps_dying_is_started_ever_more_slowly(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    pauses: list[float] = []
    shown: list[int | None] = []

    async def note_pause(seconds: float) -> None:
        pauses.append(seconds)
        shown.append(state.read_processes()["moody"].pid)
        if len(pauses) == 6:
            await asyncio.Event().wait()  # until the supervisor stops

    monkeypatch.setattr("koinonia.cli.processes._back_off", note_pause)
    async with supervised(state, script("moody", "raise SystemExit(1)")):
        await wait_until(lambda: len(pauses) == 6)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]
    assert shown == [None] * 6  # it is down, and the file says so


async def test_wrong_settings_end_everything_with_that_one_line(state: StateDirectory) -> None:
    code = "import sys; sys.stderr.write('gateway: KOINONIA_TOKEN_KEYS is not set'); sys.exit(2)"
    async with supervised(state, script("gateway", code)) as supervisor:
        with pytest.raises(CommandFailed, match=r"^gateway: KOINONIA_TOKEN_KEYS is not set$"):
            await asyncio.wait_for(asyncio.shield(supervisor.failed), 20)


async def test_who_is_not_ready_in_time_is_named_with_the_end_of_its_log(state: StateDirectory) -> None:
    async with supervised(state, script("billing", "print('waiting', flush=True); input()")) as supervisor:
        (process,) = supervisor.all()
        assert isinstance(process, PlatformProcess)
        with pytest.raises(CommandFailed, match=r"^billing is not ready after 0\.5 s; its log ends: "):
            await until_ready([process], seconds=0.5)


async def test_stopping_drains_with_sigterm(state: StateDirectory, wait_until: WaitUntil) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('drained', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    async with supervised(state, script("messaging", code)):
        log = state.logs / "messaging.log"
        await wait_until(lambda: "up" in log.read_text())
    assert "drained" in log.read_text()
