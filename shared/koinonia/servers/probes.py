"""Whether a server's real client works: each returns when it does, and raises whatever the client does."""

import aio_pika
import asyncpg
from redis.asyncio import Redis

from koinonia.servers.broker_admin import BrokerAdmin


async def postgres(url: str) -> None:
    """Log in."""
    connection = await asyncpg.connect(url, timeout=5)
    await connection.close()


async def rabbitmq(url: str, management_url: str) -> None:
    """Ask the management API, which comes up last but one, and log in.

    In this order, as aio-pika leaves behind a connection that it could not make.
    """
    async with BrokerAdmin(management_url) as admin:
        await admin.version()
    connection = await aio_pika.connect(url, timeout=5)
    await connection.close()


async def redis(url: str) -> None:
    """Ping."""
    async with Redis.from_url(url, socket_timeout=2) as client:
        await client.ping()
