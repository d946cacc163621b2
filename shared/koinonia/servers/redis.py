"""A private Redis. It keeps nothing over a restart, as nothing that must not be lost is in it."""

import os
import shutil
import signal
from pathlib import Path

from koinonia.servers import probes
from koinonia.servers.child import Child, spawn
from koinonia.servers.ports import free_ports
from koinonia.servers.unavailable import ServersUnavailable
from koinonia.servers.waiting import until_ready


class Redis:
    """One private Redis on a port of its own."""

    name = "redis"

    def __init__(self, directory: Path, logs: Path) -> None:
        self._directory = directory / "redis"
        self._log = logs / "redis.log"
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.running else None

    async def start(self) -> None:
        """Start it (again, on the same port), and return when it answers PING."""
        program = shutil.which("redis-server")
        if program is None:
            raise ServersUnavailable("redis-server is not installed")
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [program, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        self._child = spawn(command, log=self._log, environ=os.environ)
        await until_ready(self.name, self._child, self.port, lambda: probes.redis(self.url))

    async def wait(self) -> None:
        """Wait until the process ends."""
        if self._child:
            await self._child.wait()

    async def stop(self) -> None:
        if self._child:
            await self._child.stop(signal.SIGTERM)

    async def kill(self) -> None:
        """As ``kill -9``."""
        if self._child:
            await self._child.kill()
