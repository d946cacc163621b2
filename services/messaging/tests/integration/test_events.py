"""Each handler as the bus runs it: applied once, delivered twice, killed before the commit, late."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from koinonia import clock
from koinonia.events import Envelope
from koinonia.events.billing import MessageAuthorized, MessageDeclined
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

INDEX = bytes(16)
NUMBER_ID = new_id()


def church_changed(church: Church, version: int = 1, name: str = "Grace") -> ChurchChanged:
    return ChurchChanged(church_id=church.id, version=version, name=name, timezone="UTC", status="active")


def number_changed(version: int = 1, status: Any = "active") -> NumberChanged:
    return NumberChanged(
        number_id=NUMBER_ID, version=version, phone="+13125550199", kind="long_code", status=status, is_default=True
    )


def stopped(at: datetime) -> SuppressionAdded:
    return SuppressionAdded(phone_index=INDEX, version=1, occurred_at=at, reason="stop")


def started(at: datetime) -> SuppressionRemoved:
    return SuppressionRemoved(phone_index=INDEX, version=1, occurred_at=at, reason="start")


EVENTS: dict[str, Callable[[Church, UUID], Any]] = {
    "church": lambda church, _: church_changed(church, version=2),
    "number": lambda *_: number_changed(),
    "stop": lambda *_: stopped(clock.now()),
    "start": lambda *_: started(clock.now()),
    "authorized": lambda _, message: MessageAuthorized(message_id=message, version=1, segment_bound=5),
    "declined": lambda _, message: MessageDeclined(
        message_id=message, version=1, reason="plan_limit", available_segments=0
    ),
    "progress": lambda _, message: RecipientsUpdated(source_id=message, kind="broadcast", changes={"sent": 1}),
}


@pytest.fixture
async def message_id(church: Church) -> UUID:
    """A message that billing was asked about."""
    await church.add_crowd(2)
    message = await church.send()
    await church.ask(message.id)
    return message.id


def sealed(church: Church, event: Any) -> Envelope[Any]:
    return Envelope(id=new_id(), time=clock.now(), data=event, church_id=church.id)


@pytest.mark.parametrize("kind", EVENTS)
async def test_an_event_is_applied_once_though_killed_and_delivered_twice(
    church: Church, message_id: UUID, kind: str
) -> None:
    received = sealed(church, EVENTS[kind](church, message_id))
    before = await church.state()
    await church.receive(received, killed=True)
    assert await church.state() == before
    await church.receive(received)
    applied = await church.state()
    assert applied != before
    await church.receive(received)
    assert await church.state() == applied


async def test_a_churchs_first_event_makes_its_branch_and_later_ones_do_not(church: Church) -> None:
    first = await church.state()
    assert (first["branches"], first["outbox"]) == (1, 1)
    await church.receive(sealed(church, church_changed(church, 3, "New")))
    newest = await church.state()
    assert (newest["branches"], newest["outbox"], "New" in newest["churches"]) == (1, 1, True)
    await church.receive(sealed(church, church_changed(church, 2, "Old")))
    assert await church.state() == newest


async def test_an_older_state_of_a_number_is_passed_over(church: Church) -> None:
    await church.receive(sealed(church, number_changed(2, "held")))
    newest = await church.state()
    await church.receive(sealed(church, number_changed(1, "active")))
    assert await church.state() == newest


@pytest.mark.parametrize(
    ("first", "second", "suppressed"),
    [
        (stopped(clock.now()), started(clock.now() - timedelta(seconds=1)), True),
        (started(clock.now()), stopped(clock.now() - timedelta(seconds=1)), False),
        (stopped(clock.now()), started(clock.now() + timedelta(seconds=1)), False),
        (started(clock.now()), stopped(clock.now() + timedelta(seconds=1)), True),
    ],
)
async def test_of_stop_and_start_the_later_act_holds(church: Church, first: Any, second: Any, suppressed: bool) -> None:
    for event in (first, second):
        await church.receive(sealed(church, event))
    assert (",t," in (await church.state())["suppressions"]) == suppressed


@pytest.mark.parametrize("order", [(stopped, started), (started, stopped)])
async def test_on_a_tie_the_stop_holds(church: Church, order: Any) -> None:
    at = clock.now()
    for make in order:
        await church.receive(sealed(church, make(at)))
    assert ",t," in (await church.state())["suppressions"]


async def test_an_answer_after_the_cancel_changes_nothing(church: Church, message_id: UUID) -> None:
    await church.cancel(message_id)
    before = await church.state()
    await church.receive(sealed(church, EVENTS["authorized"](church, message_id)))
    await church.receive(sealed(church, EVENTS["declined"](church, message_id)))
    assert await church.state() == before


async def test_a_batch_with_a_repeat_counts_each_report_once(church: Church, message_id: UUID) -> None:
    one, other = (sealed(church, EVENTS["progress"](church, message_id)) for _ in range(2))
    await church.receive(one)
    await church.receive(one, other, other)
    assert (await church.row(message_id))["sent"] == 2
