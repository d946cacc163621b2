"""Private servers: killed and started again on the same port with the same data, and never outliving their starter."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aio_pika
import asyncpg
import pytest
from redis.asyncio import Redis as RedisClient

from koinonia.servers import ServersUnavailable
from koinonia.servers.child import spawn
from koinonia.servers.postgres import Postgres
from koinonia.servers.redis import Redis
from koinonia.testing import needs
from koinonia.testing.servers import OwnServers

WaitUntil = Callable[..., Awaitable[object]]

# Starts the three servers in a folder, tells their process ids, and waits to be killed.
STARTER = """
import asyncio, json, os, sys
from pathlib import Path
from koinonia.servers import Wanted, find

async def main():
    servers = find({"KOINONIA_SERVERS": "native"}, Wanted(Path(sys.argv[1]), Path(sys.argv[1])))
    await servers.start()
    print(json.dumps({server.name: server.pid for server in servers.all()}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_postgres_acknowledged_survives_its_kill(own_servers: OwnServers) -> None:
    postgres = own_servers.postgres
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (number int); INSERT INTO kept VALUES (7)")
    pid, url = postgres.pid, postgres.url
    await postgres.kill()
    assert postgres.pid is None
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    await postgres.start()
    assert postgres.pid != pid
    again = await asyncpg.connect(url)
    assert await again.fetchval("SELECT number FROM kept LIMIT 1") == 7
    await again.close()
    connection.terminate()


async def test_a_confirmed_message_survives_the_brokers_kill(own_servers: OwnServers, wait_until: WaitUntil) -> None:
    rabbitmq = own_servers.rabbitmq
    connection = await aio_pika.connect(rabbitmq.url)
    channel = await connection.channel()
    queue = await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
    message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await channel.default_exchange.publish(message, queue.name)
    made_at = time.time()
    await wait_until(lambda: rabbitmq.remembers(made_at))
    await connection.close()
    await rabbitmq.kill()
    await rabbitmq.start()
    connection = await aio_pika.connect(rabbitmq.url)
    async with connection, connection.channel() as channel:
        found = await (await channel.get_queue("kept")).get(timeout=30)
        assert found is not None
        assert found.body == b"kept"


async def test_redis_comes_back_empty_on_the_same_port(own_servers: OwnServers) -> None:
    async with RedisClient.from_url(own_servers.redis_url) as client:
        await client.set("key", "value")
    await own_servers.redis.kill()
    await own_servers.redis.start()
    async with RedisClient.from_url(own_servers.redis_url) as client:
        assert await client.get("key") is None


@needs.programs_installed
async def test_a_lock_file_of_a_killed_server_keeps_nobody_out(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, tmp_path)
    await postgres.start()
    lock = tmp_path / "postgres" / "postmaster.pid"
    await postgres.kill()
    # The number now belongs to a process that lives: this one.
    lock.write_text(lock.read_text().replace(lock.read_text().split("\n", 1)[0], str(os.getpid()), 1))
    await postgres.start()
    await postgres.kill()


@needs.programs_installed
async def test_data_in_use_is_not_started_upon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinonia.servers.postgres._OLD_SERVER_SECONDS", 0.2)
    postgres = Postgres(tmp_path, tmp_path)
    await postgres.start()
    with pytest.raises(ServersUnavailable, match=r"runs on .* already"):
        await Postgres(tmp_path, tmp_path).start()
    await postgres.kill()


@needs.programs_installed
async def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    redis = Redis(tmp_path, tmp_path)
    second = Redis(tmp_path, tmp_path)
    await redis.start()
    second.port = redis.port
    with pytest.raises(ServersUnavailable, match=r"(?s)redis ended while it started; its log ends:.*in use"):
        await second.start()
    await redis.stop()


@needs.programs_installed
async def test_nothing_survives_the_kill_of_who_started_it(tmp_path: Path, wait_until: WaitUntil) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd="/"
    )
    assert starter.stdout is not None
    pids = json.loads(await starter.stdout.readline())
    assert set(pids) == {"postgres", "rabbitmq", "redis"}
    family = descendants(starter.pid)
    assert set(pids.values()) <= family
    assert len(family) > 8  # postgres's own processes, epmd and Erlang's helpers among them
    starter.send_signal(signal.SIGKILL)
    await starter.wait()
    await wait_until(lambda: not any(is_running(pid) for pid in family), what="the end of all its processes")


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path, wait_until: WaitUntil) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = spawn([sys.executable, "-c", code], log=tmp_path / "log", environ=os.environ)
    await wait_until(lambda: "deaf" in child.tail())
    await child.stop(grace_seconds=0.1)
    assert not child.running
    assert await child.wait() == -signal.SIGKILL


async def test_a_child_is_started_from_the_main_thread_only(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="main thread"):
        await asyncio.to_thread(spawn, ["true"], log=tmp_path / "log", environ={})


def descendants(pid: int) -> set[int]:
    """All processes below one, however deep."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting += children
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
