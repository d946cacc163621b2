"""Messages that wait: for an undo, for a second admin, for an upgrade of the plan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from koinonia import clock
from koinonia.api.groups import GroupRequest
from koinonia.api.messages import Exclude, MessagePatch, SendRequest
from koinonia.errors import Conflict, Forbidden, NotFound, ValidationFailed
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import MessageAccepted, MessageCancelled, MessageCompleted, MessageHeld
from koinonia.ids import new_id
from koinonia_messaging import approvals, groups, messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.api.messages import Message
    from koinonia.security import Identity


def somebody_else(church: Church) -> Identity:
    return msgspec.structs.replace(church.actor, principal_id=new_id())


async def approve(church: Church, message_id: UUID, by: Identity | None = None, *, at_once: bool = False) -> Message:
    async with church.database.tenant(church.id) as tx:
        return await approvals.approve(tx, by or somebody_else(church), message_id, at_once=at_once)


async def reject(church: Church, message_id: UUID, reason: str = "Wrong date") -> Message:
    async with church.database.tenant(church.id) as tx:
        return await approvals.reject(tx, somebody_else(church), message_id, reason)


async def send_again(church: Church, message_id: UUID) -> Message:
    async with church.database.tenant(church.id) as tx:
        return await approvals.send_again(tx, church.actor, message_id)


async def acts(church: Church) -> list[str]:
    return [act.action for act in await church.published(ActionRecorded)]


async def test_a_message_is_not_due_before_its_undo_window_ends(church: Church) -> None:
    await church.add_crowd(2)
    await church.set_rules(undo_seconds=30)
    now = clock.now()
    with clock.frozen(now):
        message = await church.send()
        soon = await church.send(scheduled_at=now + timedelta(seconds=10))
        late = await church.send(scheduled_at=now + timedelta(seconds=60))
    assert {each.undo_until for each in (message, soon, late)} == {now + timedelta(seconds=30)}
    with clock.frozen(now + timedelta(seconds=29)):
        assert not any([await church.ask(each.id) for each in (message, soon, late)])
        cancelled = await church.cancel(message.id)
    assert cancelled.stopped is not None
    assert (cancelled.stopped.sent, cancelled.stopped.credited_segments, cancelled.stopped.final) == (0, 0, True)
    with clock.frozen(now + timedelta(seconds=30)):
        assert [await church.ask(each.id) for each in (message, soon, late)] == [False, True, False]
    assert await church.questions() == [(1, 2, 2)]


async def test_a_message_to_many_waits_for_somebody_else(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2, undo_seconds=30)
    message = await church.send()
    assert (message.status, message.requested_by) == ("awaiting_approval", church.actor.principal_id)
    assert len(await church.published(MessageAccepted)) == 1
    with pytest.raises(Forbidden):
        await approve(church, message.id, church.actor)
    with pytest.raises(NotFound):
        await approve(church, new_id())
    with clock.frozen(clock.now() + timedelta(hours=1)):
        assert not await church.ask(message.id)
        await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
        approver = somebody_else(church)
        approved = await approve(church, message.id, approver)
        assert (approved.status, approved.total_recipients, approved.approved_by) == (
            "accepted",
            4,
            approver.principal_id,
        )
        assert approved.undo_until == clock.now() + timedelta(seconds=30)
        assert await approve(church, message.id) == approved
        assert not await church.ask(message.id)
    with pytest.raises(Conflict):
        await reject(church, message.id)
    with clock.frozen(clock.now() + timedelta(hours=2)):
        assert await church.ask(message.id)
    assert await church.questions() == [(1, 4, 4)]
    assert [act for act in await acts(church) if act.startswith("message.")] == ["message.accepted", "message.approved"]


async def test_whenever_a_message_comes_to_wait_for_somebody_else_it_is_told(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)

    async def told() -> list[tuple[UUID, UUID | None, int]]:
        found = await church.published(MessageHeld)
        return [(each.message_id, each.requested_by, each.recipient_count) for each in found]

    asker = church.actor.principal_id
    now = clock.now()
    at_once = await church.send()
    assert await told() == [(at_once.id, asker, 3)]
    await approve(church, at_once.id)
    later = await church.send(kind="all", scheduled_at=now + timedelta(hours=1))
    await approve(church, later.id)
    assert len(await told()) == 2
    with clock.frozen(now + timedelta(minutes=30)):
        async with church.database.tenant(church.id) as tx:
            await messages.change(tx, church.actor, later.id, MessagePatch(content="Another text"))
    assert await told() == [(at_once.id, asker, 3), (later.id, asker, 3), (later.id, asker, 3)]
    await church.set_rules(version=3, approval_above=10)
    few = await church.send(scheduled_at=now + timedelta(hours=1))
    await church.set_rules(version=4, approval_above=2)
    with clock.frozen(now + timedelta(hours=2)):
        await church.ask(few.id)
        assert not await church.ask(few.id)
    assert (await told())[3:] == [(few.id, asker, 3)]


async def test_a_rejected_message_is_cancelled_and_says_why(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)
    message = await church.send()
    rejected = await reject(church, message.id)
    assert (rejected.status, rejected.rejection_reason, rejected.total_recipients) == ("cancelled", "Wrong date", 0)
    assert await reject(church, message.id, "Another") == rejected
    with pytest.raises(Conflict):
        await approve(church, message.id)
    assert [len(await church.published(kind)) for kind in (MessageCancelled, MessageCompleted)] == [1, 1]
    assert (await acts(church))[-1] == "message.rejected"
    waiting = await church.send()
    assert (await church.cancel(waiting.id)).rejection_reason is None


async def test_who_schedules_for_few_and_adds_many_waits_too(church: Church) -> None:
    await church.add_crowd(2)
    await church.set_rules(approval_above=2)
    at = clock.now() + timedelta(hours=1)
    message = await church.send(scheduled_at=at)
    assert message.status == "scheduled"
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    with clock.frozen(at):
        assert await church.ask(message.id)
        assert await church.questions() == []
        assert (await church.message(message.id)).status == "awaiting_approval"
        with pytest.raises(Conflict, match="time has passed"):
            await approve(church, message.id)
        assert (await approve(church, message.id, at_once=True)).status == "accepted"
        await church.add_members([{"firstName": "Later", "phone": "+14155550002"}])
        assert await church.ask(message.id)
        held = await church.message(message.id)
        assert (held.status, held.approved_by) == ("awaiting_approval", None)  # for three it was approved, not for four
        await approve(church, message.id, at_once=True)
        assert await church.ask(message.id)
    assert await church.questions() == [(1, 4, 4)]


async def test_an_approval_holds_for_a_tenth_more(church: Church) -> None:
    await church.add_crowd(10)
    await church.set_rules(approval_above=2)
    at = clock.now() + timedelta(hours=1)
    message = await church.send(scheduled_at=at)
    await approve(church, message.id)
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    with clock.frozen(at):
        assert await church.ask(message.id)
    assert await church.questions() == [(1, 11, 11)]


async def test_a_run_that_has_waited_for_a_day_is_approved_knowingly(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)
    request = SendRequest(content="Sunday", target_type="all")
    async with church.database.tenant(church.id) as tx:
        run_id = await messages.accept_run(tx, request, new_id(), church.actor.principal_id)
    with clock.shifted(24 * 3600):
        with pytest.raises(Conflict, match="time has passed"):
            await approve(church, run_id)
        assert (await approve(church, run_id, at_once=True)).status == "accepted"


async def test_nothing_goes_that_could_only_go_too_late(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(undo_seconds=30)
    with pytest.raises(ValidationFailed) as caught:
        await church.send(do_not_send_after=clock.now() + timedelta(seconds=20))
    assert [each.field for each in caught.value.details] == ["doNotSendAfter"]
    latest = clock.now() + timedelta(hours=1)
    declined = await church.send(do_not_send_after=latest)
    await church.set_rules(3, undo_seconds=30, approval_above=2)
    waiting = await church.send(do_not_send_after=latest)
    with clock.shifted(3590):
        await church.ask(declined.id)
        assert (await church.message(declined.id)).status == "awaiting_approval"
        for message in (waiting, declined):
            with pytest.raises(Conflict, match="too late"):
                await approve(church, message.id, at_once=True)


async def test_a_scheduled_message_that_is_approved_in_time_waits_for_it(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)
    at = clock.now() + timedelta(hours=1)
    message = await church.send(scheduled_at=at)
    assert (await approve(church, message.id)).status == "scheduled"
    assert not await church.ask(message.id)
    with clock.frozen(at):
        assert await church.ask(message.id)


async def test_a_test_and_a_message_to_few_wait_for_nobody(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)
    await church.stop("+13125550001")
    assert (await church.send()).status == "accepted"  # one of the three is not texted
    await church.set_rules(version=3, approval_above=0)
    church.actor = msgspec.structs.replace(church.actor, principal_kind="api_key", test=True)
    assert (await church.send()).status == "accepted"


async def test_a_declined_message_says_why_and_is_sent_again(
    church: Church, new_church: Callable[[], Awaitable[Church]]
) -> None:
    await church.add_crowd(2)
    message = await church.send()
    with pytest.raises(Conflict):
        await send_again(church, message.id)
    await church.ask(message.id)
    await church.decline(message.id)
    assert (await church.message(message.id)).decline_reason == "plan_limit"
    with pytest.raises(NotFound):
        await send_again(await new_church(), message.id)
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    twin = await church.send()
    with pytest.raises(Conflict, match=str(twin.id)):
        await send_again(church, message.id)
    await church.cancel(twin.id)
    again = await send_again(church, message.id)
    assert (again.status, again.decline_reason, again.total_recipients) == ("accepted", None, 3)
    await church.decline(message.id)  # late, and once more
    assert await church.ask(message.id)
    assert not await church.authorize(message.id, version=1)
    assert await church.authorize(message.id, version=2)
    await church.stream_all(message.id)
    assert len(await church.recipients()) == 3
    assert [version for version, *_ in await church.questions()] == [1, 2]


async def test_a_declined_message_whose_excluded_group_is_deleted_is_not_sent_again(church: Church) -> None:
    await church.add_crowd(2)
    async with church.database.tenant(church.id) as tx:
        group = await groups.create(tx, church.actor, GroupRequest(name="Council"))
    message = await church.send(exclude=Exclude(group_ids=[group.id]))
    assert await church.ask(message.id)
    await church.decline(message.id)
    async with church.database.tenant(church.id) as tx:
        await groups.delete(tx, church.actor, group.id)
    with pytest.raises(Conflict):
        await send_again(church, message.id)


async def test_an_approved_message_that_is_changed_waits_again_and_not_for_who_changed_it(church: Church) -> None:
    await church.add_crowd(3)
    await church.set_rules(approval_above=2)
    message = await church.send(scheduled_at=clock.now() + timedelta(hours=1))
    assert (await approve(church, message.id)).status == "scheduled"
    editor = somebody_else(church)
    async with church.database.tenant(church.id) as tx:
        changed = await messages.change(tx, editor, message.id, MessagePatch(content="Something else"))
    assert (changed.status, changed.approved_by, changed.requested_by) == (
        "awaiting_approval",
        None,
        editor.principal_id,
    )
    with pytest.raises(Forbidden):
        await approve(church, message.id, editor)
    assert (await approve(church, message.id)).status == "scheduled"


async def test_a_message_that_names_no_number_goes_from_the_churchs_own_choice(church: Church) -> None:
    await church.add_crowd(1)
    chosen, other = await church.add_number(), await church.add_number()
    await church.set_rules(default_number_id=chosen)
    assert (await church.send()).number_id == chosen
    assert (await church.send(number_id=other)).number_id == other
    await church.set_rules(3, default_number_id=new_id())
    assert (await church.send()).number_id is None
