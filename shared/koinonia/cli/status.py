"""``koinonia status``: the processes of a running ``koinonia up`` as a table."""

import asyncio
import os
import time
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.table import Table
from yarl import URL

from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.state import Process, StateDirectory


@click.command("status")
@state_directory
def command(state: Path) -> None:
    """Show each process: whether it lives, is ready, since when, and its memory. Exit 1 when one is not well."""
    processes = StateDirectory(state).read_processes()
    if not processes:
        raise CommandFailed(f"no `koinonia up` runs on {state}")
    ready = asyncio.run(_ask_all(processes))
    table = Table("process", "pid", "state", "up for", "memory", "address", box=None, pad_edge=False)
    for name, process in processes.items():
        table.add_row(name, str(process.pid or "-"), ready[name], *_figures(process.pid), address(process.url))
    Console(soft_wrap=True).print(table)
    if not all(word in {"ready", "running"} for word in ready.values()):
        raise click.exceptions.Exit(1)


async def _ask_all(processes: dict[str, Process]) -> dict[str, str]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        answers = await asyncio.gather(*(_ask(session, name, process) for name, process in processes.items()))
    return dict(zip(processes, answers, strict=True))


async def _ask(session: aiohttp.ClientSession, name: str, process: Process) -> str:
    if process.pid is None or not Path(f"/proc/{process.pid}").exists():
        return "down"
    if not process.url.startswith("http") or name == "carrier":
        return "running"
    try:
        async with session.get(f"{process.url}/ready") as answer:
            return "ready" if answer.status == 200 else "not ready"
    except (aiohttp.ClientError, OSError, TimeoutError):
        return "silent"


def address(url: str) -> str:
    """The URL without its credentials and its path."""
    return str(URL(url).with_user(None).with_path("/")).rstrip("/")


def _figures(pid: int | None) -> tuple[str, str]:
    """How long it has been up, and its resident memory."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "-", "-"
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    seconds = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), "0")
    return _duration(seconds), f"{int(resident) / 1024:.0f} MiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
