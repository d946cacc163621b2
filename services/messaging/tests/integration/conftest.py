"""A church with people, on messaging's own tables, and what its broadcasts leave in the outbox."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api.messages import Message, SendRequest, TargetType
from koinonia.bus.applying import Applier
from koinonia.db import Database, Transaction, statement
from koinonia.events import Envelope, Event, decode
from koinonia.events.billing import MessageAuthorized, MessageDeclined
from koinonia.events.compliance import SuppressionAdded
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageDue, RecipientsResolved, ResolvedRecipient
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia.security import Identity, Keys
from koinonia.testing.databases import Databases
from koinonia.testing.fixtures import wait_until
from koinonia_messaging import broadcasts, imports, messages, progress, projections
from koinonia_messaging.events import subscriptions
from koinonia_messaging.schedule import Bells, Schedule
from koinonia_messaging.store.broadcasts import Leases

E = TypeVar("E", bound=Event)

OUTBOX = statement("test.outbox", "SELECT body FROM outbox ORDER BY id")
ROW = statement("test.message", "SELECT * FROM messages WHERE id = $1")
STATE = statement(
    "test.state",
    """
    SELECT
        (SELECT array_agg(churches)::text FROM churches) AS churches,
        (SELECT array_agg(numbers)::text FROM numbers) AS numbers,
        (SELECT array_agg(suppressions)::text FROM suppressions) AS suppressions,
        (SELECT array_agg(messages)::text FROM messages) AS messages,
        (SELECT count(*) FROM branches) AS branches,
        (SELECT count(*) FROM outbox) AS outbox
    """,
)


class Killed(Exception):
    """The process died before its transaction's commit."""


def phone(number: int) -> str:
    """A number that nobody has, for each ``number`` below ten thousand times the area codes."""
    return f"+1{312 + number // 10_000}555{number % 10_000:04}"


def envelope(event: E, church_id: UUID | None) -> Envelope[E]:
    return Envelope(id=new_id(), time=clock.now(), data=event, church_id=church_id)


def church_changed(church_id: UUID, version: int = 1, **values: Any) -> ChurchChanged:
    given = {"name": "Grace Chapel", "timezone": "America/Chicago", "status": "active", **values}
    return ChurchChanged(church_id=church_id, version=version, **given)


