"""What a platform holds, and whether anything of a person lies plain in it."""

import io
from collections.abc import AsyncIterator, Iterator

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage
from redis.asyncio import Redis

from koinonia.bus.declare import DELAY_SECONDS, IN_ORDER, dead_queue, delay_exchange
from koinonia.bus.topology import QUEUES
from koinonia.db.roles import SERVICES

from .church import PEOPLE
from .collector import Collector
from .platform import Platform
from .search import Search

DOMAINS = ("members.example", "church.example")  # of members, of admins
BURIED_DOMAIN = "buried.example"


async def plain_in(platform: Platform, collector: Collector | None = None) -> dict[str, str]:
    """Where anything plain of anybody lies, and what: spans, queues, tables, statements' texts, Redis, logs."""
    search = search_of_all()
    found = {f"span {number}": search.finds(body) for number, body in enumerate(collector.bodies if collector else ())}
    found |= {f"queue {name}": search.finds(content) async for name, content in queued(platform)}
    found |= {f"table {name}": search.finds(rows) async for name, rows in tables(platform)}
    found |= {f"statements of {name}": search.finds(texts) async for name, texts in statements(platform)}
    found |= {f"redis {key!r}": search.finds(value) async for key, value in cached(platform)}
    found |= {f"log {name}": search.finds(path.read_bytes()) for name, path in platform.logs().items()}
    return {where: what for where, what in found.items() if what}


def search_of_all() -> Search:
    """Knows everybody who has been planted so far."""
    return Search([person.phone for person in PEOPLE], (*DOMAINS, BURIED_DOMAIN))


async def queued(platform: Platform) -> AsyncIterator[tuple[str, bytes]]:
    """What waits in each queue, delay queue and dead queue; it goes back with the channel.

    Of a queue with a single active consumer the broker gives nobody else anything.
    """
    names = [
        *(name for name in QUEUES if name not in IN_ORDER),
        *map(dead_queue, QUEUES),
        *map(delay_exchange, DELAY_SECONDS),
    ]
    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        for name in names:
            channel = await connection.channel()
            queue = await channel.get_queue(name)
            while (message := await queue.get(fail=False)) is not None:
                yield name, as_bytes(message)
            await channel.close()


def as_bytes(message: AbstractIncomingMessage, body: bytes | None = None) -> bytes:
    """Body, headers and properties as they were stored."""
    headers = [
        each if isinstance(each, bytes) else str(each).encode("latin-1", "replace") for each in message.headers.values()
    ]
    properties = repr(message.info()).encode()
    return b"\n".join([message.body if body is None else body, *headers, properties])


async def tables(platform: Platform) -> AsyncIterator[tuple[str, bytes]]:
    """Every table of every service, as COPY writes it."""
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        names = await database.fetch(
            """
            SELECT namespace.nspname AS schema, class.relname AS name
            FROM pg_class AS class
            JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
            WHERE class.relkind = 'r' AND namespace.nspname = ANY ($1)
            """,
            list(SERVICES),
        )
        assert {name["schema"] for name in names} == set(SERVICES)
        for schema, name in names:
            output = io.BytesIO()
            await database.copy_from_table(name, schema_name=schema, output=output)
            yield f"{schema}.{name}", output.getvalue()
    finally:
        await database.close()


async def statements(platform: Platform) -> AsyncIterator[tuple[str, bytes]]:
    """The texts of what is being run, and of all that was."""
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        for view in ("pg_stat_activity", "pg_stat_statements"):
            if await database.fetchval("SELECT to_regclass($1)", view) is not None:
                rows = await database.fetch(f"SELECT query FROM {view} WHERE query IS NOT NULL")
                assert rows
                yield view, "\n".join(row["query"] for row in rows).encode()
    finally:
        await database.close()


async def cached(platform: Platform) -> AsyncIterator[tuple[bytes, bytes]]:
    """Every key of Redis with its value: as its type is read, and as DUMP has it."""
    async with Redis.from_url(platform.process("redis").url) as redis:
        async for key in redis.scan_iter():
            kind = await redis.type(key)
            assert isinstance(kind, bytes)
            read = {
                b"string": ("GET", key),
                b"hash": ("HGETALL", key),
                b"list": ("LRANGE", key, 0, -1),
                b"set": ("SMEMBERS", key),
                b"zset": ("ZRANGE", key, 0, -1),
                b"stream": ("XRANGE", key, "-", "+"),
            }[kind]
            value = await redis.execute_command(*read)  # type: ignore[no-untyped-call]
            yield key, b"\n".join([key, *flat(value), await redis.dump(key) or b""])


def flat(value: object) -> Iterator[bytes]:
    """Every text within what Redis answers."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from flat(list(pair))
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from flat(each)
