"""Billing over real queues and tables: trials, authorizations, the ledger."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api import billing
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.billing import MessageAuthorized, MessageCredited, MessageDeclined, SubscriptionChanged
from koinonia.events.delivery import BroadcastStopped, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageAccepted, MessageCompleted, MessageDue
from koinonia.ids import new_id
from koinonia.service import Running
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe, Caller, StartService
from koinonia.trail import TELL, Question
from koinonia_billing import authorizations, usage
from koinonia_billing.app import build
from koinonia_billing.settings import BillingSettings

Service = Running[BillingSettings]


def church(church_id: UUID, version: int = 1, status: Any = "active") -> ChurchChanged:
    return ChurchChanged(church_id=church_id, version=version, name="Grace", timezone="UTC", status=status)


def due(message_id: UUID, bound: int, version: int = 1) -> MessageDue:
    return MessageDue(message_id=message_id, version=version, recipient_count=bound, segment_bound=bound)


def accepted(source_id: UUID, segments: int) -> RecipientsUpdated:
    return RecipientsUpdated(
        source_id=source_id,
        kind="broadcast",
        changes={"sent": segments},
        accepted_recipients=segments,
        accepted_segments=segments,
    )


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service("billing", build, BillingSettings, trial_segments=100)


@pytest.fixture
async def subscribed(service: Service, bus: BusProbe, church_id: UUID) -> Service:
    await bus.publish(church(church_id), church_id)
    await bus.next(SubscriptionChanged)
    return service


async def figures(service: Service, caller: Caller, church_id: UUID) -> tuple[int, int, int]:
    """Used, reserved and remaining segments, as the API tells them."""
    _, answer = await caller(service, billing.GET_USAGE, church_id=church_id)
    return answer["usedSegments"], answer["reservedSegments"], answer["remainingSegments"]


async def test_a_new_church_gets_one_trial_though_it_is_announced_twice(
    service: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    announced = await bus.publish(church(church_id), church_id)
    started = await bus.next(SubscriptionChanged)
    assert (started.data.plan, started.data.status, started.data.included_segments) == ("trial", "trialing", 100)
    await bus.publish_envelope(announced)
    await bus.publish(church(church_id, version=2), church_id)
    await bus.publish(due(new_id(), 5), church_id)
    await bus.next(MessageAuthorized)
    assert await bus.all(SubscriptionChanged) == []
    status, answer = await caller(service, billing.GET_SUBSCRIPTION, church_id=church_id)
    assert (status, answer["plan"]["code"], answer["plan"]["includedSegments"]) == (200, "trial", 100)


async def test_another_church_sees_no_subscription(subscribed: Service, caller: Caller) -> None:
    status, _ = await caller(subscribed, billing.GET_SUBSCRIPTION, church_id=new_id())
    assert status == 404
    status, _ = await caller(subscribed, billing.GET_USAGE, church_id=new_id())
    assert status == 404


async def test_plans_are_listed_cheapest_first(subscribed: Service, caller: Caller, church_id: UUID) -> None:
    _, answer = await caller(subscribed, billing.LIST_PLANS, church_id=church_id)
    assert [plan["code"] for plan in answer["data"]] == ["trial", "starter", "growth"]


async def test_a_broadcast_is_reserved_metered_and_settled(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(MessageAccepted(message_id=message_id, recipient_count=60, segment_bound=60), church_id)
    await bus.publish(due(message_id, 60), church_id)
    authorized = await bus.next(MessageAuthorized)
    assert (authorized.data.message_id, authorized.data.version, authorized.data.segment_bound) == (message_id, 1, 60)
    assert await figures(subscribed, caller, church_id) == (0, 60, 40)
    await bus.publish(accepted(message_id, 25), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (25, 35, 40)))
    await bus.publish(accepted(message_id, 15), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (40, 20, 40)))
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=60), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (40, 0, 60)))
    _, answer = await caller(subscribed, billing.GET_USAGE, church_id=church_id)
    assert (answer["segments"], answer["recipients"], len(answer["days"])) == (40, 40, 1)


async def _reached(service: Service, caller: Caller, church_id: UUID, wanted: tuple[int, int, int]) -> bool:
    return await figures(service, caller, church_id) == wanted


@pytest.mark.asvs("v5.0.0-2.3.2")
async def test_a_broadcast_beyond_the_plan_is_declined_with_what_is_left(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    await bus.publish(due(new_id(), 70), church_id)
    await bus.next(MessageAuthorized)
    await bus.publish(due(new_id(), 31), church_id)
    declined = await bus.next(MessageDeclined)
    assert (declined.data.reason, declined.data.available_segments) == ("plan_limit", 30)
    assert await figures(subscribed, caller, church_id) == (0, 70, 30)


async def test_a_question_asked_twice_reserves_once(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    asked = await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    await bus.publish_envelope(asked)  # the same event again: the inbox
    await bus.publish(due(message_id, 60), church_id)  # the same question in another event: the reservation
    await bus.next(MessageAuthorized)
    assert await figures(subscribed, caller, church_id) == (0, 60, 40)


async def test_a_surplus_replaces_the_first_reservation(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    await bus.publish(due(message_id, 90, version=2), church_id)
    assert (await bus.next(MessageAuthorized)).data.version == 2
    assert await figures(subscribed, caller, church_id) == (0, 90, 10)
    await bus.publish(due(message_id, 60), church_id)  # version 1, late: not answered
    await bus.publish(due(new_id(), 10), church_id)
    await bus.next(MessageAuthorized)
    assert await figures(subscribed, caller, church_id) == (0, 100, 0)


async def test_a_surplus_that_is_declined_leaves_what_was_authorized(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    for _ in range(2):  # asked twice, answered alike
        await bus.publish(due(message_id, 101, version=2), church_id)
        assert (await bus.next(MessageDeclined)).data.version == 2
        assert await figures(subscribed, caller, church_id) == (0, 60, 40)
    await bus.publish(due(new_id(), 41), church_id)
    assert (await bus.next(MessageDeclined)).data.available_segments == 40
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=60), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (0, 0, 100)))


async def test_what_was_declined_stays_declined_when_the_same_is_asked_again(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id, other = new_id(), new_id()
    await bus.publish(due(other, 60), church_id)
    await bus.next(MessageAuthorized)
    await bus.publish(due(message_id, 50), church_id)
    await bus.next(MessageDeclined)
    await bus.publish(MessageCompleted(message_id=other, recipient_count=0), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (0, 0, 100)))
    await bus.publish(due(message_id, 50), church_id)
    await bus.next(MessageDeclined)
    assert await figures(subscribed, caller, church_id) == (0, 0, 100)


async def test_a_question_after_the_message_was_completed_reserves_nothing(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=0), church_id)
    await wait_until(lambda: _status(subscribed.parts.database, church_id, message_id, "settled"))
    await bus.publish(due(message_id, 60), church_id)
    await bus.publish(due(new_id(), 1), church_id)
    await bus.next(MessageAuthorized)
    assert await figures(subscribed, caller, church_id) == (0, 1, 99)


_STATUS = statement("test.status", "SELECT status FROM reservations WHERE message_id = $1")


async def _status(database: Database, church_id: UUID, message_id: UUID, wanted: str) -> bool:
    async with database.tenant(church_id) as tx:
        return bool(await tx.fetch_value(_STATUS, message_id) == wanted)


async def test_a_question_and_a_usage_before_the_church_is_known_wait_for_it(
    service: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    await bus.publish(accepted(message_id, 10), church_id)
    await wait_until(lambda: _parked(service.parts.database, 2))
    await bus.publish(church(church_id), church_id)
    await bus.next(MessageAuthorized)
    await wait_until(lambda: _parked(service.parts.database, 0))
    used, reserved, remaining = await figures(service, caller, church_id)
    # The usage may have been applied before the question: then nothing was held that it could use up.
    assert used == 10
    assert reserved in (50, 60)
    assert remaining == 100 - used - reserved


_PARKED = statement("test.parked", "SELECT count(*) FROM parked")


async def _parked(database: Database, wanted: int) -> bool:
    async with database.across_churches() as tx:
        return bool(await tx.fetch_value(_PARKED) == wanted)


async def test_a_suspended_church_is_declined_and_an_older_state_changes_nothing(
    subscribed: Service, bus: BusProbe, church_id: UUID
) -> None:
    await bus.publish(church(church_id, version=3, status="suspended"), church_id)
    await bus.publish(church(church_id, version=2), church_id)
    await wait_until(lambda: _church_status(subscribed.parts.database, church_id, "suspended"))
    await bus.publish(due(new_id(), 1), church_id)
    assert (await bus.next(MessageDeclined)).data.reason == "suspended"


_CHURCH_STATUS = statement("test.church_status", "SELECT church_status FROM subscriptions")


async def _church_status(database: Database, church_id: UUID, wanted: str) -> bool:
    async with database.tenant(church_id) as tx:
        return bool(await tx.fetch_value(_CHURCH_STATUS) == wanted)


async def test_a_usage_event_that_comes_twice_is_metered_once(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    metered = await bus.publish(accepted(new_id(), 7), church_id)
    for _ in range(3):
        await bus.publish_envelope(metered)
    await bus.publish(accepted(new_id(), 1), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (8, 0, 92)))


@pytest.mark.asvs("v5.0.0-2.3.3")
async def test_metering_killed_before_its_commit_leaves_nothing(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    event = await bus.publish(accepted(new_id(), 7), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (7, 0, 93)))
    other = type(event)(id=new_id(), time=event.time, data=event.data, church_id=church_id)
    with pytest.raises(InterruptedError):
        await _meter_and_die(subscribed.parts.database, other)
    assert await figures(subscribed, caller, church_id) == (7, 0, 93)


async def _meter_and_die(database: Database, event: Envelope[RecipientsUpdated]) -> None:
    async with database.across_churches() as tx:
        await usage.meter(tx, [event])
        raise InterruptedError


def stopped(message_id: UUID, sent: int, in_flight: int) -> BroadcastStopped:
    return BroadcastStopped(
        message_id=message_id,
        sent_recipients=sent,
        sent_segments=sent,
        in_flight_recipients=in_flight,
        in_flight_segments=in_flight,
    )


@pytest.mark.parametrize("metered", ["before", "after"])
async def test_a_stopped_broadcast_gives_back_what_it_cannot_use_however_far_metering_has_come(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller, metered: str
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    if metered == "before":
        await bus.publish(accepted(message_id, 20), church_id)
        await wait_until(lambda: _reached(subscribed, caller, church_id, (20, 40, 40)))
    told = await bus.publish(stopped(message_id, 20, 5), church_id)
    credited = (await bus.next(MessageCredited)).data
    assert (credited.message_id, credited.credited_segments, credited.credited_cents) == (message_id, 35, 0)
    assert sum((await figures(subscribed, caller, church_id))[:2]) == 25
    await bus.publish_envelope(told)  # the same event again: the inbox
    await bus.publish(stopped(message_id, 20, 5), church_id)  # the same in another event: the reservation
    if metered == "after":
        await bus.publish(accepted(message_id, 20), church_id)
    await bus.publish(accepted(message_id, 3), church_id)  # of those in flight
    await wait_until(lambda: _reached(subscribed, caller, church_id, (23, 2, 75)))
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=60), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (23, 0, 77)))
    assert await bus.all(MessageCredited) == []


async def test_a_stop_told_after_the_message_was_completed_is_credited_and_gives_nothing_back_twice(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    await bus.publish(accepted(message_id, 20), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (20, 40, 40)))
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=60), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (20, 0, 80)))
    await bus.publish(stopped(message_id, 20, 0), church_id)
    assert (await bus.next(MessageCredited)).data.credited_segments == 40
    assert await figures(subscribed, caller, church_id) == (20, 0, 80)


@pytest.mark.parametrize("known", ["not", "expected", "declined"])
async def test_a_stopped_broadcast_that_had_reserved_nothing_is_credited_nothing_and_reserves_nothing_later(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller, known: str
) -> None:
    message_id = new_id()
    if known == "expected":
        await bus.publish(MessageAccepted(message_id=message_id, recipient_count=60, segment_bound=60), church_id)
    if known == "declined":
        await bus.publish(due(message_id, 600), church_id)
        await bus.next(MessageDeclined)
    await bus.publish(stopped(message_id, 0, 0), church_id)
    assert (await bus.next(MessageCredited)).data.credited_segments == 0
    await bus.publish(due(message_id, 60, version=2), church_id)
    await bus.publish(due(new_id(), 1), church_id)
    await bus.next(MessageAuthorized)
    assert await figures(subscribed, caller, church_id) == (0, 1, 99)


async def test_a_credit_killed_before_its_commit_leaves_nothing(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    await bus.publish(due(message_id, 60), church_id)
    time = (await bus.next(MessageAuthorized)).time
    told = stopped(message_id, 0, 0)
    with pytest.raises(InterruptedError):
        async with subscribed.parts.database.tenant(church_id) as tx:
            await authorizations.credit(tx, Envelope(id=new_id(), time=time, data=told, church_id=church_id))
            raise InterruptedError
    assert await figures(subscribed, caller, church_id) == (0, 60, 40)
    await bus.publish(told, church_id)
    assert (await bus.next(MessageCredited)).data.credited_segments == 60
    assert await figures(subscribed, caller, church_id) == (0, 0, 100)


async def test_a_batch_of_many_churches_takes_four_statements(
    service: Service, bus: BusProbe, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    churches = [new_id() for _ in range(20)]
    for each in churches:
        await bus.publish(church(each), each)
    for _ in churches:
        await bus.next(SubscriptionChanged)
    envelopes = [await bus.publish(accepted(new_id(), 0), each) for each in churches]
    batch = [
        type(each)(id=new_id(), time=each.time, data=accepted(new_id(), 3), church_id=each.church_id)
        for each in envelopes
    ]
    with count_statements() as counted:
        async with service.parts.database.across_churches() as tx:
            await usage.meter(tx, batch)
    own = {name: count for name, count in counted.by_name.items() if name.split(".")[0] in _TABLES}
    assert sum(own.values()) == 4


_TABLES = ("subscriptions", "reservations", "usage_ledger")


async def test_a_trail_tells_what_was_reserved_and_since_when_it_is_on_the_bill(
    subscribed: Service, bus: BusProbe, church_id: UUID, caller: Caller
) -> None:
    message_id = new_id()
    before = clock.now()
    await bus.publish(due(message_id, 60), church_id)
    await bus.next(MessageAuthorized)
    earlier = await bus.publish(accepted(message_id, 1), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (1, 59, 40)))

    async def told(accepted_at: datetime | None, **fields: Any) -> dict[str, datetime]:
        question = Question(
            recipient_id=new_id(),
            source_id=message_id,
            phone_index=b"i",
            status="sent",
            accepted_at=accepted_at,
            until=clock.now(),
            **{"kind": "broadcast", **fields},
        )
        status, answer = await caller(subscribed, TELL, church_id=church_id, body=question)
        assert status == 200
        return {each["event"]: datetime.fromisoformat(each["at"]) for each in answer["entries"]}

    found = await told(None)
    assert found.keys() == {"authorized"}
    assert before < found["authorized"] < clock.now()
    assert (await told(earlier.time))["metered"] == earlier.time
    not_yet = clock.now() + timedelta(seconds=30)
    assert (await told(not_yet)).keys() == {"authorized"}  # its line has not come
    assert (await told(earlier.time, kind="reply")).keys() == {"metered"}
    await bus.publish(MessageCompleted(message_id=message_id, recipient_count=1), church_id)
    await wait_until(lambda: _reached(subscribed, caller, church_id, (1, 0, 99)))
    assert (await told(None))["authorized"] == found["authorized"]  # settled since, authorized then
