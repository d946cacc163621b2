"""The platform for the tests once more, on containers: docker-compose.yml as a person would start it."""

import asyncio
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from koinonia.cli import development_keys
from koinonia.cli.state import Process, StateDirectory
from koinonia.servers.ports import free_ports
from koinonia.testing.fixtures import wait_until

from .platform import SETTINGS, START_SECONDS, STOP_SECONDS, Platform

REPOSITORY = Path(__file__).parent.parent
FILES = (REPOSITORY / "docker-compose.yml", Path(__file__).with_name("compose.yaml"))
PORTS = (
    "KOINONIA_PORT",
    "KOINONIA_SIMULATOR_PORT",
    "POSTGRES_PORT",
    "PROMETHEUS_PORT",
    "RABBITMQ_MANAGEMENT_PORT",
    "RABBITMQ_PORT",
)
CONTAINERS_START_SECONDS = 1.4 * START_SECONDS  # less than a test's 300, which would leave no time to end it
PROJECT = "com.docker.compose.project"  # Compose's label on all that it makes
KINDS = ("container", "network", "volume")
TELEMETRY = ("--profile", "telemetry")
INSIDE = {"postgres": 5432, "rabbitmq": 5672, "redis": 6379}  # where a server listens; a process of ours does at 8080
NAME = "koinonia-e2e-"  # and the process whose project it is
NUMBERED = frozenset({"delivery-worker"})  # have a number even where there is one


