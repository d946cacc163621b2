"""The servers over TLS: our clients believe the authority that the address names, and nobody else."""

import asyncio
import base64
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.exceptions

from koinonia import service
from koinonia.bus.errors import BrokerUnavailable
from koinonia.bus.link import Link
from koinonia.cli.environment import as_user
from koinonia.db import Database, statement
from koinonia.db.migrate import migrate
from koinonia.errors import DependencyUnavailable
from koinonia.servers import programs
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.servers.child import spawn
from koinonia.servers.ports import free_ports
from koinonia.servers.postgres import Postgres
from koinonia.servers.rabbitmq import RabbitMQ
from koinonia.servers.waiting import until_ready
from koinonia.testing import needs
from koinonia.testing.fixtures import wait_until
from koinonia.testing.tls import certificate

pytestmark = needs.programs_installed
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


# The processes, in production.

KOINONIA = str(Path(sys.executable).with_name("koinonia"))
PASSWORDS = {"gateway": "of-the-gateway", "billing": "of-billing"}


@asynccontextmanager
async def process(name: str, environ: Mapping[str, str], folder: Path) -> AsyncIterator[str]:
    """``koinonia run`` until it takes work; its address."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    child = spawn(
        [KOINONIA, "run", name],
        log=folder / f"{name}.log",
        environ={**environ, "KOINONIA_PORT": str(port)},
        directory=folder,
    )
    try:
        await wait_until(lambda: is_ready(url), seconds=90, what=f"the start, told in {child.tail()}")
        yield url
    finally:
        await child.stop()


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def said_by(environ: Mapping[str, str], folder: Path, *arguments: str) -> tuple[int, str]:
    """What a ``koinonia`` command ends with, and says."""
    asked = await asyncio.create_subprocess_exec(
        *(KOINONIA, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
        cwd=folder,
    )
    output, _ = await asyncio.wait_for(asked.communicate(), 90)
    return asked.returncode or 0, output.decode()


@pytest.fixture
async def environs(
    postgres: Postgres, rabbitmq: tuple[str, str], redis_url: str, trust: Trust, tmp_path: Path
) -> dict[str, dict[str, str]]:
    """What the gateway and billing are told; their schemas, roles and broker users are made by ``koinonia migrate``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOINONIA_")}
    amqp_url = f"{rabbitmq[0]}?cafile={trust.ours}"
    operator = {
        "KOINONIA_DATABASE_URL": postgres.url,
        "KOINONIA_AMQP_URL": amqp_url,
        "KOINONIA_AMQP_MANAGEMENT_URL": f"{rabbitmq[1]}/?cafile={trust.ours}",
        **{f"KOINONIA_{service.upper()}_PASSWORD": password for service, password in PASSWORDS.items()},
    }
    status, said = await said_by(inherited | operator, tmp_path, "migrate", *PASSWORDS)
    assert status == 0, said
    key = base64.b64encode(bytes(32)).decode()
    told = inherited | {
        "KOINONIA_ENVIRONMENT": "production",
        "KOINONIA_REDIS_URL": f"{redis_url}?ssl_ca_certs={trust.ours}",
        "KOINONIA_ENCRYPTION_KEYS": f"2026:{key}",
        "KOINONIA_TOKEN_KEYS": f"2026:{key}",
        "KOINONIA_BLIND_INDEX_KEY": key,
        **{f"KOINONIA_{name}_URL": "http://127.0.0.1:1" for name in ("MESSAGING", "DELIVERY", "CONVERSATION")},
        "KOINONIA_COMPLIANCE_URL": "http://127.0.0.1:1",
    }
    return {
        service: told
        | {
            "KOINONIA_DATABASE_URL": as_user(postgres.url, f"koinonia_{service}", password),
            "KOINONIA_AMQP_URL": as_user(amqp_url, f"koinonia_{service}", password),
        }
        for service, password in PASSWORDS.items()
    }


@pytest.mark.timeout(400)
async def test_processes_work_over_tls_alone_and_refuse_what_they_cannot_believe(
    environs: dict[str, dict[str, str]], trust: Trust, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        billing = await stack.enter_async_context(process("billing", environs["billing"], tmp_path))
        told = environs["gateway"] | {"KOINONIA_BILLING_URL": billing}
        gateway = await stack.enter_async_context(process("gateway", told, tmp_path))
        jar = aiohttp.CookieJar(unsafe=True)
        browser = await stack.enter_async_context(aiohttp.ClientSession(gateway, cookie_jar=jar))

        async def get(path: str) -> Any:
            async with browser.get(path) as answer:
                return answer.status, await answer.json()

        _, health = await get("/health")
        assert {health["checks"][each]["status"] for each in ("database", "queues", "redis")} == {"ok"}, health
        person = {"firstName": "Ruth", "lastName": "Miller", "email": "ruth@grace.example"}
        church = {**person, "churchName": "Grace Chapel", "password": "seven brown bears sing loudly"}
        async with browser.post("/api/auth/register", json=church) as answer:
            assert answer.status == 201, await answer.text()

        async def is_known() -> bool:
            return bool((await get("/api/billing/subscription"))[0] == 200)

        await wait_until(is_known, what="a church that billing has heard of, from broker to database")

    known = environs["billing"]
    for name in ("DATABASE", "AMQP", "REDIS"):
        setting = f"KOINONIA_{name}_URL"
        wrong = known | {setting: known[setting].replace(str(trust.ours), str(trust.theirs))}
        status, said = await said_by(wrong, tmp_path, "run", "billing")
        assert status == 2, said
        assert said.startswith(f"koinonia: {setting}: the server's certificate is not believed: "), said
        assert said.count("\n") == 1
        assert PASSWORDS["billing"] not in said
    for name, plain in {
        "DATABASE": known["KOINONIA_DATABASE_URL"].partition("?")[0],
        "AMQP": known["KOINONIA_AMQP_URL"].partition("?")[0].replace("amqps", "amqp"),
        "REDIS": known["KOINONIA_REDIS_URL"].partition("?")[0].replace("rediss", "redis"),
    }.items():
        status, said = await said_by(known | {f"KOINONIA_{name}_URL": plain}, tmp_path, "run", "billing")
        assert status == 2, said
        assert said.startswith(f"billing: KOINONIA_{name}_URL: in production the server must be reached by TLS"), said
        assert said.count("\n") == 1
