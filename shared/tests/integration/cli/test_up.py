"""``koinonia up`` as a process: with one service in place of all, so that it is the command that is tested."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from koinonia.cli.state import StateDirectory
from koinonia.servers import discard
from koinonia.servers.finding import choice_of
from koinonia.servers.ports import free_ports

WaitUntil = Callable[..., Awaitable[object]]

UP = """
import sys
from koinonia.cli import main, platform, up
platform.KINDS = up.KINDS = ("billing",)
main(["up", "--state-dir", sys.argv[1], "--port", sys.argv[2], "--processes", "billing=2"])
"""
NAMES = {"postgres", "rabbitmq", "redis", "carrier", "billing-1", "billing-2"}


async def start(folder: Path, **settings: str) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
    environ |= {"KOINONIA_SERVERS": choice_of(os.environ)} | settings
    (port,) = free_ports(1)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", UP, str(folder), str(port)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
    )


async def said(up: asyncio.subprocess.Process, beginning: str) -> str:
    assert up.stdout is not None
    async for line in up.stdout:
        if line.startswith(beginning.encode()):
            return line.decode().strip()
    assert up.stderr is not None
    raise AssertionError((await up.stderr.read()).decode())


def is_running(pid: int | None) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@pytest.mark.timeout(300)
async def test_up_runs_everything_mends_it_and_takes_it_along(tmp_path: Path, wait_until: WaitUntil) -> None:
    state = StateDirectory(tmp_path / "state")
    up = await start(state.path)
    assert (await said(up, "ready ")).startswith("ready http://127.0.0.1:")
    first = state.read_processes()
    assert set(first) == NAMES
    assert all(is_running(process.pid) for process in first.values())
    assert {path.stem for path in state.logs.iterdir()} == NAMES

    second = await start(state.path)
    _, error = await second.communicate()
    assert second.returncode == 2
    assert error.decode() == f"koinonia: a `koinonia up` is running on {state.path} already\n"

    for name in ("billing-1", "redis", "postgres"):
        pid = first[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    for name in ("billing-1", "redis", "postgres"):
        await wait_until(lambda name=name: state.read_processes()[name].pid not in {None, first[name].pid}, seconds=60)
    again = state.read_processes()
    assert {name: process.port for name, process in again.items()} == {name: p.port for name, p in first.items()}
    await wait_until(lambda: is_ready(again["billing-1"].url), seconds=60)
    await wait_until(lambda: is_ready(again["billing-2"].url), seconds=60)

    up.send_signal(signal.SIGTERM)
    assert await up.wait() == 0
    assert not any(is_running(process.pid) for process in again.values())
    assert state.read_processes() == {}

    # Once more on the same data; killed, it leaves nothing behind.
    up = await start(state.path)
    await said(up, "ready ")
    last = state.read_processes()
    up.kill()
    await up.wait()
    await wait_until(lambda: not any(is_running(process.pid) for process in last.values()))
    discard(state.data)


@pytest.mark.timeout(300)
async def test_up_that_is_stopped_amid_a_reload_lets_the_predecessor_drain(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    state = StateDirectory(tmp_path / "state")
    up = await start(state.path)
    await said(up, "ready ")
    old = state.read_processes()["billing-1"]
    reader, writer = await asyncio.open_connection("127.0.0.1", old.port)

    async def ask() -> bytes:
        writer.write(b"GET /ready HTTP/1.1\r\nHost: billing\r\n\r\n")
        return (await reader.readuntil(b"}")).partition(b"\r\n")[0]

    assert await ask() == b"HTTP/1.1 200 OK"
    reload = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from koinonia.cli import main; main()", "reload", "--state-dir", str(state.path)),
        stderr=asyncio.subprocess.PIPE,
    )
    await wait_until(lambda: state.read_processes()["billing-1"].pid not in {None, old.pid}, seconds=60)
    up.send_signal(signal.SIGTERM)

    async def is_told() -> bool:
        return await ask() == b"HTTP/1.1 503 Service Unavailable"

    await wait_until(is_told)  # asked all the time: a connection unused for a second would be closed
    _, error = await reload.communicate()
    assert (reload.returncode, error.decode()) == (
        2,
        "koinonia: the `koinonia up` that was asked was stopped before it was done\n",
    )
    writer.close()
    assert await up.wait() == 0
    assert not is_running(old.pid)
    discard(state.data)


async def test_up_says_in_one_line_that_no_engine_answers(tmp_path: Path) -> None:
    away = {"KOINONIA_SERVERS": "docker", "DOCKER_HOST": "tcp://127.0.0.1:1"}
    up = await start(tmp_path / "state", **away)
    _, error = await up.communicate()
    assert up.returncode == 2
    assert re.fullmatch(r"koinonia: no Docker engine answers at tcp://127\.0\.0\.1:1 \(.+\)\n", error.decode())
