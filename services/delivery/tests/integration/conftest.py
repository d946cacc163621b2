"""Delivery's tables, events and calls as its tests act on them: handlers run as their consumer runs them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from koinonia import clock
from koinonia.bus.applying import Applier
from koinonia.carrier.contract import Accepted, with_token
from koinonia.db import Database, statement
from koinonia.events import Envelope, Event, decode
from koinonia.events.carrier import Receipt, StatusReceived
from koinonia.events.delivery import RecipientsUpdated
from koinonia.events.messaging import RecipientsResolved, ResolvedRecipient
from koinonia.ids import derived_id, new_id
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import KEY_SETTINGS
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.claims import Claim, claim
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.events import subscriptions
from koinonia_delivery.receipts import Receipts
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.settling import settle
from koinonia_delivery.store import numbers, suppressions
from koinonia_delivery.store.claims import Claimed

E = TypeVar("E", bound=Event)

ROWS = statement("test.rows", "SELECT * FROM recipients WHERE source_id = $1 ORDER BY id")
WORK = statement("test.work", "SELECT * FROM work ORDER BY recipient_id")
OUTBOX = statement("test.outbox", "SELECT body FROM outbox ORDER BY id")
CLEAR_OUTBOX = statement("test.clear_outbox", "DELETE FROM outbox")
AGE_WORK = statement(
    "test.age_work",
    """
    UPDATE work
    SET due_at = due_at - $1::interval, leased_until = leased_until - $1::interval,
        group_started_at = group_started_at - $1::interval
    """,
)
BE_DUE = statement(
    "test.be_due",
    """
    UPDATE work
    SET due_at = clock_timestamp() - interval '1 second', leased_until = leased_until - interval '1 hour'
    """,
)
LOCK_ROWS = statement("test.lock_rows", "SELECT FROM recipients WHERE source_id = $1 FOR UPDATE")
WAITING = statement(
    "test.waiting",
    """
    SELECT count(DISTINCT waiting.pid)
    FROM pg_locks AS waiting
    JOIN pg_locks AS here ON here.pid = waiting.pid
    WHERE NOT waiting.granted AND here.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """,
)
CLOCK = statement("test.clock", "SELECT next_free_at FROM numbers WHERE id = $1")


class World:
    """One church with a number, and its way through delivery."""

    def __init__(self, database: Database, keys: Keys, church_id: UUID) -> None:
        self.database = database
        self.keys = keys
        self.church_id = church_id
        self.number_id = new_id()
        self.settings = settings_for()
        self.receipts = Receipts(self.settings.receipt_deadline)
        self._appliers = {each.queue: Applier(database, each) for each in subscriptions(self.receipts)}

    async def begin(self) -> None:
        """Give the church its number, and let our knowledge be fresh."""
        await self.add_number(self.number_id)
        await self.be_fresh()

    async def add_number(
        self, number_id: UUID, *, rate: float = 10_000.0, church_id: UUID | None = None, phone: str | None = None
    ) -> None:
        async with self.database.tenant(church_id or self.church_id) as tx:
            await numbers.insert(
                tx,
                number_id,
                phone=phone or f"+1205{number_id.int % 10**7:07d}",
                kind="long_code",
                segments_per_second=rate,
                messaging_profile_id="profile",
            )

    async def be_fresh(self, age_seconds: float = 0.0) -> None:
        """Let a marker have come back that was sent so long ago."""
        async with self.database.across_churches() as tx:
            await tx.execute(SET_MARKER, age_seconds)

    def person(self, number: int = 0, **fields: Any) -> ResolvedRecipient:
        """A person of the audience; the same number is the same phone."""
        phone = f"+1205556{number:04d}"
        return ResolvedRecipient(
            recipient_id=new_id(),
            member_ids=(new_id(),),
            phone_index=self.keys.index(phone, self.church_id, "phone"),
            phone_ciphertext=self.keys.encrypt(phone, self.church_id, "phone"),
            fields={"firstName": f"Anna{number}"},
            **fields,
        )

    def chunk(self, people: Sequence[ResolvedRecipient], **fields: Any) -> RecipientsResolved:
        """A chunk of a broadcast to these people, with the ids that messaging gives."""
        message_id = fields.pop("message_id", None) or new_id()
        dispatched_at = fields.pop("dispatched_at", None) or clock.now()
        recipients = [
            ResolvedRecipient(
                recipient_id=derived_id(dispatched_at, message_id.bytes, each.phone_index),
                member_ids=each.member_ids,
                phone_index=each.phone_index,
                phone_ciphertext=each.phone_ciphertext,
                fields=each.fields,
                left_out=each.left_out,
            )
            for each in people
        ]
        values = {"content": "Hi {{firstName}}", "media_urls": (), **fields}
        return RecipientsResolved(
            message_id=message_id, dispatched_at=dispatched_at, recipients=tuple(recipients), **values
        )

    def envelope(self, event: E, *, church_id: UUID | None = None, event_id: UUID | None = None) -> Envelope[E]:
        """An event of the church."""
        return Envelope(id=event_id or new_id(), time=clock.now(), data=event, church_id=church_id or self.church_id)

    async def apply(self, queue: str, *events: Event | Envelope[Any], also: Any = None) -> None:
        """Hand events to a queue's handler, as its consumer does."""
        envelopes = [each if isinstance(each, Envelope) else self.envelope(each) for each in events]
        await self._appliers[queue].apply(envelopes, also)

    async def store(self, people: int = 1, **fields: Any) -> UUID:
        """Store a broadcast to so many people; answers its id. What was published before is forgotten."""
        chunk = self.chunk([self.person(number) for number in range(people)], **fields)
        await self.apply("delivery.chunks", chunk)
        await self.clear_events()
        return chunk.message_id

    async def claim(self, places: int = 50, lease_seconds: float = 30.0) -> Claim:
        """Claim as a worker does."""
        return await claim(
            self.database,
            places,
            lease_seconds=lease_seconds,
            webhook_url=lambda each, trace: with_token("https://x.test/s", str(each), trace),
            resend=self.settings.telnyx_idempotency,
        )

    @asynccontextmanager
    async def claim_under_way(self, message_id: UUID) -> AsyncIterator["asyncio.Task[Claim]"]:
        """A claim that knows who may not be texted, and cannot come to its end before the block does."""
        async with self.database.across_churches() as tx:
            await tx.fetch(LOCK_ROWS, message_id)
            claiming = asyncio.create_task(self.claim())
            await self.until_waiting(claiming, 1, "the claim wrote over a row that is locked")
            yield claiming

    async def until_waiting(self, task: "asyncio.Task[Any]", waiting: int, otherwise: str) -> None:
        """Wait until so many transactions of this database wait for locks; that of ``task`` must be one of them.

        Raises:
            AssertionError: with ``otherwise``, when the task has ended instead.
        """
        async with self.database.across_churches() as tx:

            async def is_waiting() -> bool:
                return task.done() or await tx.fetch_value(WAITING) == waiting

            await wait_until(is_waiting, what=f"{waiting} transactions that wait for locks")
        assert not task.done(), otherwise

    async def claim_one(self) -> Claimed:
        """Claim the one recipient that waits."""
        (call,) = (await self.claim()).calls
        return call.claimed

    async def settle(self, *results: Outcome) -> None:
        """Settle as a worker does."""
        await settle(self.database, results, self.settings)

    async def receive(self, *receipts: Receipt) -> None:
        """Apply receipts as one event."""
        await self.apply("delivery.receipts", self.envelope(StatusReceived(receipts=receipts)))

    async def rows(self, message_id: UUID) -> list[asyncpg.Record]:
        async with self.database.tenant(self.church_id) as tx:
            return await tx.fetch(ROWS, message_id)

    async def statuses(self, message_id: UUID) -> list[str]:
        return [row["status"] for row in await self.rows(message_id)]

    async def work(self) -> list[asyncpg.Record]:
        async with self.database.across_churches() as tx:
            return await tx.fetch(WORK)

    async def events(self, kind: type[E]) -> list[Envelope[E]]:
        """What is in the outbox."""
        async with self.database.across_churches() as tx:
            bodies = await tx.fetch(OUTBOX)
        return [each for each in (decode(row["body"]) for row in bodies) if isinstance(each.data, kind)]

    async def updates(self) -> list[RecipientsUpdated]:
        return [each.data for each in await self.events(RecipientsUpdated)]

    async def clear_events(self) -> None:
        async with self.database.across_churches() as tx:
            await tx.execute(CLEAR_OUTBOX)

    async def let_pass(self, **duration: float) -> None:
        """Let so much time have passed for all work."""
        async with self.database.across_churches() as tx:
            await tx.execute(AGE_WORK, timedelta(**duration))

    async def be_due(self) -> None:
        """Let every wait and every lease be over; when each was first tried, which its key is made of, stays."""
        async with self.database.across_churches() as tx:
            await tx.execute(BE_DUE)

    async def next_free_at(self, number_id: UUID | None = None) -> datetime:
        async with self.database.tenant(self.church_id) as tx:
            found: datetime = await tx.fetch_value(CLOCK, number_id or self.number_id)
            return found

    async def suppress(self, number: int = 0, *, suppressed: bool = True, at: datetime | None = None) -> None:
        """Let compliance have said so of a person, now or then."""
        async with self.database.across_churches() as tx:
            await suppressions.answer(
                tx,
                self.church_id,
                self.keys.index(f"+1205556{number:04d}", self.church_id, "phone"),
                suppressed=suppressed,
                occurred_at=at or clock.now(),
                version=1,
                inbound_event_id=None,
            )


