"""The Docker engine of this machine, reached through testcontainers: images, containers, and what dead processes left.

testcontainers is a package for development (requirements-dev.txt): nothing imports this module before a container is
wanted.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, ImageNotFound, NotFound  # type: ignore[import-untyped]
from requests.exceptions import RequestException
from testcontainers.core.docker_client import DockerClient

from koinonia.servers.unavailable import ServersUnavailable

OWNER = "koinonia.owner"
DIRECTORY = "koinonia.directory"
ERRORS = (DockerException, RequestException, OSError)
_TIMEOUT_SECONDS = 120  # of one call: a loaded engine takes its time
_REMOVAL_SECONDS = 60.0

_watcher: subprocess.Popen[bytes] | None = None


@dataclass(frozen=True)
class Recipe:
    """What a container is made of.

    ``ports``: those inside to those of 127.0.0.1. ``data``: where a volume of the same name comes, which outlives the
    container. ``directory`` tells people on whose behalf.
    """

    name: str
    image: str
    ports: Mapping[int, int]
    directory: Path
    command: Sequence[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def connect() -> DockerClient:
    """Return a client of the engine.

    Raises:
        ServersUnavailable: none answers.
    """
    try:
        client = DockerClient(timeout=_TIMEOUT_SECONDS)
        client.client.ping()
    except ERRORS as error:
        where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        raise ServersUnavailable(f"no Docker engine answers at {where} ({in_one_line(error)})") from error
    return client


def ensure_image(client: DockerClient, name: str, variable: str) -> None:
    """See to it that the engine has an image; one that it lacks is pulled, after one line that says so.

    Raises:
        ServersUnavailable: it cannot be had.
    """
    with suppress(ImageNotFound):
        client.client.images.get(name)
        return
    sys.stderr.write(f"koinonia: pulling the image {name}\n")
    sys.stderr.flush()
    try:
        client.client.images.pull(name)
    except ERRORS as error:
        raise ServersUnavailable(
            f"the image {name} cannot be had ({in_one_line(error)}); name another by {variable}"
        ) from error


def create(recipe: Recipe) -> Any:
    """Make a container, not yet started, that is removed when this process is gone.

    Raises:
        ServersUnavailable: no engine answers; or one of this name runs, and its owner lives.
    """
    client = connect()
    with suppress(NotFound):
        old = client.client.containers.get(recipe.name)
        if old.status == "running" and _is_alive(old.labels.get(OWNER, "")):
            raise ServersUnavailable(f"the container {recipe.name} runs already")
        _remove(client, old)
    if recipe.data is not None:
        client.client.volumes.create(recipe.name, labels={DIRECTORY: str(recipe.directory)})
    return client.create(
        recipe.image,
        command=list(recipe.command) if recipe.command else None,
        environment=dict(recipe.environment),
        ports={f"{inside}/tcp": ("127.0.0.1", outside) for inside, outside in recipe.ports.items()},
        labels={OWNER: this_process(), DIRECTORY: str(recipe.directory)},
        name=recipe.name,
        network="bridge",
        volumes={recipe.name: {"bind": recipe.data, "mode": "rw"}} if recipe.data is not None else None,
        **recipe.options,
    )


def remove_leftovers(client: DockerClient) -> None:
    """Remove the containers of processes that are gone."""
    for container in client.client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True):
        if not _is_alive(container.labels.get(OWNER, "")):
            _remove(client, container)


def remove(client: DockerClient, name: str) -> None:
    """Remove a container, if it is there, and the volume of its name."""
    with suppress(NotFound):
        _remove(client, client.client.containers.get(name))
    with suppress(NotFound):
        client.client.volumes.get(name).remove()


def remove_of(client: DockerClient, owner: str) -> None:
    """Remove one process's containers."""
    for container in client.client.containers.list(
        all=True, filters={"label": f"{OWNER}={owner}"}, ignore_removed=True
    ):
        _remove(client, container)


def watch_over_this_process() -> None:
    """Start, once, the process that removes our containers when we are gone, even if killed: the engine would not.

    It learns of our end by the end of its input, of which we alone hold the other side.
    """
    global _watcher
    if _watcher is None:
        theirs, _ours = os.pipe()  # closed by the kernel alone
        _watcher = subprocess.Popen(
            [sys.executable, "-m", "koinonia.servers.reaper", this_process()],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        os.close(theirs)
        _watcher.returncode = os.EX_OK  # it outlives this process on purpose: no warning of a child left running


def this_process() -> str:
    """Return what no other process of this machine is called, now or later."""
    return _named(os.getpid())


def in_one_line(error: Exception) -> str:
    """What an engine, or the way to it, had to say."""
    said = error.explanation if isinstance(error, APIError) and error.explanation else error
    return " ".join(str(said).split())


def _named(pid: int) -> str:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(pid)
    return f"{_kernel()} {pid} {fields[19]}"  # 19: when it started


def _kernel() -> str:
    return f"{_boot_id()} {Path('/proc/self/ns/pid').readlink()}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _is_alive(owner: str) -> bool:
    """Tell whether a process lives; of one whose process ids are not ours to see, suppose it."""
    boot, space, pid, _ = owner.split(" ") if owner.count(" ") == 3 else ("", "", "", "")
    if not pid:
        return False
    ours = _kernel().split(" ")
    if [boot, space] != ours:
        return boot == ours[0]
    try:
        return _named(int(pid)) == owner
    except OSError:
        return False


def _remove(client: DockerClient, container: Any) -> None:
    """Remove a container, with the volumes that have no name, or wait until somebody else has."""
    deadline = time.monotonic() + _REMOVAL_SECONDS
    with suppress(NotFound):
        try:
            container.remove(force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise
        while time.monotonic() < deadline:
            client.client.containers.get(container.id)
            time.sleep(0.05)
