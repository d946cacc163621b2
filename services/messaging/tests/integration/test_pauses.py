"""Pauses by people and by themselves, and stops: what is told, what rests, what is confirmed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from koinonia import clock
from koinonia.api import churches, messages
from koinonia.errors import Conflict, NotFound
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.events.billing import MessageCredited
from koinonia.events.delivery import BroadcastStopped, RecipientsUpdated
from koinonia.events.messaging import (
    MessageCancelled,
    MessageCompleted,
    MessagePaused,
    MessageResumed,
    SendingPaused,
    SendingResumed,
)
from koinonia.ids import new_id
from koinonia_messaging import pauses, progress
from koinonia_messaging.app import build
from koinonia_messaging.domain.audience import Page
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import broadcasts as broadcast_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.api.messages import Message
    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Coroutine[Any, Any, tuple[int, Any]]]

KEY = {"Idempotency-Key": "k"}


async def pause(church: Church, message_id: UUID) -> Message:
    async with church.database.tenant(church.id) as tx:
        return await pauses.pause(tx, church.actor, message_id)


async def resume(church: Church, message_id: UUID) -> Message:
    async with church.database.tenant(church.id) as tx:
        return await pauses.resume(tx, church.actor, message_id)


async def stop(church: Church) -> UUID:
    async with church.database.tenant(church.id) as tx:
        return await pauses.stop(tx, church.actor)


async def report(church: Church, message_id: UUID, changes: dict[str, int], **errors: int) -> None:
    codes = {name.removeprefix("code"): count for name, count in errors.items()}
    update = RecipientsUpdated(source_id=message_id, kind="broadcast", changes=changes, errors=codes)  # type: ignore[arg-type]
    async with church.database.across_churches() as tx:
        await progress.apply(tx, [sealed(church, update)])


def sealed(church: Church, event: Any) -> Envelope[Any]:
    return Envelope(id=new_id(), time=clock.now(), data=event, church_id=church.id)


async def test_a_paused_message_is_streamed_no_further_until_it_is_resumed(church: Church) -> None:
    await church.add_crowd(6)
    message_id = await church.dispatch()
    await church.stream(message_id, 2)
    shown = await pause(church, message_id)
    assert (shown.status, shown.pause_reason, shown.paused_at is not None) == ("paused", None, True)
    assert await pause(church, message_id) == shown
    assert not await church.stream(message_id, 2)
    assert await church.schedule().streaming_round() == 0
    assert (await resume(church, message_id)).status == "sending"
    assert (await resume(church, message_id)).paused_at is None
    await church.stream_all(message_id, 2)
    assert len(await church.recipients()) == 6
    assert [each.version for each in await church.published(MessagePaused)] == [1]
    assert [each.version for each in await church.published(MessageResumed)] == [2]


async def test_a_pause_between_reading_a_page_and_its_commit_wins(church: Church) -> None:
    await church.add_crowd(4)
    message_id = await church.dispatch()
    async with church.database.tenant(church.id) as tx:
        found = await broadcast_store.find_streaming(tx, message_id)
        assert found is not None
        await pause(church, message_id)
        assert not await broadcast_store.advance(tx, found, Page((), 0, b""), is_last=False)
    assert await church.recipients() == []


@pytest.mark.parametrize("stage", ["scheduled", "accepted", "asked"])
async def test_a_message_that_is_not_sent_yet_can_rest_too_and_its_answer_is_not_lost(
    church: Church, stage: str
) -> None:
    await church.add_crowd(2)
    scheduled_at = clock.now() + timedelta(hours=1) if stage == "scheduled" else None
    message = await church.send(scheduled_at=scheduled_at)
    if stage == "asked":
        await church.ask(message.id)
    assert (await pause(church, message.id)).status == "paused"
    with clock.shifted(7200):
        assert await church.schedule().due_round() == 0
        if stage == "asked":
            assert await church.authorize(message.id)
        await resume(church, message.id)
        if stage != "asked":
            assert await church.ask(message.id)
            assert await church.authorize(message.id)
        await church.stream_all(message.id)
    assert len(await church.recipients()) == 2


async def test_what_is_over_cannot_be_paused_and_anothers_is_not_there(
    church: Church, new_church: Callable[[], Awaitable[Church]]
) -> None:
    await church.add_crowd(1)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await church.report(message_id, {"queued": 1}, {"queued": -1, "delivered": 1})
    for act in (pause, resume):
        with pytest.raises(Conflict):
            await act(church, message_id)
        with pytest.raises(NotFound):
            await act(await new_church(), message_id)


async def test_a_paused_message_whose_rows_are_all_closed_is_completed(church: Church) -> None:
    await church.add_crowd(2)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await pause(church, message_id)
    await church.report(message_id, {"queued": 2}, {"queued": -2, "delivered": 1, "expired": 1})
    shown = await church.message(message_id)
    assert (shown.status, shown.paused_at) == ("completed", None)
    assert len(await church.published(MessageCompleted)) == 1


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"queued": -100, "sent": 70, "failed": 30}, "40310", "30 of the last 100 texts were refused by the carrier."),
        ({"queued": -100, "delivered": 65, "undelivered": 35}, "40008", "35 of the last 100 texts could not be deliv"),
    ],
)
async def test_a_broadcast_of_which_too_many_fail_pauses_itself_and_says_why(
    church: Church, changes: dict[str, int], code: str, said: str
) -> None:
    await church.add_crowd(200)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await report(church, message_id, {"queued": 200})
    await report(church, message_id, changes, **{f"code{code}": 29, "code40012": 1})
    shown = await church.message(message_id)
    assert shown.status == "paused"
    assert shown.pause_reason is not None
    assert shown.pause_reason.startswith(said)
    assert f"(code {code})" in shown.pause_reason
    (paused,) = await church.published(MessagePaused)
    assert (paused.message_id, paused.version, paused.reason) == (message_id, 1, shown.pause_reason)
    # Resumed, it is judged anew by what comes from then on.
    await resume(church, message_id)
    await report(church, message_id, {"queued": -50, "sent": 25, "failed": 25}, code40310=25)
    assert (await church.message(message_id)).status == "sending"


async def test_few_failures_or_the_last_ones_pause_nothing(church: Church) -> None:
    await church.add_crowd(200)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await report(church, message_id, {"queued": 200})
    await report(church, message_id, {"queued": -100, "sent": 71, "failed": 29}, code40310=29)
    await report(church, message_id, {"queued": -100, "sent": 50, "failed": 50}, code40310=50)  # nothing is left
    shown = await church.message(message_id)
    assert shown.status == "handed_over"
    assert await church.published(MessagePaused) == []


async def test_a_report_that_pauses_is_counted_once_though_killed_and_delivered_twice(church: Church) -> None:
    await church.add_crowd(200)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await report(church, message_id, {"queued": 200})
    changes: Any = {"queued": -100, "sent": 50, "failed": 50}
    update = RecipientsUpdated(source_id=message_id, kind="broadcast", changes=changes, errors={"40310": 50})
    received = sealed(church, update)
    await church.receive(received, killed=True)
    assert (await church.message(message_id)).status == "sending"
    for _ in range(2):
        await church.receive(received)
    assert (await church.message(message_id)).counts.failed == 50
    assert len(await church.published(MessagePaused)) == 1


async def test_judging_takes_no_statement_until_enough_was_said(
    church: Church, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    await church.add_crowd(2)
    message_id = await church.dispatch()
    with count_statements() as counted:
        await report(church, message_id, {"queued": 2})
    assert counted.by_name == {"messages.count_recipients": 1, "messages.finish": 1}


async def test_another_churchs_message_is_neither_counted_nor_paused(
    new_church: Callable[[], Awaitable[Church]],
) -> None:
    ours, theirs = await new_church(), await new_church()
    await ours.add_crowd(200)
    message_id = await ours.dispatch()
    await report(theirs, message_id, {"queued": -200, "failed": 200}, code40310=200)
    assert (await ours.message(message_id)).status == "sending"
    assert await theirs.published(MessagePaused) == []


def stopped(message_id: UUID, sent: int = 1, in_flight: int = 1) -> BroadcastStopped:
    return BroadcastStopped(
        message_id=message_id,
        sent_recipients=sent,
        sent_segments=sent,
        in_flight_recipients=in_flight,
        in_flight_segments=in_flight,
    )


def credited(message_id: UUID, segments: int = 5) -> MessageCredited:
    return MessageCredited(message_id=message_id, credited_segments=segments, credited_cents=2 * segments)


@pytest.mark.parametrize("first", ["stopped", "credited"])
async def test_a_cancelled_message_shows_what_was_confirmed_in_any_order_and_once(church: Church, first: str) -> None:
    await church.add_crowd(6)
    message_id = await church.dispatch()
    await church.stream(message_id, 4)
    await church.report(message_id, {"queued": 4})
    before = (await church.cancel(message_id)).stopped
    assert before is not None
    assert (before.sent, before.will_not_go, before.in_flight, before.final) == (0, 2, 4, False)
    events = [sealed(church, stopped(message_id)), sealed(church, credited(message_id))]
    for event in events if first == "stopped" else reversed(events):
        await church.receive(event, killed=True)
        for _ in range(2):
            await church.receive(event)
    await church.receive(sealed(church, stopped(message_id, 3, 3)))  # another word: the first holds
    await church.receive(sealed(church, credited(message_id, 9)))
    after = (await church.message(message_id)).stopped
    assert after == messages.StopFigures(
        sent=1, will_not_go=4, in_flight=1, credited_segments=5, credited_cents=10, final=True
    )
    # Those in flight end afterwards: the counters tell, the figures stay.
    await church.report(message_id, {"queued": -4, "sent": 2, "cancelled": 2}, {"sent": -2, "delivered": 2})
    shown = await church.message(message_id)
    assert (shown.stopped, shown.counts.delivered, shown.completed_at is not None) == (after, 2, True)


async def test_what_is_confirmed_of_a_message_that_was_not_cancelled_changes_nothing(church: Church) -> None:
    await church.add_crowd(2)
    message_id = await church.dispatch()
    before = await church.state()
    for event in (stopped(message_id), credited(message_id)):
        await church.receive(sealed(church, event))
    assert await church.state() == before


async def test_a_stop_cancels_all_that_is_not_finished_and_pauses_the_church(church: Church) -> None:
    await church.add_crowd(4)
    done = await church.dispatch("done")
    await church.stream_all(done)
    await church.report(done, {"queued": 4}, {"queued": -4, "delivered": 4})
    resting = await church.dispatch("resting")
    await pause(church, resting)
    running = await church.dispatch("running")
    await church.stream(running, 2)
    later = await church.send("later", scheduled_at=clock.now() + timedelta(days=1))
    stop_id = await stop(church)
    assert {each.message_id for each in await church.published(MessageCancelled)} == {resting, running, later.id}
    assert (await church.message(done)).status == "completed"
    assert [each.version for each in await church.published(SendingPaused)] == [1]
    assert await stop(church) == stop_id
    assert len(await church.published(MessageCancelled)) == 3
    # What was accepted since is stopped with the rest.
    newer = await church.send("newer")
    assert await stop(church) == stop_id
    async with church.database.tenant(church.id) as tx:
        shown = await pauses.show_stop(tx, stop_id)
    assert (shown.messages, shown.sent, shown.will_not_go, shown.in_flight, shown.final) == (4, 0, 14, 2, False)
    for message_id in (resting, running):
        await church.receive(sealed(church, stopped(message_id, 1 if message_id == running else 0, 0)))
        await church.receive(sealed(church, credited(message_id)))
    async with church.database.tenant(church.id) as tx:
        shown = await pauses.show_stop(tx, stop_id)
    assert (shown.sent, shown.will_not_go, shown.in_flight, shown.credited_segments) == (1, 15, 0, 10)
    assert shown.final
    async with church.database.tenant(church.id) as tx:
        assert not (await pauses.resume_sending(tx, church.actor, church.id)).paused
    assert [each.version for each in await church.published(SendingResumed)] == [2]
    assert await stop(church) != stop_id
    assert (await church.message(newer.id)).status == "cancelled"


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings, brake_sample=10, brake_share=0.5)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(endpoint: Any, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


async def confirm(bus: BusProbe, church: Church, *words: Any) -> None:
    """Delivery's and billing's words."""
    for each in words:
        await bus.publish(each, church.id)


async def test_a_cancel_answers_when_all_is_confirmed(church: Church, ask: Ask, bus: BusProbe) -> None:
    await church.add_crowd(6)
    message_id = await church.dispatch()
    await church.stream(message_id, 4)
    asking = asyncio.create_task(ask(messages.CANCEL, ids={"id": message_id}, headers=KEY))
    await bus.next(MessageCancelled)
    assert not asking.done()
    await confirm(bus, church, stopped(message_id, 3, 1), credited(message_id, 2))
    status, answer = await asking
    assert (status, answer["final"], answer["sent"], answer["willNotGo"], answer["inFlight"]) == (200, True, 3, 2, 1)
    assert (answer["creditedSegments"], answer["creditedCents"]) == (2, 4)
    assert answer["message"]["stopped"] == {name: answer[name] for name in answer["message"]["stopped"]}
    again = await ask(messages.CANCEL, ids={"id": message_id}, headers=KEY)
    assert again == (200, answer)
    assert await ask(messages.CANCEL, ids={"id": message_id}) == (200, answer)


async def test_a_stop_answers_what_is_known_after_a_while_and_the_rest_when_it_is_asked_again(
    church: Church, ask: Ask, bus: BusProbe
) -> None:
    await church.add_crowd(6)
    message_id = await church.dispatch()
    await church.stream(message_id, 4)
    status, answer = await ask(messages.STOP, headers=KEY, role="sender")
    assert (status, answer["final"], answer["messages"], answer["inFlight"]) == (202, False, 1, 4)
    assert (await bus.next(SendingPaused)).data.version == 1
    await confirm(bus, church, stopped(message_id, 0, 0), credited(message_id, 6))
    status, answer = await ask(messages.STOP, headers=KEY, role="sender")
    assert (status, answer["final"], answer["willNotGo"], answer["creditedSegments"]) == (200, True, 6, 6)
    _, shown = await ask(messages.GET, ids={"id": message_id})
    assert shown["stopped"]["final"]
    assert (await ask(messages.STOP, role="viewer"))[0] == 403
    (acted,) = [each.data for each in await bus.all(ActionRecorded) if each.data.action == "sending.stopped"]
    assert acted.details == {"messages": "1"}


async def test_a_person_pauses_and_resumes_a_message_and_the_church(church: Church, ask: Ask, bus: BusProbe) -> None:
    await church.add_crowd(2)
    later = clock.now() + timedelta(days=1)
    message = await church.send(scheduled_at=later)
    ids = {"id": message.id}
    for headers in (KEY, KEY, {}):
        status, answer = await ask(messages.PAUSE, ids=ids, headers=headers)
        assert (status, answer["status"]) == (200, "paused")
    _, listed = await ask(messages.LIST, query={"status": "paused"})
    assert [each["id"] for each in listed["data"]] == [str(message.id)]
    assert (await ask(messages.LIST, query={"status": "scheduled"}))[1]["data"] == []
    status, answer = await ask(messages.RESUME, ids=ids)
    assert (status, answer["status"]) == (200, "scheduled")
    assert (await ask(messages.PAUSE, ids=ids, role="viewer"))[0] == 403

    own = {"id": church.id}
    assert (await ask(churches.GET_SENDING, ids=own))[1] == {"paused": False, "pausedAt": None, "version": 0}
    for _ in range(2):
        status, answer = await ask(churches.PAUSE_SENDING, ids=own, role="admin")
        assert (status, answer["paused"], answer["version"]) == (200, True, 1)
    assert (await ask(churches.RESUME_SENDING, ids=own, role="sender"))[0] == 403
    assert (await ask(churches.RESUME_SENDING, ids=own))[1] == {"paused": False, "pausedAt": None, "version": 2}
    for endpoint in (churches.GET_SENDING, churches.PAUSE_SENDING, churches.RESUME_SENDING):
        assert (await ask(endpoint, ids={"id": new_id()}))[0] == 404


async def test_a_service_takes_the_brakes_settings(church: Church, ask: Ask, bus: BusProbe) -> None:
    await church.add_crowd(30)
    message_id = await church.dispatch()
    changes: Any = {"queued": 10, "sent": 5, "failed": 5}
    await bus.publish(RecipientsUpdated(source_id=message_id, kind="broadcast", changes=changes), church.id)
    await bus.next(MessagePaused)
    assert (await ask(messages.GET, ids={"id": message_id}))[1]["pauseReason"] is not None
