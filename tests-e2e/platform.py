"""A whole platform for the tests: ``koinonia up`` as a person would start it, in a directory of its own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import aiohttp

from koinonia.bus.declare import DELAY_SECONDS, dead_queue, delay_exchange
from koinonia.bus.topology import QUEUES
from koinonia.cli.broker_users import vhost_of
from koinonia.cli.state import Process, StateDirectory
from koinonia.servers import discard
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.servers.child import Child, spawn
from koinonia.servers.finding import choice_of
from koinonia.servers.ports import free_ports
from koinonia.testing.fixtures import wait_until

from .carrier import Carrier

KOINONIA = str(Path(sys.executable).with_name("koinonia"))
START_SECONDS = 150.0
STOP_SECONDS = 60.0
QUEUES_TOLD_SECONDS = 6.0
"""After so long the broker has told of all that consumers have in hand: it counts that every five seconds."""

STRIPE_SECRETS = ("whsec_oLdNkJ3kLQw8TzVb2YxR5mD7", "whsec_nEwNe9r8GKYqrTwjUPD8ILPZ")
"""Both are good, as while one takes the other's place."""

# Short waits, so that what the platform mends by itself is mended within a test; limits and plans that no test meets.
SETTINGS = {
    "KOINONIA_UNKNOWN_OUTCOME_WAIT": "1",
    "KOINONIA_LEASE_SECONDS": "3",
    "KOINONIA_TRIAL_SEGMENTS": "10000000",
    "KOINONIA_LONG_CODE_RATE": "1000",
    "KOINONIA_RATE_LIMIT_API": "1000000/1m",
    "KOINONIA_RATE_LIMIT_SEND": "1000000/1m",
    "KOINONIA_RATE_LIMIT_BILLING": "1000000/1m",
    "KOINONIA_RATE_LIMIT_AUTH": "1000000/15m",
    "KOINONIA_RATE_LIMIT_INVITATION": "1000000/1d",
    "KOINONIA_RATE_LIMIT_PHONE_CODE": "1000000/1d",
    "KOINONIA_RATE_LIMIT_WEBHOOK": "1000000/1m",
    "KOINONIA_PASSWORD_MEMORY_KIB": "64",
    "KOINONIA_DATABASE_POOL_SIZE": "5",
    "KOINONIA_STRIPE_WEBHOOK_SECRET": ",".join(STRIPE_SECRETS),
}


class Platform:
    """A running ``koinonia up``, its processes, its logs, and the carrier behind it."""

    client_address = "127.0.0.1"  # whom the gateway sees when a test calls

    def __init__(self, state: StateDirectory, port: int, up: Child, up_log: Path) -> None:
        self.state = state
        self.url = f"http://127.0.0.1:{port}"
        self._up = up
        self._up_log = up_log
        self._carrier: Carrier | None = None

    @classmethod
    async def start(cls, directory: Path, *arguments: str, settings: Mapping[str, str]) -> Self:
        """Start it on free ports, and return when it says that it is ready.

        Of what the environment says it is told one thing alone: whether its servers run in containers.
        """
        directory.mkdir(mode=0o755)
        (port,) = free_ports(1)
        state = StateDirectory(directory / "state")
        command = [KOINONIA, "up", "--state-dir", str(state.path), "--port", str(port)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KOINONIA_", "OTEL_"))}
        environ = kept | SETTINGS | {"KOINONIA_SERVERS": choice_of(os.environ)} | dict(settings)
        log = directory / "up.log"
        up = spawn([*command, *arguments], log=log, environ=environ, directory=directory)
        platform = cls(state, port, up, log)
        try:
            await wait_until(platform._is_ready, seconds=START_SECONDS, what=f"the start, told in {log},")
        except AssertionError:
            await platform.stop()
            raise AssertionError(f"the platform did not start:\n{up.tail()}") from None
        return platform

    @property
    def carrier(self) -> Carrier:
        """The simulated carrier."""
        if self._carrier is None:
            self._carrier = Carrier(self.process("carrier").url)
        return self._carrier

    async def stop(self) -> None:
        """End it as Ctrl-C does, and everything that it started."""
        if self._carrier is not None:
            await self._carrier.close()
        await self._up.stop(signal.SIGTERM, grace_seconds=STOP_SECONDS)
        await asyncio.to_thread(discard, self.state.data)

    def process(self, name: str) -> Process:
        """One process, as ``processes.json`` has it now."""
        return self.state.read_processes()[name]

    @property
    def door(self) -> Process:
        """The gateway at ``url``, the first where there are several."""
        processes = self.state.read_processes()
        return processes.get("gateway") or processes["gateway-1"]

    async def kill(self, name: str) -> None:
        """``kill -9``, and wait until it has been started again and takes work."""
        before = self.process(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        await wait_until(lambda: self._is_back(name, before), seconds=120, what=f"{name}'s return")

    async def dead_letters(self) -> str:
        """What ``koinonia dead-letters list`` says."""
        _, output = await self.command("dead-letters", "list")
        return output

    async def queued(self) -> dict[str, int | None]:
        """How many events lie in which queue, those in a consumer's hands and the delays' and dead ones too.

        Without zeros, as it was up to ``QUEUES_TOLD_SECONDS`` ago; None: the queue is down, and tells nothing.
        """
        names = [*QUEUES, *map(dead_queue, QUEUES), *map(delay_exchange, DELAY_SECONDS)]
        process = self.process("rabbitmq")
        async with BrokerAdmin(process.management_url or "") as broker:
            counts = await broker.queue_totals(vhost_of(process.url))
        return {name: counts.get(name) for name in names if counts.get(name) != 0}

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run an operator's ``koinonia`` command on it: its exit status, and what it says."""
        command = [KOINONIA, *arguments, "--state-dir", str(self.state.path)]
        asked = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=self.state.path
        )
        output, _ = await asked.communicate()
        return asked.returncode or 0, output.decode().strip()

    def logs(self) -> dict[str, Path]:
        """The log of each process, and of ``koinonia up`` itself."""
        return {"up": self._up_log} | {path.stem: path for path in sorted(self.state.logs.glob("*.log"))}

    def entries(self, service: str, event: str) -> Iterator[dict[str, object]]:
        """The log lines with this event name of all processes of a service."""
        for name, path in self.logs().items():
            if name == service or name.rpartition("-")[0] == service:
                for line in path.read_text(errors="replace").splitlines():
                    if f'"{event}"' in line:
                        yield json.loads(line)

    async def _is_ready(self) -> bool:
        if not self._up.running:
            raise AssertionError("it ended")
        return any(line.startswith("ready http://") for line in self._up_log.read_text().splitlines())

    async def _is_back(self, name: str, before: Process) -> bool:
        now = self.process(name)
        if now.pid in {None, before.pid}:
            return False
        if not now.url.startswith("http://"):
            return True  # a server: it is started again only once a client can log in
        path = "/simulator" if name == "carrier" else "/ready"
        with suppress(aiohttp.ClientError, OSError):
            async with aiohttp.ClientSession() as session, session.get(now.url + path) as answer:
                return answer.status == 200
        return False
