"""`koinonia delivery`, told of a database and nothing else: what it shows, and what it cannot read, in one line."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from koinonia.cli.prepare import prepare_database
from koinonia.db.roles import SERVICES
from koinonia.servers.ports import free_ports
from koinonia.testing.servers import TestServers

KOINONIA = str(Path(sys.executable).with_name("koinonia"))
NOBODY = UUID(int=1)


async def run(url: str, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The command's exit status, what it says, and what it complains of."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
    environ = {**kept, "KOINONIA_DATABASE_URL": url}
    asked = await asyncio.create_subprocess_exec(
        *(KOINONIA, "delivery", *arguments),
        env=environ,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asked.communicate()
    return asked.returncode or 0, said.decode(), complained.decode()


@pytest.fixture
async def empty(servers: TestServers) -> AsyncIterator[str]:
    """A database that nothing was ever put into."""
    name = servers.new_name()
    await servers.create_database(name)
    yield name
    await servers.drop_database(name)


async def test_the_status_of_a_platform_at_rest(servers: TestServers, empty: str, tmp_path: Path) -> None:
    passwords = {service: found for service in SERVICES if (found := servers.password(service))}
    await prepare_database(servers.database_url(empty), SERVICES, passwords)
    url = servers.database_url(empty)
    code, said, _ = await run(url, tmp_path, "status", "--json")
    assert code == 0
    status = json.loads(said)
    assert [(queue["depth"], queue["oldestSeconds"]) for queue in status["queues"]] == [(0, None)] * 5
    assert (status["numbers"], status["workers"], status["leases"], status["isFresh"]) == ([], [], 0, False)
    code, said, _ = await run(url, tmp_path, "status")
    assert code == 0
    for words in ("none at work", "none is connected", "NOT known in time: nothing is claimed", "partitions  until 20"):
        assert words in said
    code, said, complained = await run(url, tmp_path, "trail", str(NOBODY))
    assert (code, said, complained) == (2, "", f"koinonia: there is no recipient {NOBODY}\n")
    if passwords:  # else every local user is an administrator
        code, said, complained = await run(servers.database_url(empty, "delivery"), tmp_path, "status")
        assert (code, said, complained.count("\n")) == (2, "", 1)
        assert "is not an administrator's" in complained


@pytest.mark.parametrize("arguments", [("status",), ("trail", str(NOBODY))])
async def test_what_cannot_be_read_is_one_line(
    servers: TestServers, empty: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, said, complained = await run(servers.database_url(empty), tmp_path, *arguments)
    assert (code, said, complained.count("\n")) == (2, "", 1)
    assert "run `koinonia migrate`" in complained
    (port,) = free_ports(1)
    code, said, complained = await run(f"postgresql://nobody@127.0.0.1:{port}/koinonia", tmp_path, *arguments)
    assert (code, said, complained.count("\n")) == (2, "", 1)
    assert complained.startswith("koinonia: KOINONIA_DATABASE_URL: ")
