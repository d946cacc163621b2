"""Test messages: nothing is reserved, metered or counted against the plan."""

from uuid import UUID

import pytest

from koinonia.api import billing
from koinonia.db import Database, statement
from koinonia.events.billing import MessageAuthorized, MessageCredited, SubscriptionChanged, UsageRecorded
from koinonia.events.delivery import BroadcastStopped, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageAccepted, MessageCompleted, MessageDue
from koinonia.ids import new_id
from koinonia.service import Running
from koinonia.testing.databases import Databases
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe, Caller, StartService
from koinonia_billing.app import build
from koinonia_billing.settings import BillingSettings

Service = Running[BillingSettings]

ROWS = statement(
    "test.rows",
    "SELECT (SELECT count(*) FROM reservations) AS reserved, (SELECT count(*) FROM usage_ledger) AS metered",
)


@pytest.fixture
async def service(start_service: StartService, bus: BusProbe, church_id: UUID) -> Service:
    """A church with a plan of 100 segments."""
    started = await start_service("billing", build, BillingSettings, trial_segments=100)
    church = ChurchChanged(church_id=church_id, version=1, name="Grace", timezone="UTC", status="active")
    await bus.publish(church, church_id)
    await bus.next(SubscriptionChanged)
    return started


@pytest.fixture
async def database(service: Service, databases: Databases) -> Database:
    return await databases("billing")


async def rows(database: Database) -> tuple[int, int]:
    """Reservations, and lines of the ledger."""
    async with database.across_churches() as tx:
        row = await tx.fetch_row(ROWS)
    assert row is not None
    return row["reserved"], row["metered"]


async def figures(service: Service, caller: Caller, church_id: UUID) -> tuple[int, int, int]:
    """Used, reserved and remaining segments, as the API tells them."""
    _, answer = await caller(service, billing.GET_USAGE, church_id=church_id)
    return answer["usedSegments"], answer["reservedSegments"], answer["remainingSegments"]


def accepted(source_id: UUID, segments: int, *, test: bool) -> RecipientsUpdated:
    """Delivery counts no test as accepted; if it did, it would not matter."""
    return RecipientsUpdated(
        source_id=source_id,
        kind="broadcast",
        changes={"sent": segments},
        accepted_recipients=segments,
        accepted_segments=segments,
        test=test,
    )


async def test_a_test_passes_any_plan_and_leaves_no_trace(
    service: Service, database: Database, bus: BusProbe, caller: Caller, church_id: UUID
) -> None:
    test, live = new_id(), new_id()
    await bus.publish(MessageAccepted(message_id=test, recipient_count=9, segment_bound=5000, test=True), church_id)
    asked = MessageDue(message_id=test, version=1, recipient_count=9, segment_bound=5000, test=True)
    question = await bus.publish(asked, church_id)
    answer = (await bus.next(MessageAuthorized)).data
    assert (answer.message_id, answer.version, answer.segment_bound, answer.test) == (test, 1, 5000, True)
    await bus.publish_envelope(question)
    await bus.publish(accepted(test, 5000, test=True), church_id)
    await bus.publish(MessageCompleted(message_id=test, recipient_count=9, test=True), church_id)

    # What is live, beside it and after it, is reserved and metered as ever.
    await bus.publish(MessageDue(message_id=live, version=1, recipient_count=60, segment_bound=60), church_id)
    answer = (await bus.next(MessageAuthorized)).data
    assert (answer.message_id, answer.test) == (live, False)
    await bus.publish(accepted(live, 25, test=False), church_id)

    async def metered() -> bool:
        return await figures(service, caller, church_id) == (25, 35, 40)

    await wait_until(metered)
    assert await rows(database) == (1, 1)
    assert {each.data.source_id for each in await bus.all(UsageRecorded)} <= {live}


async def test_a_stopped_test_gives_nothing_back(
    service: Service, database: Database, bus: BusProbe, caller: Caller, church_id: UUID
) -> None:
    stopped = BroadcastStopped(
        message_id=new_id(),
        sent_recipients=3,
        sent_segments=3,
        in_flight_recipients=0,
        in_flight_segments=0,
        test=True,
    )
    await bus.publish(stopped, church_id)
    credit = (await bus.next(MessageCredited)).data
    assert (credit.credited_segments, credit.credited_cents, credit.test) == (0, 0, True)
    assert await figures(service, caller, church_id) == (0, 0, 100)
    assert await rows(database) == (0, 0)


async def test_a_test_needs_no_plan_at_all(start_service: StartService, bus: BusProbe) -> None:
    await start_service("billing", build, BillingSettings)
    asked = MessageDue(message_id=new_id(), version=1, recipient_count=9, segment_bound=9, test=True)
    await bus.publish(asked, new_id())
    assert (await bus.next(MessageAuthorized)).data.message_id == asked.message_id
