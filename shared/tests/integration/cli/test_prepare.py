"""What `koinonia migrate` and `up` make: schemas, roles with passwords, queues, and users held to their own."""

import re

import aio_pika
import asyncpg
import pytest
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from koinonia.bus.topology import EXCHANGE
from koinonia.cli import broker_users, prepare, scram
from koinonia.cli.environment import as_user
from koinonia.servers import ServersUnavailable
from koinonia.testing.servers import TestServers

PASSWORDS = {"billing": "b-secret", "messaging": "m-secret"}


def test_a_verifier_shows_no_password_and_is_never_the_same() -> None:
    first, second = scram.verifier("secret"), scram.verifier("secret")
    assert first != second
    assert re.fullmatch(r"SCRAM-SHA-256\$4096:[\w+/=]+\$[\w+/=]+:[\w+/=]+", first)


def test_the_verifier_of_a_known_password_and_salt_is_postgres_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 7677, section 3: password "pencil", this salt, 4096 iterations.
    monkeypatch.setattr(
        "koinonia.cli.scram.secrets.token_bytes", lambda _count: b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"
    )
    assert scram.verifier("pencil") == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


async def test_a_database_is_made_once_and_migrated(servers: TestServers) -> None:
    name = servers.new_name()
    await servers.create_database(name)
    try:
        url = servers.database_url(name)
        # Roles are the whole server's: where other tests log in with their passwords, they stay as they are.
        password = servers.password("billing") or PASSWORDS["billing"]
        applied = await prepare.prepare_database(url, ["billing"], {"billing": password})
        assert applied
        assert await prepare.prepare_database(url, ["billing"], {}) == []
        connection = await asyncpg.connect(url)
        stored = await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'koinonia_billing'")
        await connection.close()
        assert stored.startswith("SCRAM-SHA-256$")
    finally:
        await servers.drop_database(name)


async def test_too_many_connections_are_refused_in_one_line(servers: TestServers) -> None:
    await prepare.check_connections(servers.database_admin_url, 100)
    with pytest.raises(
        ServersUnavailable, match=r"^the processes may open 100000 database connections, the server allows"
    ):
        await prepare.check_connections(servers.database_admin_url, 100_000)


async def test_a_broker_user_reads_its_own_queues_and_publishes_its_own_events(
    servers: TestServers, empty_vhost: str
) -> None:
    await prepare.prepare_broker(empty_vhost, servers.management_url, PASSWORDS)
    own = as_user(empty_vhost, broker_users.user_of("billing"), PASSWORDS["billing"])
    message = aio_pika.Message(b"{}")
    connection = await aio_pika.connect(own)
    async with connection:
        async with connection.channel() as channel:
            assert await (await channel.get_queue("billing.usage")).get(fail=False) is None
            events = await channel.get_exchange(EXCHANGE, ensure=False)
            await events.publish(message, "audit.action.recorded")
            await events.publish(message, "billing.message.authorized")
        for refused in (
            lambda channel: publish(channel, message, "messaging.message.accepted"),
            lambda channel: read(channel, "messaging.billing"),
            lambda channel: channel.declare_queue("billing.another", durable=True),
        ):
            with pytest.raises(ChannelAccessRefused):
                await refused(await connection.channel())


async def publish(channel: aio_pika.abc.AbstractChannel, message: aio_pika.Message, routing_key: str) -> None:
    await (await channel.get_exchange(EXCHANGE, ensure=False)).publish(message, routing_key)


async def read(channel: aio_pika.abc.AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).get(fail=False)


def test_a_virtual_host_is_read_from_the_url() -> None:
    assert broker_users.vhost_of("amqp://a@mq/") == "/"
    assert broker_users.vhost_of("amqp://a@mq") == "/"
    assert broker_users.vhost_of(str(URL("amqp://a@mq").with_path("/test"))) == "test"