class Project(StateDirectory):
    """One Compose project; what `koinonia up` would write to its state directory is asked of the engine.

    It is written there too, so that an operator's commands find the servers.
    """

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        super().__init__(path)
        for folder in (self.path, self.logs):
            folder.mkdir(mode=0o700)
        self.name = f"{NAME}{os.getpid()}"
        self.settings = dict(settings)
        self.keys.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def command(self, *arguments: str) -> list[str]:
        """A ``docker compose`` command."""
        files = [part for file in FILES for part in ("--file", str(file))]
        named = ["--project-name", self.name, "--env-file", str(self.keys), "--profile", "simulated"]
        return ["docker", "compose", "--progress", "plain", *named, *files, *arguments]

    async def run(self, *arguments: str, seconds: float) -> str:
        """Run a ``docker compose`` command; what it says.

        Raises:
            AssertionError: it failed.
        """
        # What the environment says of the platform, but for its images, is not the tests': it would go before the file.
        ours = ("COMPOSE_", "KOINONIA_", "OTEL_")
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in self.settings and (name.endswith("_IMAGE") or not name.startswith(ours))
        }
        process = await asyncio.create_subprocess_exec(
            *self.command(*arguments), env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"docker compose {' '.join(arguments)} took more than {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"docker compose {' '.join(arguments)}:\n{output.decode()}"
        return output.decode()

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine knows of each container, by the name that ``koinonia up`` would give the process."""
        ids = docker("ps", "--all", "--quiet", "--filter", f"label={PROJECT}={self.name}").split()
        found: dict[str, list[dict[str, Any]]] = {}
        for each in json.loads(docker("inspect", *ids)) if ids else []:
            labels = each["Config"]["Labels"]
            if labels.get("com.docker.compose.oneoff") != "True":
                found.setdefault(labels["com.docker.compose.service"], []).append(each)
        return dict(_named(found))

    def read_processes(self) -> dict[str, Process]:
        """What runs."""
        found = {name: each for name, each in self.containers().items() if name not in ("migrate", "keeper")}
        processes = {name: self._process(name, each) for name, each in found.items()}
        self.write_processes(processes)
        return processes

    def _process(self, name: str, container: Mapping[str, Any]) -> Process:
        kind = name.rpartition("-")[0] if name[-1].isdigit() else name
        published = container["NetworkSettings"]["Ports"].get(f"{INSIDE.get(kind, 8080)}/tcp")
        port = int(published[0]["HostPort"]) if published else 0
        state = container["State"]
        # A server is there once a client can log in, as its health tells. What init has started is the process.
        there = state["Running"] and port and (kind not in INSIDE or state["Health"]["Status"] == "healthy")
        pid = _only_child(state["Pid"]) if there else None
        return Process(pid, port, self._url(kind, port), self._management_url if kind == "rabbitmq" else None)

    def _url(self, kind: str, port: int) -> str:
        told = self.settings
        return {
            "postgres": f"postgresql://koinonia_admin:{told['POSTGRES_PASSWORD']}@127.0.0.1:{port}/koinonia",
            "rabbitmq": f"amqp://koinonia_admin:{told['RABBITMQ_PASSWORD']}@127.0.0.1:{port}/",
            "redis": f"redis://127.0.0.1:{port}/0",
        }.get(kind, f"http://127.0.0.1:{port}")

    @property
    def _management_url(self) -> str:
        told = self.settings
        return f"http://koinonia_admin:{told['RABBITMQ_PASSWORD']}@127.0.0.1:{told['RABBITMQ_MANAGEMENT_PORT']}"


class ContainerPlatform(Platform):
    """The platform in containers; to a test it is what `koinonia up` is."""

    state: Project

    @classmethod
    async def start(cls, directory: Path, *arguments: str, settings: Mapping[str, str]) -> Self:
        """Start it on free ports; ``arguments`` are those of ``docker compose up``."""
        remove_left()
        directory.mkdir(mode=0o755)
        ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        project = Project(directory / "state", development_keys.for_containers({}) | SETTINGS | ports | dict(settings))
        platform = cls(project, int(ports["KOINONIA_PORT"]), directory / "up.log")
        try:
            (directory / "up.log").write_text(await platform._bring_up(*arguments))
            platform.client_address = gateway_of(f"{project.name}_default")  # published ports are reached through it
        except BaseException:
            await platform.stop()
            raise
        return platform

    async def _bring_up(self, *arguments: str) -> str:
        try:
            return await self.state.run(
                "up", "--detach", "--no-build", "--wait", *arguments, seconds=CONTAINERS_START_SECONDS
            )
        except AssertionError as error:
            ends = "".join(f"\n--- {name}\n{log.read_text()[-2000:]}" for name, log in self.logs().items())
            raise AssertionError(f"the platform did not start:\n{error}{ends}") from None

    def __init__(self, project: Project, port: int, up_log: Path) -> None:
        up_log.touch()
        self.state = project
        self.url = f"http://127.0.0.1:{port}"
        self._up_log = up_log
        self._carrier = None

    async def stop(self) -> None:
        """End it, and leave nothing: no container, no network, no volume."""
        if self._carrier is not None:
            await self._carrier.close()
        self.logs()
        await self.state.run(*TELEMETRY, "down", "--volumes", seconds=2 * STOP_SECONDS)
        assert [made_by(self.state.name, kind) for kind in KINDS] == [[], [], []]

    async def kill(self, name: str) -> None:
        """``kill -9`` of all that runs in a container; wait until it has been started again and takes work."""
        before = self.process(name)
        # From inside, which takes no right over others' processes. Init ends then, and with it the container.
        subprocess.run(["docker", "exec", self.state.containers()[name]["Id"], "sh", "-c", "kill -9 -1"], check=False)
        await wait_until(lambda: self._is_back(name, before), seconds=120, what=f"{name}'s return")

    def logs(self) -> dict[str, Path]:
        """The log of each container, and of ``docker compose up``."""
        self._fetch_logs(self.state.containers())
        return super().logs()

    def entries(self, service: str, event: str) -> Iterator[dict[str, object]]:
        """The log lines with this event name of all processes of a service."""
        for name, container in self.state.containers().items():
            if name == service or name.rpartition("-")[0] == service:
                for line in docker("logs", container["Id"]).splitlines():
                    if f'"{event}"' in line:
                        yield json.loads(line)

    def _fetch_logs(self, containers: Mapping[str, Mapping[str, Any]]) -> None:
        for name, container in containers.items():
            (self.state.logs / f"{name}.log").write_text(docker("logs", container["Id"]))


def docker(*arguments: str) -> str:
    """What a ``docker`` command says, on both streams."""
    ended = subprocess.run(
        ["docker", *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert ended.returncode == 0, f"docker {' '.join(arguments)}: {ended.stdout}"
    return ended.stdout.strip()


def made_by(project: str, kind: str) -> list[str]:
    """The containers, networks or volumes of a Compose project."""
    every = ("--all",) if kind == "container" else ()
    return docker(kind, "ls", *every, "--quiet", "--filter", f"label={PROJECT}={project}").split()


def remove_left() -> None:
    """Remove what the projects of killed runs have left; pytest's workers do so one at a time."""
    with FILES[0].open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for kind in KINDS:
            every = ("--all",) if kind == "container" else ()
            label = f'{{{{.Label "{PROJECT}"}}}}'
            shown = docker(kind, "ls", *every, "--filter", f"label={PROJECT}", "--format", label)
            for project in set(shown.split()):
                if project.startswith(NAME) and not Path("/proc", project.removeprefix(NAME)).exists():
                    with_data = ("--volumes",) if kind == "container" else ()
                    for each in made_by(project, kind):
                        docker(kind, "rm", "--force", *with_data, each)


def gateway_of(network: str = "bridge") -> str:
    """This machine's address in a network of the engine's: the first, where the engine names none."""
    form: dict[str, str] = json.loads(
        docker("network", "inspect", network, "--format", "{{json (index .IPAM.Config 0)}}")
    )
    return form.get("Gateway") or str(next(ip_network(form["Subnet"]).hosts()))


def _named(found: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """``gateway``, or ``gateway-1``, ``gateway-2``… where there are several; workers always have a number."""
    for service, containers in found.items():
        for each in containers:
            numbered = len(containers) > 1 or service in NUMBERED
            number = each["Config"]["Labels"]["com.docker.compose.container-number"]
            yield f"{service}-{number}" if numbered else service, each


def _only_child(pid: int) -> int | None:
    """The process that init has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
