"""Quiet hours as messages tell them, and urgent messages, which wait for none."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from services.messaging.tests.integration.conftest import Church

from koinonia import clock
from koinonia.api.messages import MessagePatch, MessagePreview, SendRequest, Urgent
from koinonia.errors import Forbidden, ValidationFailed
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import MessageResumed, RecipientsResolved
from koinonia.security import Identity
from koinonia_messaging import approvals, messages, pauses, resending
from koinonia_messaging.domain.plans import PACE, Tariff

TARIFF = Tariff(segment_price_cents=2.0, rates={"long_code": 40.0})
EVENING, MORNING = datetime(2026, 12, 1, 3, tzinfo=UTC), datetime(2026, 12, 1, 14, tzinfo=UTC)  # of Chicago's night
NIGHT = EVENING + timedelta(hours=3)
STORM = Urgent(reason="The storm: the service is called off.")


@pytest.fixture
async def quiet(church: Church) -> Church:
    """A church that sends nothing from 21 to 8 o'clock."""
    await church.add_crowd(2)
    await church.add_number()
    await church.set_rules(quiet_from="21:00", quiet_until="08:00")
    return church


def sender_of(church: Church) -> Identity:
    return msgspec.structs.replace(church.actor, role="sender")


async def preview(church: Church, actor: Identity | None = None, **values: Any) -> MessagePreview:
    request = SendRequest(content="Hello", target_type="all", **values)
    async with church.database.tenant(church.id) as tx:
        return await messages.preview(tx, actor or church.actor, request, TARIFF)


async def test_the_plan_tells_until_when_it_would_wait_and_counts_it(quiet: Church) -> None:
    sending = timedelta(seconds=2 / (40.0 * PACE))
    with clock.frozen(NIGHT):
        plan = await preview(quiet)
        urgent = await preview(quiet, urgent=STORM)
        test = await preview(quiet, msgspec.structs.replace(quiet.actor, test=True))
        late = await preview(quiet, do_not_send_after=MORNING)
        in_time = await preview(quiet, do_not_send_after=MORNING + timedelta(seconds=1))
        tomorrow = await preview(quiet, scheduled_at=MORNING + timedelta(hours=1))
        next_night = await preview(quiet, scheduled_at=EVENING + timedelta(days=1))
    assert (plan.waits_until, plan.finishes_at) == (MORNING, MORNING + sending)
    assert "quiet_hours" in {each.code for each in plan.warnings}
    for each in (urgent, test):
        assert (each.waits_until, each.finishes_at) == (None, NIGHT + sending)
        assert "quiet_hours" not in {each.code for each in each.warnings}
    assert "too_late" in {each.code for each in late.warnings}
    assert "too_late" not in {each.code for each in in_time.warnings}
    assert (tomorrow.waits_until, tomorrow.finishes_at) == (None, MORNING + timedelta(hours=1) + sending)
    assert next_night.waits_until == MORNING + timedelta(days=1)


async def test_the_plan_counts_the_undo_window_before_the_hours(quiet: Church) -> None:
    await quiet.set_rules(3, quiet_from="21:00", quiet_until="08:00", undo_seconds=60)
    with clock.frozen(EVENING - timedelta(seconds=30)):
        assert (await preview(quiet)).waits_until == MORNING
    with clock.frozen(MORNING - timedelta(seconds=30)):
        assert (await preview(quiet)).waits_until is None


async def test_a_message_tells_until_when_it_waits_while_it_does(quiet: Church) -> None:
    with clock.frozen(NIGHT):
        sent = await quiet.send()
        later = await quiet.send(scheduled_at=NIGHT + timedelta(hours=1))
        urgent = await quiet.send(urgent=STORM)
        assert (sent.waiting_until, later.waiting_until, urgent.waiting_until) == (MORNING, None, None)
        await quiet.ask(sent.id)
        await quiet.authorize(sent.id)
        await quiet.stream_all(sent.id)
        assert (await quiet.message(sent.id)).waiting_until == MORNING
        await quiet.report(sent.id, {"queued": 2})
        assert (await quiet.message(sent.id)).waiting_until == MORNING
        await quiet.set_rules(3)
        assert (await quiet.message(sent.id)).waiting_until is None
        await quiet.set_rules(4, quiet_from="21:00", quiet_until="08:00")
    with clock.frozen(MORNING):
        assert (await quiet.message(sent.id)).waiting_until is None
        await quiet.report(sent.id, {"queued": -2, "sent": 2})
    with clock.frozen(NIGHT):
        assert (await quiet.message(sent.id)).waiting_until is None


async def test_an_urgent_message_says_so_to_delivery_to_people_and_to_the_audit_log(quiet: Church) -> None:
    ordinary = await quiet.dispatch()
    urgent = await quiet.dispatch(urgent=STORM)
    await quiet.stream_all(ordinary)
    await quiet.stream_all(urgent)
    told = {each.message_id: each.urgent for each in await quiet.published(RecipientsResolved)}
    assert told == {ordinary: False, urgent: True}
    assert (await quiet.message(urgent)).urgent == STORM
    reasons = [each.details.get("urgentReason") for each in await quiet.published(ActionRecorded)]
    assert [each for each in reasons if each is not None] == [STORM.reason]


