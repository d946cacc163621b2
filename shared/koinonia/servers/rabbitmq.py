"""A private RabbitMQ with its management API."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from koinonia.servers import probes
from koinonia.servers.child import Child, spawn
from koinonia.servers.ports import free_ports
from koinonia.servers.programs import rabbitmq_script
from koinonia.servers.unavailable import ServersUnavailable
from koinonia.servers.waiting import until_ready

_NODE = "koinonia@localhost"  # fixed, as its data lies under this name; its own epmd keeps it from meeting another
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
loopback_users.guest = false
vm_memory_high_watermark.absolute = 2GB
disk_free_limit.absolute = 50MB
collect_statistics_interval = 5000
log.console = true
log.console.level = warning
"""


class RabbitMQ:
    """One private RabbitMQ on ports of its own, with its own epmd."""

    name = "rabbitmq"

    def __init__(self, directory: Path, logs: Path) -> None:
        self._directory = directory / "rabbitmq"
        self._log = logs / "rabbitmq.log"
        self.port, self._management_port, self._distribution_port, self._epmd_port = free_ports(4)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.management_url = f"http://guest:guest@127.0.0.1:{self._management_port}"
        self._child: Child | None = None
        self._epmd: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.running else None

    async def start(self) -> None:
        """Start it (again, on the same ports and data), and return when a client and the management API work."""
        script, epmd = rabbitmq_script(), shutil.which("epmd")
        if script is None or epmd is None:
            raise ServersUnavailable("rabbitmq-server is not installed")
        environ = self._write_files()
        if self._epmd is None or not self._epmd.running:
            command = [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = spawn(command, log=self._log, environ=environ, directory=self._directory)
        self._child = spawn([str(script)], log=self._log, environ=environ, directory=self._directory)
        probe = partial(probes.rabbitmq, self.url, self.management_url)
        await until_ready(self.name, self._child, self._management_port, probe)

    async def wait(self) -> None:
        """Wait until the broker's process ends."""
        if self._child:
            await self._child.wait()

    async def stop(self) -> None:
        """An orderly stop of the node, then of its epmd."""
        if self._child:
            await self._child.stop(grace_seconds=30)
        if self._epmd:
            await self._epmd.kill()

    async def kill(self) -> None:
        """As ``kill -9``; queues and messages are on disk, and there again after the next start (see ``remembers``)."""
        if self._child:
            await self._child.kill()

    async def remembers(self, since: float) -> bool:
        """Tell whether the queues made until ``since`` (``time.time()``) would survive a kill.

        The broker writes down which quorum queues it has a second or more after they were made. Killed before that, it
        comes back with a queue that is declared and never answers.
        """
        directory = self._directory / "data" / _NODE / "quorum" / _NODE
        return all((directory / name).stat().st_mtime >= since for name in ("names.dets", "meta.dets"))

    async def control(self, *command: str) -> None:
        """Run ``rabbitmqctl``, and complain if it does."""
        script = rabbitmq_script()
        assert script is not None  # noqa: S101 - it was started by it
        program = str(script.with_name("rabbitmqctl"))
        process = await asyncio.create_subprocess_exec(
            program, *command, env=self._write_files(), stdout=asyncio.subprocess.DEVNULL
        )
        if await process.wait() != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(command)} failed")

    def _write_files(self) -> dict[str, str]:
        """Write every file that the node reads, and return its environment: nothing is taken from the machine's own."""
        home = self._directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)
        files = {
            "rabbitmq.conf": _CONFIGURATION.format(amqp=self.port, management=self._management_port),
            "enabled_plugins": "[rabbitmq_management].\n",
            "advanced.config": "[].\n",
            "rabbitmq-env.conf": "",
        }
        for name, text in files.items():
            (self._directory / name).write_text(text)
        (self._directory / "conf.d").mkdir(exist_ok=True)
        return _inherited(os.environ) | self._environment(home)

    def _environment(self, home: Path) -> dict[str, str]:
        inside = str(self._directory) + "/"
        return {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "detached": "1",  # the script then becomes the Erlang machine: our child is the broker itself
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # its own epmd, and the distribution too on 127.0.0.1 alone
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": _NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": inside + "data",
            "RABBITMQ_LOG_BASE": inside + "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": inside + "rabbitmq",
            "RABBITMQ_CONFIG_FILES": inside + "conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": inside + "advanced",
            "RABBITMQ_ENABLED_PLUGINS_FILE": inside + "enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": inside + "rabbitmq-env.conf",
            "RABBITMQ_PID_FILE": inside + "pid",
        }


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
