"""Servers in containers: their data, what is left of whom, and what is said where they cannot be had."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from koinonia.servers import ServersUnavailable, Wanted, discard, engine, find
from koinonia.servers.containers import IMAGES, ContainerPostgres, ContainerRedis, image, provide
from koinonia.servers.engine import OWNER, Recipe
from koinonia.servers.finding import choice_of

WaitUntil = Callable[..., Awaitable[object]]

pytestmark = pytest.mark.skipif(choice_of(os.environ) != "docker", reason="KOINONIA_SERVERS is not docker")

# Starts a server in a folder, tells its process id, and waits to be killed.
STARTER = """
import asyncio, os, sys
from pathlib import Path
from koinonia.servers.containers import ContainerRedis, image

async def main():
    redis = ContainerRedis(image("redis", os.environ), Path(sys.argv[1]), Path(sys.argv[1]))
    await redis.start()
    print(redis.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def client() -> Any:
    """The engine's own client."""
    return engine.connect().client


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory of servers; what the engine keeps for it goes with the test."""
    yield tmp_path / "data"
    await asyncio.to_thread(discard, tmp_path / "data")


def postgres(directory: Path, *, max_connections: int = 20) -> ContainerPostgres:
    logs = directory.parent
    return ContainerPostgres(
        image("postgres", os.environ), directory, logs, durable=True, max_connections=max_connections
    )


def redis(directory: Path) -> ContainerRedis:
    return ContainerRedis(image("redis", os.environ), directory, directory.parent)


def names(client: Any) -> set[str]:
    """The names of all containers."""
    return {each.name for each in client.containers.list(all=True, ignore_removed=True)}


def name_of(directory: Path, kind: str) -> str:
    return f"koinonia-{(directory / 'containers').read_text().split()[0]}-{kind}"


async def test_the_data_of_a_directory_outlive_its_containers_and_go_when_it_is_discarded(
    directory: Path, client: Any
) -> None:
    first = postgres(directory)
    await first.start()
    connection = await asyncpg.connect(first.url)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    await connection.close()
    await first.stop()
    name = name_of(directory, "postgres")
    client.containers.get(name).remove()

    second = postgres(directory)
    await second.start()
    connection = await asyncpg.connect(second.url)
    assert await connection.fetchval("SELECT number FROM kept") == 7
    await connection.close()

    assert name in {volume.name for volume in client.volumes.list()}
    await asyncio.to_thread(discard, directory)
    assert name not in names(client)
    assert name not in {volume.name for volume in client.volumes.list()}
    assert second.pid is None


async def test_a_server_listens_on_the_loopback_address_alone(directory: Path, client: Any) -> None:
    server = redis(directory)
    await server.start()
    ports = client.containers.get(name_of(directory, "redis")).ports
    assert ports["6379/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(server.port)}]


async def test_a_container_that_somebody_removed_is_made_again(directory: Path, client: Any) -> None:
    server = redis(directory)
    await server.start()
    first = server.pid
    client.containers.get(name_of(directory, "redis")).remove(force=True)
    await asyncio.wait_for(server.wait(), 60)
    assert server.pid is None
    await server.start()  # which waits until it answers on the same port
    assert server.pid not in {None, first}


async def test_a_directory_in_use_is_not_started_upon(directory: Path) -> None:
    server = redis(directory)
    await server.start()
    pid = server.pid
    with pytest.raises(ServersUnavailable, match=rf"^the container {name_of(directory, 'redis')} runs already$"):
        await redis(directory).start()
    assert server.pid == pid


async def test_a_server_that_cannot_start_shows_its_log(directory: Path) -> None:
    with pytest.raises(ServersUnavailable, match=r"(?s)postgres ended while it started; its log ends:.*-5 is outside"):
        await postgres(directory, max_connections=-5).start()


async def test_no_container_survives_the_kill_of_who_started_it(
    directory: Path, client: Any, wait_until: WaitUntil
) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, str(directory), stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    assert starter.stdout is not None
    pid = json.loads(await starter.stdout.readline())
    name = name_of(directory, "redis")
    assert "redis-server" in Path(f"/proc/{pid}/cmdline").read_text()
    assert name in names(client)
    starter.send_signal(signal.SIGKILL)
    await starter.wait()
    await wait_until(lambda: name not in names(client), seconds=60, what="the end of its container")
    assert not Path(f"/proc/{pid}").exists()


async def test_leftovers_of_dead_processes_go_at_the_next_start_and_nobody_elses(
    directory: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, space, pid, started = engine.this_process().split(" ")
    owners = {
        "lives": engine.this_process(),
        "out-of-sight": f"{boot} pid:[1] {pid} {started}",
        "before-the-reboot": f"{boot[::-1]} {space} {pid} {started}",
        "another-of-that-number": f"{boot} {space} {pid} 1",
    }
    made = {}
    for key, owner in owners.items():
        monkeypatch.setattr(engine, "this_process", lambda owner=owner: owner)
        recipe = Recipe(f"koinonia-test-{os.getpid()}-{key}", image("redis", os.environ), {}, directory)
        made[key] = engine.create(recipe)
    try:
        assert made["lives"].labels[OWNER] == owners["lives"]
        provide(["redis"], os.environ)
        left = names(client)
        assert {key for key, container in made.items() if container.name in left} == {"lives", "out-of-sight"}
    finally:
        for container in made.values():
            engine.remove(engine.connect(), container.name)


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_that_cannot_be_had_is_named_with_its_setting_in_one_line(kind: str, tmp_path: Path) -> None:
    variable, usual = IMAGES[kind]  # type: ignore[index]
    nowhere = f"127.0.0.1:1/{usual}"
    with pytest.raises(ServersUnavailable) as caught:
        find({**os.environ, variable: nowhere}, Wanted(tmp_path, tmp_path))
    assert str(caught.value).startswith(f"the image {nowhere} cannot be had (")
    assert str(caught.value).endswith(f"; name another by {variable}")
    assert "\n" not in str(caught.value)
