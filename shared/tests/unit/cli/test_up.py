"""``koinonia up``: what it says when it cannot start, and which signals end it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from koinonia.cli.environment import OperatorSettings
from koinonia.cli.main import CommandFailed
from koinonia.cli.platform import Layout
from koinonia.cli.processes import ProcessSpec
from koinonia.cli.state import StateDirectory
from koinonia.cli.up import Options, Platform

# Started as a shell starts it with & (SIGINT ignored) or nohup (SIGHUP ignored): says which signals it hears of.
IGNORING = """
import asyncio, signal, sys
for each in (signal.SIGINT, signal.SIGHUP):  # whatever the tests themselves were started with
    signal.signal(each, signal.SIG_DFL)
for name in sys.argv[1:]:
    signal.signal(signal.Signals[name], signal.SIG_IGN)
from koinonia.cli import up

class Idle:
    has_begun = False
    class supervisor: failed = None
    async def start(self):
        heard = [each.name for each in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(each) != signal.SIG_IGN]
        print(*heard, flush=True)
        await asyncio.Event().wait()
    async def stop(self): pass

async def main():
    Idle.supervisor.failed = asyncio.get_running_loop().create_future()
    await up.until_signalled(Idle())

asyncio.run(main())
"""


@pytest.mark.parametrize(("ignored", "heard"), [("SIGINT", "SIGHUP SIGINT"), ("SIGHUP", "SIGINT")])
def test_only_the_closing_of_its_terminal_can_be_ignored(ignored: str, heard: str) -> None:
    with subprocess.Popen([sys.executable, "-c", IGNORING, ignored], stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        assert up.stdout.readline().strip() == heard
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=30) == 0


async def test_who_cannot_have_its_port_is_named_in_one_line(tmp_path: Path) -> None:
    platform = Platform(Options(8080, Layout({}), "simulated"), OperatorSettings(), StateDirectory(tmp_path))
    (tmp_path / "logs").mkdir()

    def gateway(host: str, port: int) -> ProcessSpec:
        return ProcessSpec("gateway", [sys.executable, "-c", ""], dict(os.environ), port, held=[port], host=host)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host, why in {
            "127.0.0.1": "Address already in use",
            "192.0.2.1": "Cannot assign requested address",
            "no..host": ".*label empty.*",
        }.items():
            line = rf"^gateway cannot be started: port {port} of {host}: {why}$"
            with pytest.raises(CommandFailed, match=line):
                await platform.start_processes([gateway(host, port)])
    assert platform.supervisor.all() == []
