"""Nothing plain of any member lies in a table, a log, an event or a trace. Comes last: it looks at what is left."""

import base64
import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from koinonia.bus.topology import EXCHANGE
from koinonia.db.roles import SERVICES
from koinonia.testing.fixtures import wait_until

from .church import PEOPLE, Church, people
from .collector import Collector
from .platform import Platform

# E.164, any national form, or bare digits.
_PHONE = re.compile(rb"(?<!\d)(?:\+?1[ .-]?)?\(?(\d{3})\)?[ .-]?(\d{3})[ .-]?(\d{4})(?!\d)")
_EMAIL = re.compile(rb"[\w.+-]+@[\w-]+\.[\w.-]+\w")
_HEX = re.compile(rb"\\x((?:[0-9a-f]{2}){10,})")  # as Postgres writes bytes
_BASE64 = re.compile(rb"(?<![\w+/-])[\w+/]{16,}={0,2}(?![\w+/-])")


async def test_no_members_phone_or_email_is_plain_in_tables_logs_events_or_traces(
    church: Church, collector: Collector
) -> None:
    async with events_of(church.platform) as heard:
        await live_a_little(church)
        assert len(heard) > 10
    search = Search()
    found = {f"spans {number}" for number, body in enumerate(collector.bodies) if search.finds(body)}
    found |= {f"event {name}" for name, body in heard if search.finds(body)}
    found |= {f"table {name}" async for name, rows in tables(church.platform) if search.finds(rows)}
    found |= {f"log {name}" for name, path in church.platform.logs().items() if search.finds(path.read_bytes())}
    assert found == set()


def test_the_search_would_find_a_plain_phone_or_address_in_any_form() -> None:
    (anna,) = people(1)
    phone = anna.phone.encode()
    area, exchange, line = phone[2:5], phone[5:8], phone[8:]
    event = b'{"phone": "%s"}' % phone
    forms = [
        phone,
        event,
        phone[1:],
        phone[2:],
        b"(%s) %s-%s" % (area, exchange, line),
        b"%s-%s-%s" % (area, exchange, line),
        b"\\x" + event.hex().encode(),
        base64.b64encode(event),
        b"\\x" + base64.b64encode(event).hex().encode(),
        anna.email.encode(),
        anna.email.upper().encode(),
    ]
    search = Search()
    assert [form for form in forms if not search.finds(b"before " + form + b" after")] == []
    assert not search.finds(b"0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10 2026-11-22T14:30:00.123456Z 1795357800123456")


async def live_a_little(church: Church) -> None:
    """A bit of everything that handles phones and addresses."""
    anna, *_ = await church.add(3)
    sent = await church.send("Hi {{firstName}}, see you on Sunday.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=30)
    carrier = church.platform.carrier
    await carrier.person_texts(anna.phone, church.number, "Thank you!")

    async def is_there() -> bool:
        return [each async for each in church.client.conversations.list()] != []

    await wait_until(is_there, what="the conversation")
    conversation = await anext(church.client.conversations.list())
    await church.client.conversations.reply(conversation.id, "You are welcome.")
    await carrier.person_texts(anna.phone, church.number, "STOP")
    found = [member async for member in church.client.members.list(search=anna.phone)]
    assert [member.phone for member in found] == [anna.phone]

    async def is_recorded() -> bool:
        return [entry async for entry in church.client.audit.list(action="message.accepted")] != []

    await wait_until(is_recorded, what="the audit log")


@asynccontextmanager
async def events_of(platform: Platform) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Hear every event on the bus: its type and body."""
    heard: list[tuple[str, bytes]] = []

    async def hear(message: AbstractIncomingMessage) -> None:
        heard.append((message.routing_key or "", message.body))

    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, "#")
        await queue.consume(hear, no_ack=True)
        yield heard


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


class Search:
    """Knows everybody who has been planted so far."""

    def __init__(self) -> None:
        self._phones = {person.phone[2:].encode() for person in PEOPLE}
        self._emails = {person.email.encode() for person in PEOPLE}

    def finds(self, content: bytes, depth: int = 2) -> bool:
        """Whether a phone or an address can be read in it, also in its hex or base64 or in both."""
        if any(b"".join(found) in self._phones for found in _PHONE.findall(content)):
            return True
        if b"@" in content and any(found.lower() in self._emails for found in _EMAIL.findall(content)):
            return True
        return depth > 0 and any(self.finds(inner, depth - 1) for inner in decoded(content))


def decoded(content: bytes) -> Iterator[bytes]:
    """What is inside hex and base64."""
    for found in _HEX.findall(content):
        yield bytes.fromhex(found.decode())
    for found in _BASE64.findall(content):
        with suppress(ValueError):
            yield base64.b64decode(found + b"===")
