"""The `servers` fixture, and what a test gets of its own inside them."""

import aio_pika
import asyncpg
from redis.asyncio import Redis

from koinonia.bus.topology import QUEUES
from koinonia.servers.broker_admin import BrokerAdmin
from koinonia.testing.databases import Databases, DatabaseUrls
from koinonia.testing.servers import TestServers


async def test_each_server_answers_its_real_client(servers: TestServers) -> None:
    connection = await asyncpg.connect(servers.database_admin_url)
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()
    broker = await aio_pika.connect(servers.amqp_admin_url)
    await broker.close()
    async with Redis.from_url(servers.redis_url) as redis:
        assert await redis.ping()


async def test_a_service_has_one_migrated_clone_per_test_as_its_own_role(
    databases: Databases, database_urls: DatabaseUrls
) -> None:
    url = await database_urls("billing")
    assert await database_urls("billing") == url
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT current_user::text") == "koinonia_billing"
    assert (
        await connection.fetchval("SELECT count(*) FROM outbox") == 0
    )  # there, and seen through the role's search_path
    await connection.close()
    assert (await databases("billing")).service == "billing"


async def test_a_dropped_database_is_gone_even_while_somebody_uses_it(servers: TestServers) -> None:
    name = servers.new_name()
    await servers.create_database(name)
    left_open = await asyncpg.connect(servers.database_url(name))
    await servers.drop_database(name)
    connection = await asyncpg.connect(servers.database_admin_url)
    assert not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name)
    await connection.close()
    await left_open.close()


async def test_a_virtual_host_has_the_platforms_queues(servers: TestServers, vhost: str) -> None:
    connection = await aio_pika.connect(vhost)
    async with connection, connection.channel() as channel:
        for queue in QUEUES:
            await channel.declare_queue(queue, passive=True)
    async with BrokerAdmin(servers.management_url) as admin:
        assert vhost.rpartition("/")[2] in await admin.vhosts()
