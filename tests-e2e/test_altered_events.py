"""Events altered on the bus: unreadable ones are dead at once, with a reason and nobody's data; all others flow."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from koinonia import clock
from koinonia.bus import dead_letters
from koinonia.bus.dead_letters import DeadLetter
from koinonia.bus.link import Link
from koinonia.bus.topology import QUEUES
from koinonia.contracts.samples import sample
from koinonia.events import Envelope, Event, encode
from koinonia.ids import new_id
from koinonia.testing.fixtures import wait_until

from .church import BURIED, Church, Person, people
from .platform import Platform
from .verdict import still_works

# Of events that may be no one church's.
SPANNING = {"delivery.holds", "delivery.receipts", "compliance.audit", "billing.payments"}
RUBBISH_HEADERS: dict[str, Any] = {
    "koinonia-attempt": "many",
    "koinonia-reason": "forged",
    "koinonia-first-failed-at": 7,
    "x-death": "never",
}


@asynccontextmanager
async def channel_of(platform: Platform) -> AsyncIterator[AbstractChannel]:
    """A channel of the broker's administrator, who may publish anything anywhere."""
    async with await aio_pika.connect(platform.process("rabbitmq").url) as connection:
        yield await connection.channel()


@pytest.fixture
async def link(platform: Platform) -> AsyncIterator[Link]:
    link = Link(platform.process("rabbitmq").url, "the test of altered events")
    yield link
    await link.close()


def event_for(queue: str, church: Church) -> dict[str, Any]:
    """A good one of the first type that the queue takes, as JSON."""
    kind = QUEUES[queue][0]
    envelope: Envelope[Event] = Envelope(id=new_id(), time=clock.now(), data=sample(kind), church_id=church.id)
    found: dict[str, Any] = json.loads(encode(envelope))
    return found


