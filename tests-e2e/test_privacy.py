"""Nothing plain of any member or admin lies in what a run leaves. Comes last: it looks at what is left.

Of each platform that the run has used, what `plain_in` looks at is looked at once more when it ends.

Where: every table and its dump, statements' texts, events, queues and dead letters, outboxes, Redis, logs, spans, every
file of the state directory, every process's arguments and environment.
"""

import asyncio
import base64
import gzip
import json
import os
import signal
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg
import pytest
from aio_pika.abc import AbstractIncomingMessage
from redis.asyncio import Redis

from koinonia.bus.declare import dead_queue
from koinonia.bus.topology import EXCHANGE
from koinonia.db.roles import SERVICES
from koinonia.testing import needs
from koinonia.testing.fixtures import wait_until

from .church import BURIED, PEOPLE, Church, people
from .collector import Collector
from .platform import Platform
from .search import Search
from .stores import BURIED_DOMAIN, DOMAINS, as_bytes, cached, plain_in, search_of_all, tables

TEXT = "Only between us: the roof of the chapel leaks"  # what no log may quote
LIES = "Nobody reads this yet"  # it lies in queues while the files are looked at
CARRIERS_OWN = "carrier"  # the simulated carrier's book, which is no part of the platform: whom it holds as opted out


async def test_nothing_plain_is_in_tables_events_queues_redis_logs_or_spans(
    church: Church, collector: Collector
) -> None:
    platform = church.platform
    async with events_of(platform) as heard:
        await live_a_little(church)
        await fail_in_many_ways(church)
        buried = await bury(church, heard)
    search = search_of_all()
    found = {f"event {name}": search.finds(body) for name, body in heard}
    found |= {f"dead letter {number}": search.finds(letter) for number, letter in enumerate(buried)}
    assert {where: what for where, what in found.items() if what} == {}
    assert await plain_in(platform, collector) == {}
    assert [name for name, path in platform.logs().items() if TEXT.encode() in path.read_bytes()] == []
    assert len(heard) > 10


@pytest.mark.native("looks at files and processes of this machine")
@needs.servers_as_processes
async def test_nothing_plain_is_in_outboxes_without_a_broker_in_dumps_files_or_processes(church: Church) -> None:
    platform = church.platform
    anna, *_ = await church.add(2)
    with stopped(platform, "rabbitmq"):
        await church.add(2)
        await platform.carrier.person_texts(anna.phone, church.number, TEXT)
        await church.send(TEXT)
        waiting = await outboxes(platform, {"messaging.outbox", "gateway.outbox"})
    search = Search([person.phone for person in PEOPLE if person not in BURIED], DOMAINS)
    found = {f"table {name}": search.finds(rows) for name, rows in waiting.items()}
    async with events_of(platform) as heard:
        with stopped(platform, "conversation", "compliance"):  # so that events lie in queues, on the broker's disk
            await platform.carrier.person_texts(anna.phone, church.number, LIES)
            event_id = await lies_in(platform, {"conversation.inbound", "compliance.inbound"}, heard)
            found["dump"] = search.finds(await dump(platform))
            holding = set()
            for name, content in files(platform):
                found[f"file {name}"] = search.finds(content)
                holding |= {name} if event_id in content else set()
            assert any(name.startswith("data/rabbitmq/") for name in holding), holding
    found |= {f"process {name}": search.finds(told) for name, told in processes(platform)}
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.native("looks at processes of this machine")
async def test_no_process_shows_a_secret_in_its_arguments(platform: Platform) -> None:
    lines = [line for line in platform.state.keys.read_text().splitlines() if "=" in line and line[0] != "#"]
    keys = {value.encode() for line in lines if len(value := line.partition("=")[2]) > 16}
    assert keys
    shown = {}
    for name, process in platform.state.read_processes().items():
        if process.pid is not None:  # a server in a container has none
            shown[name] = (Path("/proc") / str(process.pid) / "cmdline").read_bytes()
    assert {"gateway-1", "delivery-worker-1"} <= shown.keys()
    assert [name for name, arguments in shown.items() if any(key in arguments for key in keys)] == []


