"""A church that a test registers, with its people; every call goes through the public API."""

import asyncio
import itertools
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from koinonia.api.auth import ApiKeyRequest, RegisterRequest
from koinonia.api.billing import Usage
from koinonia.api.members import IMPORT_ROWS
from koinonia.api.messages import Message, Recipient, SendRequest
from koinonia.client import ApiError, Client
from koinonia.testing.fixtures import wait_until

from .carrier import Text
from .platform import Platform

AT_ONCE = 4
PASSWORD = "a long sentence that nobody guesses"
ACCEPTED = frozenset({"sent", "delivered", "undelivered", "unconfirmed"})
AS_THE_CARRIER_SAYS = {"delivered": "delivered", "undelivered": "delivery_failed"}

_people = itertools.count()


@dataclass(frozen=True)
class Person:
    """Somebody whom nobody else's church has."""

    first_name: str
    last_name: str
    phone: str
    email: str

    def row(self) -> dict[str, object]:
        """For an import."""
        return {
            "firstName": self.first_name,
            "lastName": self.last_name,
            "phone": self.phone,
            "email": self.email,
            "optInSms": True,
        }


PEOPLE: list[Person] = []
"""Everybody whom this run has planted anywhere."""
BURIED: list[Person] = []
"""Whom a test has put into an unreadable event: they stay in the broker's old files."""


def people(count: int) -> list[Person]:
    """New people, each with a number of their own: 312 200 0000 and on."""
    made = [_person(next(_people)) for _ in range(count)]
    PEOPLE.extend(made)
    return made


def _person(number: int) -> Person:
    local = 2_000_000 + number
    return Person(f"Anna{number}", f"Lee{number}", f"+1312{local}", f"anna.lee.{number}@members.example")


class Church:
    """A registered church that is ready to send, its owner's browser session, and an agreement to check."""

    def __init__(self, platform: Platform, client: Client, church_id: UUID, email: str, number: str) -> None:
        self.platform = platform
        self.client = client
        self.id = church_id
        self.email = email
        self.number = number

    @classmethod
    async def register(cls, platform: Platform) -> "Church":
        """Register one and wait until it is ready."""
        client = Client(platform.url, patience_seconds=30)
        email = f"owner.{secrets.token_hex(6)}@church.example"
        request = RegisterRequest(
            church_name="Grace Chapel", first_name="Ruth", last_name="Miller", email=email, password=PASSWORD
        )
        session = await client.auth.register(request)
        await client.churches.wait_until_ready(session.church.id)
        numbers = [number async for number in client.numbers.list()]
        assert len(numbers) == 1
        return cls(platform, client, session.church.id, email, numbers[0].phone_number)

    @classmethod
    async def register_some(cls, platform: Platform, count: int) -> "list[Church]":
        """Register so many, a few at a time: a gateway that has just begun on a busy machine turns a crowd away."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def register() -> Church:
            async with turns:
                return await cls.register(platform)

        return list(await asyncio.gather(*(register() for _ in range(count))))

    async def close(self) -> None:
        await self.client.transport.close()

    async def api_key(self, role: str = "admin") -> str:
        """The secret of a new key."""
        request = msgspec.convert({"name": "Program", "role": role}, ApiKeyRequest)
        created = await self.client.api_keys.create(request)
        assert created.key is not None
        return created.key

    async def add(self, count: int) -> list[Person]:
        """Import new people who may be texted."""
        added = people(count)
        for batch in (added[start : start + IMPORT_ROWS] for start in range(0, count, IMPORT_ROWS)):
            result = await self.client.members.import_rows([person.row() for person in batch])
            assert (result.created, result.errors) == (len(batch), [])
        return added

    async def send(self, content: str, target_type: str = "all", target_ids: Sequence[UUID] = ()) -> Message:
        """Send to all, or to those named."""
        body = {"content": content, "targetType": target_type, "targetIds": [str(each) for each in target_ids]}
        return await self.client.messages.send(msgspec.convert(body, SendRequest))

    async def recipients(self, message_id: UUID) -> list[Recipient]:
        """Every recipient's copy."""
        return [recipient async for recipient in self.client.messages.recipients(message_id)]

    async def refused_for_now(self, message: Message, phone: str) -> UUID:
        """Wait until the carrier has refused somebody's copy, which waits then; its id."""

        async def found() -> UUID | None:
            try:
                rows = [row for row in await self.recipients(message.id) if row.phone == phone and row.error_code]
            except ApiError:  # 404: delivery has not heard of the message yet
                return None
            return rows[0].id if rows else None

        recipient_id = await wait_until(found, seconds=30, what="a refusal")
        assert isinstance(recipient_id, UUID)
        return recipient_id

    async def texts(self) -> list[Text]:
        """What the carrier has accepted from this church's number."""
        return await self.platform.carrier.texts(sender=self.number)

    async def code(self, phone: str) -> str:
        """The code in the last text to a phone; waited for."""

        async def found() -> str | None:
            texts = [text.text or "" for text in await self.texts() if text.recipient == phone]
            told = re.search(r"\b\d{6}\b", texts[-1]) if texts else None
            return told[0] if told else None

        told = await wait_until(found, seconds=60, what="a text with a code")
        assert isinstance(told, str)
        return told

    async def agrees(self, message_id: UUID) -> list[Recipient]:
        """Check that counters, rows and the carrier's record tell the same of a message; the rows.

        Nobody got the text twice, and everybody got it of whom that is said.
        """
        message = await self.client.messages.get(message_id)
        rows = await self.recipients(message_id)
        by_status = Counter(row.status for row in rows)
        counted = {status: count for status, count in msgspec.to_builtins(message.counts).items() if count}
        assert counted == by_status
        assert message.total_recipients == len(rows) == len({row.phone for row in rows})

        theirs = {row.phone for row in rows}
        texts = {text.recipient: text for text in await self.texts_of(message, theirs)}
        assert {row.phone for row in rows if row.status in ACCEPTED} == set(texts)
        for row in rows:
            if row.status in AS_THE_CARRIER_SAYS:
                assert texts[row.phone].status == AS_THE_CARRIER_SAYS[row.status]
            if row.status in ACCEPTED:
                assert texts[row.phone].parts == row.segments
        return rows

    async def texts_of(self, message: Message, phones: set[str]) -> list[Text]:
        """The carrier's texts of a message whose text has no fields: to each number once."""
        texts = [text for text in await self.texts() if text.text == message.content and text.recipient in phones]
        twice = [phone for phone, count in Counter(text.recipient for text in texts).items() if count > 1]
        assert not twice, f"{len(twice)} numbers got the same text more than once"
        return texts

    async def is_metered(self, segments: int) -> Usage:
        """Wait until the bill has so many segments and nothing is reserved any more; fails when it has more."""

        async def metered() -> Usage | None:
            usage = await self.client.billing.usage()
            assert usage.segments <= segments, f"{usage.segments} segments are metered, {segments} were accepted"
            return usage if usage.segments == segments and usage.reserved_segments == 0 else None

        found = await wait_until(metered, seconds=60, what=f"a bill of {segments} segments")
        assert isinstance(found, Usage)
        return found