SET_MARKER = statement(
    "test.set_marker", "UPDATE freshness SET marker_sent_at = clock_timestamp() - make_interval(secs => $1)"
)


def settings_for(**values: Any) -> DeliverySettings:
    """Settings of a delivery that connects to nothing by itself."""
    return DeliverySettings(
        **{
            "database_url": "",
            "amqp_url": "",
            "redis_url": "",
            "public_url": "https://x.test",
            "telnyx_api_key": "key",
            **KEY_SETTINGS,
            **values,
        }
    )


def accepted(claimed: Claimed, carrier_id: str = "c1") -> Outcome:
    """The carrier has taken it."""
    return outcomes.accepted(attempt_of(claimed), Accepted(carrier_id=carrier_id))


def receipt(recipient_id: UUID, status: str, **fields: Any) -> Receipt:
    """The carrier's word."""
    values = {"occurred_at": clock.now(), "carrier_id": "c1", **fields}
    return Receipt(recipient_id=recipient_id, status=status, **values)


@pytest.fixture
async def new_world(databases: Callable[[str], Awaitable[Database]], keys: Keys, church_id: UUID) -> World:
    """A church that nobody has told delivery of."""
    return World(await databases("delivery"), keys, church_id)


@pytest.fixture
async def world(new_world: World) -> World:
    """A church with a number, whose opt-outs are known."""
    await new_world.begin()
    return new_world