async def test_each_form_is_found_in_each_store(church: Church) -> None:
    """The searches above can fail: what is planted here is found, and nothing once it is gone."""
    platform = church.platform
    (anna,) = people(1)
    search = Search([anna.phone], DOMAINS)
    planted = [form for forms in forms_of(anna.phone, anna.email).values() for form in forms]

    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        await database.execute("CREATE TABLE gateway.canary (content bytea)")
        await database.copy_records_to_table("canary", schema_name="gateway", records=[(form,) for form in planted])
        (rows,) = [rows async for name, rows in tables(platform) if name == "gateway.canary"]
        assert len(rows.splitlines()) == len(planted)
        missed = [form for form, row in zip(planted, rows.splitlines(), strict=True) if not search.finds(row)]
        assert missed == [], "in a table"
    finally:
        await database.execute("DROP TABLE IF EXISTS gateway.canary")
        await database.close()

    async with Redis.from_url(platform.process("redis").url) as redis:
        try:
            for number, form in enumerate(planted):
                await redis.hset(f"canary:{number}", "field", form)
            keys = {key async for key, value in cached(platform) if search.finds(value)}
            missed = [form for number, form in enumerate(planted) if f"canary:{number}".encode() not in keys]
            assert missed == [], "in Redis"
        finally:
            await redis.delete(*(f"canary:{number}" for number in range(len(planted))))

    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        for form in planted:
            message = aio_pika.Message(form, headers={"story": form.decode("latin-1")})
            await channel.default_exchange.publish(message, routing_key=queue.name)
            got = await queue.get(no_ack=True)
            assert search.finds(got.body), f"in a message: {form!r}"
            assert search.finds(as_bytes(got, b"")), f"in its header: {form!r}"

    canaries = {f"canary-{number}": form for number, form in enumerate(planted)}
    try:
        for name, form in canaries.items():
            (platform.state.logs / f"{name}.log").write_bytes(b"{}\n" + form + b"\n")
        logs = platform.logs()
        missed = [form for name, form in canaries.items() if not search.finds(logs[name].read_bytes())]
        assert missed == [], "in a log"
    finally:
        for name in canaries:
            (platform.state.logs / f"{name}.log").unlink()


@pytest.mark.parametrize("around", [b"%s", b"before %s after", b'"%s"', b"{'phone': '%s'}\n"])
def test_the_search_finds_a_phone_and_an_address_in_each_form(around: bytes) -> None:
    (anna,) = people(1)
    search = Search([anna.phone], DOMAINS)
    missed = [
        (kind, form)
        for kind, forms in forms_of(anna.phone, anna.email).items()
        for form in forms
        if not search.finds(around % form)
    ]
    assert missed == []


def test_the_search_finds_nobody_where_nobody_is() -> None:
    (anna,) = people(1)
    digits = anna.phone[2:].encode()
    innocent = (
        b"0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10 2026-11-22T14:30:00.123456Z 1795357800123456 "
        b"+1312%s 0.%s abc%sdef 9%s7 %s" % (b"9999999", digits, digits, digits, os.urandom(30_000).hex().encode())
    )
    assert Search([anna.phone], DOMAINS).finds(innocent) is None


def forms_of(phone: str, email: str) -> dict[str, list[bytes]]:
    """The forms in which a slip might leave them, by the encoding around."""
    area, exchange, line = phone[2:5], phone[5:8], phone[8:]
    written = [
        phone,
        phone[1:],
        phone[2:],
        f"({area}) {exchange}-{line}",
        f"{area}-{exchange}-{line}",
        f"{area}.{exchange}.{line}",
        f"{area} {exchange} {line}",
        f"1-{area}-{exchange}-{line}",
        f"+1 ({area}) {exchange}-{line}",
        f"+1.{area}.{exchange}.{line}",
        f"00{phone[1:]}",
        f"%2B{phone[1:]}",
        f"\\u002b{phone[1:]}",
        json.dumps({"phone": phone}),
        email,
        email.upper(),
        email.replace("@", "%40"),
    ]
    plain = [each.encode() for each in written]
    wide = [each.encode(order) for each in written for order in ("utf-16-le", "utf-16-be")]
    return {
        "plain": plain,
        "UTF-16": wide,
        "hex": [shown.encode() for each in plain for shown in (each.hex(), each.hex().upper(), "\\x" + each.hex())],
        "hex of UTF-16": [each.hex().encode() for each in wide],
        "base64": [base64.b64encode(before + each) for each in plain for before in (b"", b"{", b'{"')],
        "base64 of UTF-16": [base64.b64encode(each) for each in wide],
        "base64 for URLs": [base64.urlsafe_b64encode(b"\xff\xfe\xfb" + each).rstrip(b"=") for each in plain],
        "hex of base64": [b"\\x" + base64.b64encode(each).hex().encode() for each in plain],
        "bytea's escapes": [b"".join(b"%c\\000" % each for each in form) for form in plain],
        "gzip": [base64.b64encode(gzip.compress(each)) for each in plain],
        "deflate": [base64.urlsafe_b64encode(zlib.compress(each)) for each in plain],
    }


