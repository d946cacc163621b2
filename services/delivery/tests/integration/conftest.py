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
from koinonia.carrier.contract import Accepted, Carrier, with_token
from koinonia.carrier.simulated import Fault, SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.db import Database, statement
from koinonia.events import Envelope, Event, decode
from koinonia.events.carrier import Receipt, StatusReceived
from koinonia.events.conversation import ReplyRequested
from koinonia.events.delivery import RecipientsUpdated
from koinonia.events.messaging import (
    MessageCancelled,
    MessagePaused,
    MessageResumed,
    RecipientsResolved,
    RecipientsResolvedForTest,
    ResolvedRecipient,
)
from koinonia.ids import derived_id, new_id
from koinonia.life import Life
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import KEY_SETTINGS
from koinonia_delivery import messages
from koinonia_delivery.calls import Caller, attempt_of, carrier_breaker
from koinonia_delivery.claims import Claim, claim
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.events import subscriptions
from koinonia_delivery.receipts import Receipts
from koinonia_delivery.sending import Sending
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
LET_WAKE = statement(
    "test.let_wake",
    """
    UPDATE lanes
    SET wake_at = least(wake_at, clock_timestamp())
    WHERE wake_at < clock_timestamp() + interval '0.5 seconds'
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
# Either way: what is no problem any more is listed no more.
MISLISTED = statement(
    "test.mislisted",
    """
    SELECT coalesce(problems.id, recipients.id)
    FROM problems
    FULL JOIN (
        SELECT id, source_id, status, church_id
        FROM recipients
        WHERE status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
    ) AS recipients USING (id, source_id, status, church_id)
    WHERE problems.id IS NULL OR recipients.id IS NULL
    """,
)
PHONE = statement("test.phone", "SELECT phone FROM numbers WHERE id = $1")
PROFILE = statement("test.profile", "UPDATE numbers SET messaging_profile_id = $2 WHERE id = $1")
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
        self.bells = messages.Bells()
        self._appliers = {each.queue: Applier(database, each) for each in subscriptions(self.receipts, self.bells)}

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
                branch_id=each.branch_id,
                over_limit=each.over_limit,
            )
            for each in people
        ]
        values = {"content": "Hi {{firstName}}", "media_urls": (), **fields}
        resolved = RecipientsResolvedForTest if values.pop("test", False) else RecipientsResolved
        return resolved(message_id=message_id, dispatched_at=dispatched_at, recipients=tuple(recipients), **values)

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

    async def reply(self, number: int = 0) -> UUID:
        """Store an admin's reply to a person; answers its id."""
        person = self.person(number)
        wanted = ReplyRequested(
            conversation_id=new_id(),
            reply_id=new_id(),
            number_id=self.number_id,
            member_id=person.member_ids[0],
            phone_index=person.phone_index,
            phone_ciphertext=person.phone_ciphertext,
            content="On my way",
            media_urls=(),
            requested_at=clock.now(),
        )
        await self.apply("delivery.texts", wanted)
        return wanted.reply_id

    async def claim(self, places: int = 50, lease_seconds: float = 30.0) -> Claim:
        """Claim as a worker does, once the lanes have woken that do so within a moment."""
        async with self.database.across_churches() as tx:
            await tx.execute(LET_WAKE)
        return await self.claim_as_it_is(places, lease_seconds)

    async def claim_as_it_is(self, places: int = 50, lease_seconds: float = 30.0) -> Claim:
        """Claim from the lanes that are awake now."""
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

    async def sweep(self) -> int:
        """Let rows have followed what was said of their broadcasts; how many."""
        return await messages.sweep_cancelled(self.database) + await messages.move_rows(self.database)

    async def cancel(self, message_id: UUID) -> None:
        """Let the church have cancelled a broadcast, and its rows have followed."""
        await self.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
        await self.sweep()

    async def pause(self, message_id: UUID, version: int = 1) -> None:
        """Let a broadcast have been paused, and its rows have followed."""
        paused = MessagePaused(message_id=message_id, version=version, paused_at=clock.now())
        await self.apply("delivery.messages", paused)
        await self.sweep()

    async def resume(self, message_id: UUID, version: int = 2) -> None:
        """Let a broadcast have been resumed, and its rows have followed."""
        await self.apply("delivery.messages", MessageResumed(message_id=message_id, version=version))
        await self.sweep()

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
async def new_world(
    databases: Callable[[str], Awaitable[Database]], keys: Keys, church_id: UUID
) -> AsyncIterator[World]:
    """A church that nobody has told delivery of. Whatever a test has done, what people look for is listed after it."""
    world = World(await databases("delivery"), keys, church_id)
    yield world
    async with world.database.across_churches() as tx:
        assert await tx.fetch(MISLISTED) == [], "problems is not what recipients says"


@pytest.fixture
async def world(new_world: World) -> World:
    """A church with a number, whose opt-outs are known."""
    await new_world.begin()
    return new_world


class Worker:
    """A worker in this process."""

    def __init__(
        self, world: World, carrier: SimulatedCarrier, wrap: Callable[[Carrier], Carrier], **settings: Any
    ) -> None:
        values = {"telnyx_api_url": carrier.url, "unknown_outcome_wait": 0.1, "drain_seconds": 6.0, **settings}
        self.settings: DeliverySettings = settings_for(**values)
        self.life = Life()
        self.client = TelnyxCarrier(carrier.url, "key", total_seconds=2.0, read_seconds=1.0)
        self.caller = Caller(wrap(self.client), world.keys, self.settings, carrier_breaker())
        self.sending = Sending(world.database, self.caller, self.settings, self.life, asyncio.Event())
        self.doubts = Doubts(world.database, self.client, world.keys, world.receipts, self.settings)
        self.task = asyncio.create_task(self.sending.run())

    async def stop(self) -> None:
        """As SIGTERM does; once is enough."""
        self.life.stop("test")
        if not self.task.cancelled():
            await self.task
        await self.client.close()

    async def kill(self) -> None:
        """As SIGKILL does: nothing is settled."""
        self.task.cancel()
        self.sending._claimed.clear()
        for call in list(self.sending._calls):
            call.remove_done_callback(self.sending._end)
            call.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()


StartWorker = Callable[..., Worker]


@pytest.fixture
async def start_worker(world: World, carrier: SimulatedCarrier) -> AsyncIterator[StartWorker]:
    """``start_worker(lease_seconds=5.0)``: it works until it is stopped, at the latest when the test ends.

    ``wrap`` puts something between it and its client.
    """
    workers: list[Worker] = []

    def start(wrap: Callable[[Carrier], Carrier] = lambda client: client, **settings: Any) -> Worker:
        workers.append(Worker(world, carrier, wrap, **settings))
        return workers[-1]

    yield start
    for worker in workers:
        await worker.stop()


@pytest.fixture
async def carrier(world: World) -> AsyncIterator[SimulatedCarrier]:
    """A carrier that owns the church's number; its receipts go nowhere."""
    async with SimulatedCarrier() as carrier:
        async with world.database.tenant(world.church_id) as tx:
            phone = await tx.fetch_value(PHONE, world.number_id)
        number = carrier.add_number(phone)
        async with world.database.across_churches() as tx:
            await tx.execute(PROFILE, world.number_id, number.profile_id)
        carrier.order(Fault(kind="receipt_dropped"))
        yield carrier


def all_are(world: World, message_id: UUID, *statuses: str) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return set(await world.statuses(message_id)) <= set(statuses)

    return condition