class Church:
    """One church at the level of use cases: each call is a transaction of its own."""

    def __init__(self, database: Database, keys: Keys, church_id: UUID) -> None:
        self.database = database
        self.keys = keys
        self.id = church_id
        self.actor = Identity(
            church_id=church_id,
            principal_id=new_id(),
            principal_kind="session",
            role="owner",
            mfa_verified=False,
            address="127.0.0.1",
            request_id="test",
            expires_at=clock.now() + timedelta(hours=1),
            method="POST",
            path="/",
        )

    async def set_up(self) -> None:
        """Let messaging know the church."""
        async with self.database.tenant(self.id) as tx:
            await projections.apply_church(tx, envelope(church_changed(self.id), self.id))

    async def set_rules(self, version: int = 2, **rules: int | str | UUID | None) -> None:
        """The gateway tells of the church's own rules."""
        async with self.database.tenant(self.id) as tx:
            await projections.apply_church(tx, envelope(church_changed(self.id, version, **rules), self.id))

    async def add_number(self) -> UUID:
        number = NumberChanged(
            number_id=new_id(), version=1, phone="+13125550199", kind="long_code", status="active", is_default=True
        )
        async with self.database.tenant(self.id) as tx:
            await projections.apply_number(tx, envelope(number, self.id))
        return number.number_id

    async def stop(self, number: str) -> None:
        """Somebody has opted out, compliance says."""
        index = self.keys.index(number, self.id, "phone")
        change = SuppressionAdded(phone_index=index, version=1, occurred_at=clock.now(), reason="stop")
        async with self.database.tenant(self.id) as tx:
            await projections.apply_suppression(tx, envelope(change, self.id))

    async def add_members(self, people: Iterable[dict[str, Any]]) -> None:
        async with self.database.tenant(self.id) as tx:
            rows = enumerate(({"optInSms": True, **person} for person in people), start=1)
            _, result = await imports.run(tx, self.actor, rows, [], self.keys)
        assert not result.errors

    async def add_crowd(self, count: int) -> None:
        """Add members with a number each."""
        await self.add_members({"firstName": f"P{each}", "phone": phone(each)} for each in range(count))

    async def send(
        self,
        content: str = "Hello",
        *,
        kind: TargetType = "all",
        ids: Sequence[UUID] = (),
        **values: Any,
    ) -> Message:
        given = {"allow_duplicate": True, **values}
        request = SendRequest(content=content, target_type=kind, target_ids=list(ids), **given)
        async with self.database.tenant(self.id) as tx:
            return await messages.accept(tx, self.actor, request)

    async def ask(self, message_id: UUID) -> bool:
        async with self.database.tenant(self.id) as tx:
            return await broadcasts.ask_when_due(tx, message_id)

    async def authorize(self, message_id: UUID, version: int = 1, bound: int = 1_000_000) -> bool:
        answer = MessageAuthorized(message_id=message_id, version=version, segment_bound=bound)
        async with self.database.tenant(self.id) as tx:
            return await broadcasts.authorize(tx, envelope(answer, self.id))

    async def decline(self, message_id: UUID, version: int = 1) -> None:
        answer = MessageDeclined(message_id=message_id, version=version, reason="plan_limit", available_segments=0)
        async with self.database.tenant(self.id) as tx:
            await broadcasts.decline(tx, envelope(answer, self.id))

    async def dispatch(self, content: str = "Hello", **values: Any) -> UUID:
        """Send to everybody, as far as billing's leave."""
        message = await self.send(content, **values)
        await self.ask(message.id)
        # A service that runs beside may be the one that asks.
        await wait_until(lambda: self.authorize(message.id), what="a question to billing")
        return message.id

    async def stream(self, message_id: UUID, numbers: int = 500) -> bool:
        async with self.database.tenant(self.id) as tx:
            return await broadcasts.stream_page(tx, message_id, numbers)

    async def stream_all(self, message_id: UUID, numbers: int = 500) -> None:
        while await self.stream(message_id, numbers):
            pass

    async def cancel(self, message_id: UUID) -> Message:
        async with self.database.tenant(self.id) as tx:
            return await messages.cancel(tx, self.actor, message_id)

    async def report(self, message_id: UUID, *changes: dict[str, int]) -> None:
        """Let delivery report changes of recipients, all in one batch."""
        await self.report_all([(message_id, each) for each in changes])

    async def report_all(self, changes: Iterable[tuple[UUID, dict[str, int]]]) -> None:
        """As ``report``, for several messages."""
        events = [
            envelope(RecipientsUpdated(source_id=each, kind="broadcast", changes=change), self.id)  # type: ignore[arg-type]
            for each, change in changes
        ]
        async with self.database.across_churches() as tx:
            await progress.apply(tx, events)

    async def message(self, message_id: UUID) -> Message:
        async with self.database.tenant(self.id) as tx:
            return await messages.fetch(tx, message_id)

    async def row(self, message_id: UUID) -> dict[str, Any]:
        async with self.database.tenant(self.id) as tx:
            row = await tx.fetch_row(ROW, message_id)
        assert row is not None
        return dict(row)

    async def published(self, kind: type[E]) -> list[E]:
        """The church's events of a type, in order; nothing relays them here."""
        async with self.database.tenant(self.id) as tx:
            events = [decode(row["body"]) for row in await tx.fetch(OUTBOX)]
        return [event.data for event in events if isinstance(event.data, kind)]

    async def recipients(self) -> list[ResolvedRecipient]:
        return [each for chunk in await self.published(RecipientsResolved) for each in chunk.recipients]

    async def questions(self) -> list[tuple[int, int, int]]:
        """What billing was asked: version, recipients, bound."""
        return [(due.version, due.recipient_count, due.segment_bound) for due in await self.published(MessageDue)]

    async def receive(self, *events: Envelope[Any], killed: bool = False) -> None:
        """Apply events as messaging's consumers do; ``killed``: the process dies before the commit."""

        async def die(_tx: Transaction) -> None:
            if killed:
                raise Killed

        kind = type(events[0].data)
        subscription = next(each for each in subscriptions(Bells()) if kind in each.handlers)
        with suppress(Killed):
            await Applier(self.database, subscription).apply(events, also=die)

    async def state(self) -> dict[str, Any]:
        """Everything of the church that an event can change."""
        async with self.database.tenant(self.id) as tx:
            row = await tx.fetch_row(STATE)
        assert row is not None
        return dict(row)

    def schedule(self) -> Schedule:
        """The loops of one replica."""
        return Schedule(self.database, Life(), Bells(), Leases(first_seconds=0.2, longest_seconds=1.0))


@pytest.fixture
async def new_church(databases: Databases, keys: Keys) -> Callable[[], Awaitable[Church]]:
    """Make churches on one database."""
    database = await databases("messaging")

    async def make() -> Church:
        church = Church(database, keys, new_id())
        await church.set_up()
        return church

    return make


@pytest.fixture
async def church(new_church: Callable[[], Awaitable[Church]]) -> Church:
    return await new_church()