async def live_a_little(church: Church) -> None:
    """A bit of everything that handles phones and addresses."""
    anna, *_ = await church.add(3)
    sent = await church.send("Hi {{firstName}}, see you on Sunday.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    carrier = church.platform.carrier
    await carrier.person_texts(anna.phone, church.number, "Thank you!")

    async def is_there() -> bool:
        return [each async for each in church.client.conversations.list()] != []

    await wait_until(is_there, what="the conversation")
    conversation = await anext(church.client.conversations.list())
    await church.client.conversations.reply(conversation.id, TEXT)
    await carrier.person_texts(anna.phone, church.number, "STOP")
    found = [member async for member in church.client.members.list(search=anna.phone)]
    assert [member.phone for member in found] == [anna.phone]

    async def is_recorded() -> bool:
        return [entry async for entry in church.client.audit.list(action="message.accepted")] != []

    await wait_until(is_recorded, what="the audit log")


async def fail_in_many_ways(church: Church) -> None:
    """Errors of every kind with a phone or an address in hand."""
    ben, carl, dora = await church.add(3)
    await church.platform.carrier.order(
        "error", [ben.phone], status=400, code="49999", title=f"The number {ben.phone} cannot be texted"
    )
    sent = await church.send(TEXT)
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    rows = [
        {"firstName": "Eve", "phone": f"{carl.phone}99"},
        {"firstName": "Eve", "phone": carl.phone, carl.phone: "x", carl.email: "y"},
        {"firstName": 5, "phone": carl.phone, "email": f"<{carl.email}>"},
        {"firstName": f"Eve\0{carl.phone}", "phone": carl.phone},
    ]
    key = await church.api_key()
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": carl.phone[1:], "User-Agent": f"tool ({dora.email})"}
    url = church.platform.url
    bad = {**headers, "Content-Type": "application/json"}
    member = json.dumps({"firstName": "Eve", "phone": dora.phone, "externalId": "e1"})
    requests: list[tuple[str, str, dict[str, str], str]] = [
        ("GET", f"/api/members?search={carl.phone[1:]}&phone={carl.phone[1:]}", headers, ""),
        ("GET", f"/api/nowhere/{carl.phone}?email={carl.email}", headers, ""),
        ("GET", f"/api/members/{carl.phone}", headers, ""),
        ("POST", "/api/members", bad, f'{{"phone": "{carl.phone}"'),
        ("POST", "/api/members", bad, json.dumps({"firstName": "Eve", "phone": dora.phone, "x": dora.email})),
        ("POST", "/api/members", bad, member),
        ("POST", "/api/members", bad, member),
        ("POST", "/api/members", {**bad, "Idempotency-Key": dora.phone}, member.replace("e1", "e2")),
        ("POST", "/api/groups", {**bad, "Idempotency-Key": dora.email}, json.dumps({"name": f"Group {uuid4()}"})),
        ("POST", "/api/members/import", bad, json.dumps({"members": rows})),
        ("POST", "/api/auth/login", bad, json.dumps({"email": church.email, "password": "no, it is another"})),
        ("POST", "/api/auth/login", bad, json.dumps({"email": dora.email, "password": "no, it is another"})),
        ("POST", "/api/webhooks/telnyx/status", bad, f'{{"data": {{"from": "{carl.phone}", "text": "{TEXT}"'),
    ]
    async with aiohttp.ClientSession() as session:
        statuses = []
        for method, path, given, body in requests:
            async with session.request(method, url + path, headers=given, data=body.encode() or None) as answer:
                statuses.append(answer.status)
    assert max(statuses) < 500, statuses


async def bury(church: Church, heard: list[tuple[str, bytes]]) -> list[bytes]:
    """Dead letters and parked events with a person in them; what their headers and bodies are, before they go."""
    platform, queue = church.platform, "conversation.inbound"
    (frida,) = people(1)
    BURIED.append(frida)
    inbound = next(json.loads(body) for name, body in heard if name == "carrier.message.received")
    failing = inbound | {"id": str(uuid4()), "data": inbound["data"] | {"text": f"{TEXT}\0"}}
    unreadable = b'{"phone": "%s", "email": "%s"' % (frida.phone.encode(), f"frida@{BURIED_DOMAIN}".encode())
    chunk = next(json.loads(body) for name, body in heard if name == "messaging.recipients.resolved")
    unknown = chunk | {"id": str(uuid4()), "churchid": str(uuid4())}
    unknown["data"] = chunk["data"] | {"messageId": str(uuid4())}
    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        channel = await connection.channel()
        exchange = channel.default_exchange
        for to, body in (
            (queue, json.dumps(failing).encode()),
            (queue, unreadable),
            ("delivery.chunks", json.dumps(unknown).encode()),
        ):
            await exchange.publish(aio_pika.Message(body, message_id=str(uuid4())), routing_key=to)
        dead = await channel.get_queue(dead_queue(queue))

        async def are_dead() -> bool:
            declared = await channel.declare_queue(dead.name, passive=True)
            return (declared.declaration_result.message_count or 0) >= 2

        await wait_until(are_dead, seconds=40, what="two dead letters")
        database = await asyncpg.connect(platform.process("postgres").url)
        try:
            parked = "SELECT body FROM delivery.parked WHERE event_id = $1"

            async def is_parked() -> bool:
                return await database.fetchval(parked, unknown["id"]) is not None

            await wait_until(is_parked, seconds=20, what="the parked event")
            letters = [await database.fetchval(parked, unknown["id"])]
            await database.execute("DELETE FROM delivery.parked WHERE event_id = $1", unknown["id"])
        finally:
            await database.close()
        told = (await platform.dead_letters()).encode()
        for _ in range(2):
            message = await dead.get(no_ack=True)
            # Its sender has put the person into the unreadable one's body: there it stays, and goes nowhere else.
            body = b"" if message.body == unreadable else message.body
            letters.append(as_bytes(message, body))
    return [*letters, told]


@asynccontextmanager
async def events_of(platform: Platform) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Hear every event on the bus: its type, and all of it."""
    heard: list[tuple[str, bytes]] = []

    async def hear(message: AbstractIncomingMessage) -> None:
        heard.append((message.routing_key or "", message.body))

    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, "#")
        await queue.consume(hear, no_ack=True)
        yield heard


async def outboxes(platform: Platform, wanted: set[str]) -> dict[str, bytes]:
    """What lies in each outbox, once something does in all of these."""

    async def waiting() -> dict[str, bytes] | None:
        rows = {name: rows async for name, rows in tables(platform) if name.endswith(".outbox") and rows}
        return rows if wanted <= rows.keys() else None

    found = await wait_until(waiting, what=f"rows in {wanted}")
    assert isinstance(found, dict)
    return found


async def lies_in(platform: Platform, queues: set[str], heard: list[tuple[str, bytes]]) -> bytes:
    """The id of the event of the text that `LIES`, once events lie in all of these queues, whose consumers stand."""

    def event_id() -> bytes | None:
        events = [json.loads(body) for name, body in heard if name == "carrier.message.received"]
        return next((event["id"].encode() for event in events if event["data"]["text"] == LIES), None)

    async def lie() -> bool:
        counts = await platform.queued()
        return all(counts.get(name) for name in queues)

    found = await wait_until(event_id, what="the text's event on the bus")
    await wait_until(lie, what=f"events in {queues}")
    assert isinstance(found, bytes)
    return found


async def dump(platform: Platform) -> bytes:
    """Everything as pg_dump writes it: rows and definitions."""
    command = ["pg_dump", "--dbname", platform.process("postgres").url]
    asked = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, told = await asked.communicate()
    assert asked.returncode == 0, told.decode()
    assert all(f"CREATE SCHEMA {service};".encode() in output for service in SERVICES)
    return output


def files(platform: Platform) -> Iterator[tuple[str, bytes]]:
    """Every file of the state directory: data and write-ahead logs of the servers, logs, keys, pictures, mails."""
    root = platform.state.path
    paths = [path for path in root.rglob("*") if path.is_file()]
    names = [str(path.relative_to(root)) for path in paths]
    for needed in ("data/postgres/pg_wal/", "data/rabbitmq/data/", "logs/", "keys.env"):
        assert any(name.startswith(needed) for name in names), needed
    for path, name in zip(paths, names, strict=True):
        if CARRIERS_OWN not in name:
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            yield name, without_addressee(content) if name.startswith("mail/") else content


def without_addressee(letter: bytes) -> bytes:
    """A sent e-mail, which stands in a file where there is no mail server, but for whom it went to."""
    addressee = message_from_bytes(letter, policy=default)["To"].addresses[0].addr_spec
    return letter.replace(addressee.encode(), b"")


def processes(platform: Platform) -> Iterator[tuple[str, bytes]]:
    """Arguments and environment of each process."""
    for name, process in platform.state.read_processes().items():
        place = Path("/proc") / str(process.pid)
        yield name, (place / "cmdline").read_bytes() + b"\n" + (place / "environ").read_bytes()


@contextmanager
def stopped(platform: Platform, *names: str) -> Iterator[None]:
    """They do nothing meanwhile, and die of nothing."""
    pids = [pid for name in names if (pid := platform.process(name).pid) is not None]
    assert len(pids) == len(names)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
