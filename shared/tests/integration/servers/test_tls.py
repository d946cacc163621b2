"""The servers over TLS: our clients believe the authority that the address names, and nobody else."""

import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import redis.exceptions

from koinonia import service
from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.link import Link
from koinonia.db import Database, statement
from koinonia.db.migrate import migrate
from koinonia.errors import DependencyUnavailable
from koinonia.servers import programs
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.servers.child import spawn
from koinonia.servers.finding import VARIABLES
from koinonia.servers.ports import free_ports
from koinonia.servers.postgres import Postgres
from koinonia.servers.rabbitmq import RabbitMQ
from koinonia.servers.waiting import until_ready
from koinonia.testing.tls import certificate

pytestmark = pytest.mark.skipif(
    not all(map(programs.is_installed, VARIABLES)), reason="the servers' programs are not installed"
)
ONE = statement("test.one", "SELECT 1")


class Trust:
    """The servers' certificate, which is its own authority, and one that they know nothing of."""

    def __init__(self, folder: Path) -> None:
        self.ours = certificate(folder / "ours")
        self.theirs = certificate(folder / "theirs")
        for each in (folder, folder / "ours", folder / "theirs"):
            each.chmod(0o755)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(tmp_path / "trust")


def private_copy(file: Path, folder: Path) -> Path:
    """A key that PostgreSQL takes: its own user's, readable by nobody else."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = Path(shutil.copy(file, folder / "server.pem"))
    copied.chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(copied, "postgres", "postgres")
    return copied


@pytest.fixture
async def postgres(trust: Trust, tmp_path: Path) -> AsyncIterator[Postgres]:
    server = Postgres(tmp_path / "state", tmp_path)
    # Through a relative path the server finds it in its data, wherever its user may go.
    server._settings |= {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.pem"}
    server._make_data_directory()
    programs_folder = programs.postgres_directory()
    assert programs_folder is not None
    await server._initdb(programs_folder)
    private_copy(trust.ours, server._data)
    (server._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
    server.url += f"?sslmode=verify-full&sslrootcert={trust.ours}"
    await server.start()
    yield server
    await server.stop()


async def test_postgres_is_believed_by_the_authority_that_the_address_names(postgres: Postgres, trust: Trust) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
        await asyncpg.connect(postgres.url.partition("?")[0], ssl=False)
    await migrate(postgres.url, ["billing"])
    url = postgres.url.replace("//postgres@", "//koinonia_billing@")
    database = await Database.open(url, "billing")
    async with database.across_churches() as tx:
        assert await tx.fetch_value(ONE) == 1
    await database.close()

    wrong = await Database.open(url.replace(str(trust.ours), str(trust.theirs)), "billing")
    with pytest.raises(DependencyUnavailable) as raised:
        async with wrong.across_churches():
            pass
    assert isinstance(raised.value.__cause__, ssl.SSLCertVerificationError)
    await wrong.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(wrong.url)
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(postgres.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
async def rabbitmq(trust: Trust, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The addresses of a broker and its management API, both encrypted."""
    server = RabbitMQ(tmp_path / "state", tmp_path)
    amqps, https = free_ports(2)
    server._write_files()
    (server._directory / "conf.d" / "tls.conf").write_text(
        f"listeners.ssl.1 = 127.0.0.1:{amqps}\n"
        + "".join(f"ssl_options.{name} = {trust.ours}\n" for name in ("cacertfile", "certfile", "keyfile"))
        + f"management.ssl.port = {https}\nmanagement.ssl.ip = 127.0.0.1\n"
        + "".join(f"management.ssl.{name} = {trust.ours}\n" for name in ("cacertfile", "certfile", "keyfile"))
    )
    await server.start()
    yield f"amqps://guest:guest@127.0.0.1:{amqps}/", f"https://guest:guest@127.0.0.1:{https}"
    await server.stop()


async def test_rabbitmq_is_believed_by_the_authority_that_the_address_names(
    rabbitmq: tuple[str, str], trust: Trust
) -> None:
    amqps, https = rabbitmq
    link = Link(f"{amqps}?cafile={trust.ours}", "test")
    channel = await link.channel()
    _ = await channel.declare_queue(exclusive=True)
    await link.close()
    local = amqps.replace("127.0.0.1", "localhost")
    for other in (amqps, f"{amqps}?cafile={trust.theirs}", f"{local}?cafile={trust.ours}"):
        wrong = Link(other, "test")
        with pytest.raises(BrokerUnavailable):
            _ = await wrong.channel()
        await wrong.close()

    async with BrokerAdmin(f"{https}/?cafile={trust.ours}") as admin:
        await admin.version()
    for other in (https, f"{https}/?cafile={trust.theirs}"):
        async with BrokerAdmin(other) as admin:
            with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                await admin.version()


@pytest.fixture
async def redis_url(trust: Trust, tmp_path: Path) -> AsyncIterator[str]:
    program = shutil.which("redis-server")
    assert program is not None
    (port,) = free_ports(1)
    url = f"rediss://127.0.0.1:{port}/0"
    command = [program, "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
    command += ["--tls-cert-file", str(trust.ours), "--tls-key-file", str(trust.ours)]
    command += ["--tls-ca-cert-file", str(trust.ours), "--save", "", "--dir", str(tmp_path)]
    child = spawn(command, log=tmp_path / "redis.log", environ=os.environ)
    await until_ready("redis", child, port, lambda: ping(f"{url}?ssl_ca_certs={trust.ours}"))
    yield url
    await child.stop()


async def ping(url: str) -> None:
    client = service._open_redis(url)
    client.connection_pool.connection_kwargs |= {"socket_connect_timeout": 5.0, "socket_timeout": 5.0}
    try:
        await client.ping()
    finally:
        await client.aclose()


async def test_redis_is_believed_by_the_authority_that_the_address_names(redis_url: str, trust: Trust) -> None:
    await ping(f"{redis_url}?ssl_ca_certs={trust.ours}")
    local = redis_url.replace("127.0.0.1", "localhost")
    for other in (redis_url, f"{redis_url}?ssl_ca_certs={trust.theirs}", f"{local}?ssl_ca_certs={trust.ours}"):
        with pytest.raises(redis.exceptions.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await ping(other)