def altered(queue: str, church: Church, planted: Person) -> Iterator[tuple[str, bytes]]:
    """Events for a queue that nobody can read, each with a person's name and phone somewhere in it."""
    good = event_for(queue, church)
    person = {"name": planted.first_name, "phone": planted.phone}
    whole = json.dumps({**good, "person": person}).encode()

    def with_(**more: Any) -> bytes:
        return json.dumps({**good, **more, "person": person}).encode()

    def without(name: str) -> bytes:
        return json.dumps({key: value for key, value in {**good, "person": person}.items() if key != name}).encode()

    yield "cut", whole[: len(whole) // 2] + planted.phone.encode()
    yield "empty", b""
    yield "text", f"Call {planted.first_name} at {planted.phone}".encode()
    yield "a table", f"firstName,phone\n{planted.first_name},{planted.phone}\n".encode()
    yield "a list", json.dumps([good, person]).encode()
    yield "null", b"null"
    yield "a flipped byte", bytes([whole[0] ^ 1]) + whole[1:]
    yield "a flipped byte inside", whole.replace(b'"specversion"', b'"specversioo"')
    yield "no UTF-8", with_(correlationid="?").replace(b'"?"', b'"\xff\xfe"')
    yield "deep", b'{"data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    yield "huge", json.dumps(person).encode() * 50_000
    yield "many digits", whole.replace(b'"specversion"', b'"n": ' + b"9" * 5000 + b', "specversion"')[:-1]
    yield "another CloudEvents", with_(specversion="0.3")
    yield "an id that is none", with_(id=planted.phone)
    yield "a time that is none", with_(time=planted.phone)
    yield "a church that is none", with_(churchid=planted.phone)
    yield "a schema of another type", with_(dataschema="urn:koinonia:event:messaging.branch.chang:1")
    yield "data of another kind", with_(data=planted.phone)
    yield "data with wrong types", with_(data={key: [planted.phone] for key in good["data"]})
    yield "no data", without("data")
    yield "no id", without("id")
    yield "no type", without("type")
    yield "no time", without("time")
    if queue not in SPANNING and not takes_batches(queue):
        yield "no church", without("churchid")


def takes_batches(queue: str) -> bool:
    """Whether its events may span churches because they are applied many at a time."""
    return queue in {"messaging.progress", "conversation.progress", "billing.usage"}


@pytest.mark.timeout(600)  # the first one, which starts the platform
async def test_altered_events_are_dead_at_once_and_all_others_flow(church: Church, link: Link) -> None:
    (planted,) = people(1)
    BURIED.append(planted)
    said = {queue: list(altered(queue, church, planted)) for queue in QUEUES}
    new = {"type": "x.y.z", "dataschema": "urn:koinonia:event:x.y.z:1"}
    unknown = {queue: {**event_for(queue, church), **new} for queue in QUEUES}
    try:
        async with channel_of(church.platform) as channel:
            for number in range(max(len(each) for each in said.values())):
                for queue, bodies in said.items():
                    if number < len(bodies):
                        headers = RUBBISH_HEADERS if number % 2 else {}
                        await publish(channel, queue, bodies[number][1], headers)
            for queue, event in unknown.items():
                await publish(channel, queue, json.dumps(event).encode())
        await church_lives(church)
        counted = {queue: len(bodies) for queue, bodies in said.items()}
        await wait_until(lambda: has_at_least(link, counted), seconds=60, what="the death of all that cannot be read")
        with_unknown = {queue: count + 1 for queue, count in counted.items()}
        await wait_until(lambda: has_at_least(link, with_unknown), seconds=60, what="the death of what nobody knows")
        letters = [letter for queue in QUEUES for letter in await dead_letters.show(link, queue)]
        assert len(letters) == sum(with_unknown.values())
        assert [fault for letter in letters if (fault := fault_of(letter, planted))] == []
        assert {letter.body for letter in letters} >= {body for bodies in said.values() for _, body in bodies}
    finally:
        await asyncio.gather(*(dead_letters.purge(link, queue) for queue in QUEUES))
    for name, log in church.platform.logs().items():
        assert planted.phone[2:] not in log.read_text(errors="replace"), name
    await still_works(church)


def fault_of(letter: DeadLetter, planted: Person) -> str | None:
    """What is wrong with the story of a dead letter."""
    told = f"{letter.reason} {letter.stack} {letter.first_error}"
    is_unknown = "unknown event" in letter.reason
    if planted.phone[2:] in told or planted.first_name in told:
        return f"{letter.queue}: it tells of a person: {told}"
    if letter.attempts != (4 if is_unknown else 1):
        return f"{letter.queue}: {letter.attempts} attempts: {told}"
    if letter.died_at is None or not letter.stack or not letter.reason.startswith(("Unreadable: ", "UnknownEvent: ")):
        return f"{letter.queue}: {told}"
    return None


async def has_at_least(link: Link, wanted: dict[str, int]) -> bool:
    counts = await dead_letters.count(link)
    return all(counts[queue] >= count for queue, count in wanted.items())


async def publish(channel: AbstractChannel, queue: str, body: bytes, headers: dict[str, Any] | None = None) -> None:
    """Straight into the queue, and confirmed."""
    message = aio_pika.Message(body, headers=headers or {}, content_type="text/plain", delivery_mode=2)
    await channel.default_exchange.publish(message, queue)


async def church_lives(church: Church) -> None:
    """A broadcast goes out and is delivered, a text comes in, a STOP holds, and the bill is right."""
    anna, ben = await church.add(2)
    sent = await church.send("All is well.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    await church.agrees(sent.id)
    for person, text in ((anna, "Thank you"), (ben, "STOP")):
        await church.platform.carrier.person_texts(person.phone, church.number, text)

    async def is_heard() -> bool:
        threads = [thread async for thread in church.client.conversations.list()]
        agreed = [member.opt_in_sms async for member in church.client.members.list()]
        return len(threads) == 2 and agreed.count(False) == 1

    await wait_until(is_heard, seconds=60, what="the text and the STOP")
    await church.is_metered(2)