async def test_an_urgent_message_waits_for_approval_and_its_undo_window(quiet: Church) -> None:
    await quiet.set_rules(3, quiet_from="21:00", quiet_until="08:00", undo_seconds=60, approval_above=1)
    with clock.frozen(NIGHT):
        message = await quiet.send(urgent=STORM)
        assert message.status == "awaiting_approval"
        other = msgspec.structs.replace(quiet.actor, principal_id=quiet.id)
        async with quiet.database.tenant(quiet.id) as tx:
            approved = await approvals.approve(tx, other, message.id, at_once=False)
        assert (approved.undo_until, approved.urgent) == (NIGHT + timedelta(seconds=60), STORM)
        assert not await quiet.ask(message.id)


async def test_a_sender_sends_and_plans_nothing_urgent(quiet: Church) -> None:
    request = SendRequest(content="Hello", target_type="all", urgent=STORM)
    async with quiet.database.tenant(quiet.id) as tx:
        with pytest.raises(Forbidden):
            await messages.accept(tx, sender_of(quiet), request)
    with pytest.raises(Forbidden):
        await preview(quiet, sender_of(quiet), urgent=STORM)
    key = msgspec.structs.replace(quiet.actor, principal_kind="api_key", role="admin")
    async with quiet.database.tenant(quiet.id) as tx:
        assert (await messages.accept(tx, key, request)).urgent == STORM


async def test_a_scheduled_message_becomes_urgent_by_an_admin_alone(quiet: Church) -> None:
    at = clock.now() + timedelta(days=1)
    message_id = (await quiet.send(scheduled_at=at)).id

    async def patch(actor: Identity, **values: Any) -> Urgent | None:
        async with quiet.database.tenant(quiet.id) as tx:
            return (await messages.change(tx, actor, message_id, MessagePatch(**values))).urgent

    with pytest.raises(Forbidden):
        await patch(sender_of(quiet), urgent=STORM)
    assert await patch(quiet.actor, urgent=STORM) == STORM
    assert await patch(quiet.actor, tags=["kept"]) == STORM
    with pytest.raises(Forbidden):  # else a sender's words would go at night
        await patch(sender_of(quiet), content="Mine")
    assert await patch(sender_of(quiet), content="Mine", urgent=None) is None
    reasons = [each.details.get("urgentReason") for each in await quiet.published(ActionRecorded)]
    assert [each for each in reasons if each is not None] == [STORM.reason, STORM.reason]


async def test_a_declined_urgent_message_is_sent_again_by_an_admin_alone(quiet: Church) -> None:
    message = await quiet.send(urgent=STORM)
    await quiet.ask(message.id)
    await quiet.decline(message.id)
    async with quiet.database.tenant(quiet.id) as tx:
        with pytest.raises(Forbidden):
            await approvals.send_again(tx, sender_of(quiet), message.id)
        assert (await approvals.send_again(tx, quiet.actor, message.id)).urgent == STORM


async def test_a_paused_urgent_message_is_resumed_by_an_admin_alone(quiet: Church) -> None:
    """Else a sender chooses by a pause in which night it goes."""
    message_id = await quiet.dispatch(urgent=STORM)
    async with quiet.database.tenant(quiet.id) as tx:
        assert (await pauses.pause(tx, sender_of(quiet), message_id)).status == "paused"
    with pytest.raises(Forbidden):
        async with quiet.database.tenant(quiet.id) as tx:
            await pauses.resume(tx, sender_of(quiet), message_id)
    assert (await quiet.message(message_id)).status == "paused"
    async with quiet.database.tenant(quiet.id) as tx:
        assert (await pauses.resume(tx, quiet.actor, message_id)).status == "sending"
        assert (await pauses.resume(tx, sender_of(quiet), message_id)).status == "sending"  # as it is
    assert await quiet.published(MessageResumed) == [MessageResumed(message_id=message_id, version=2)]


async def test_whom_an_urgent_message_did_not_reach_is_sent_to_again_by_day(quiet: Church) -> None:
    message_id = await quiet.dispatch(urgent=STORM)
    await quiet.stream_all(message_id)
    await quiet.report(message_id, {"queued": 2}, {"queued": -2, "failed": 2})
    async with quiet.database.tenant(quiet.id) as tx:
        assert (await resending.resend_failed(tx, quiet.actor, message_id)).urgent is None


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_says_something_in_five_hundred_characters(reason: str) -> None:
    body = {"content": "Hello", "targetType": "all", "urgent": {"reason": reason}}
    with pytest.raises(msgspec.ValidationError, match=r"urgent\.reason"):
        msgspec.convert(body, SendRequest)


@pytest.mark.parametrize("whom", ["ruth@grace.example", "+1 555 234 5678", "(555) 234-5678"])
def test_a_reason_names_nobody_by_phone_or_e_mail(whom: str) -> None:
    """The audit log keeps it for good, and events carry it."""
    request = SendRequest(content="Hello", target_type="all", urgent=Urgent(reason=f"The storm: ask {whom}."))
    assert [each.field for each in request.check()] == ["urgent.reason"]


def test_a_reason_may_hold_times_and_figures() -> None:
    reason = "Flood on 2026-11-22 at 18:30: all 1200 of us are to leave by road 66 before 20:00."
    assert not list(SendRequest(content="Hello", target_type="all", urgent=Urgent(reason=reason)).check())


async def test_a_scheduled_message_gets_no_such_reason_either(quiet: Church) -> None:
    message_id = (await quiet.send(scheduled_at=clock.now() + timedelta(days=1))).id
    patch = MessagePatch(urgent=Urgent(reason="Ask ruth@grace.example"))
    async with quiet.database.tenant(quiet.id) as tx:
        with pytest.raises(ValidationFailed) as refused:
            await messages.change(tx, quiet.actor, message_id, patch)
    assert [each.field for each in refused.value.details] == ["urgent.reason"]
