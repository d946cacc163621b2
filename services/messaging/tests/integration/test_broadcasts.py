"""A message from its time to delivery: asked, authorized, streamed, declined, cancelled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from koinonia import clock
from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.members import MemberRequest
from koinonia.db import statement
from koinonia.errors import ValidationFailed
from koinonia.events.messaging import (
    MessageAccepted,
    MessageCancelled,
    MessageCompleted,
    MessageDispatched,
    RecipientsResolved,
)
from koinonia.ids import derived_id, id_time, new_id
from koinonia_messaging import branches, broadcasts, groups, members
from koinonia_messaging.domain.audience import Page
from koinonia_messaging.domain.messages import AudienceEmpty
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store.broadcasts import Leases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church


EMPTY = statement("test.empty", "UPDATE members SET deleted_at = now()")


class Killed(Exception):
    """The process died before its transaction's commit."""


async def test_a_message_is_accepted_with_its_audience_and_its_bound(church: Church) -> None:
    await church.add_members(
        [
            {"firstName": "Anna", "phone": "+13125550001"},
            {"firstName": "Bob", "phone": "+13125550001"},
            {"firstName": "C" * 100, "phone": "+13125550002"},
            {"firstName": "Dora", "phone": "+13125550003", "optInSms": False},
        ]
    )
    message = await church.send("x" * 100 + "{{firstName}}")
    assert (message.status, message.total_recipients, message.segments) == ("accepted", 3, 2)
    assert message.counts.queued == 3
    (accepted,) = await church.published(MessageAccepted)
    assert (accepted.message_id, accepted.recipient_count, accepted.segment_bound) == (message.id, 3, 4)


async def test_an_audience_in_which_nobody_can_be_texted_is_refused(church: Church) -> None:
    await church.add_members([{"firstName": "Anna", "phone": "+13125550001", "optInSms": False}])
    with pytest.raises(AudienceEmpty) as caught:
        await church.send()
    assert [detail.field for detail in caught.value.details] == ["targetIds"]


@pytest.mark.parametrize("kind", ["individual", "groups", "branches"])
async def test_a_target_that_is_not_there_is_refused(church: Church, kind: str) -> None:
    await church.add_crowd(1)
    with pytest.raises(ValidationFailed) as caught:
        await church.send(kind=kind, ids=[new_id()], number_id=new_id())  # type: ignore[arg-type]
    assert [detail.field for detail in caught.value.details] == ["targetIds", "numberId"]


async def test_an_own_number_that_is_active_may_be_named_as_the_sender(church: Church) -> None:
    await church.add_crowd(1)
    number_id = await church.add_number()
    message_id = await church.dispatch(number_id=number_id)
    await church.stream_all(message_id)
    (chunk,) = await church.published(RecipientsResolved)
    assert chunk.number_id == number_id


async def test_billing_is_asked_once_though_two_replicas_look(church: Church) -> None:
    await church.add_crowd(3)
    message = await church.send()
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    asked = await asyncio.gather(*(church.schedule().due_round() for _ in range(3)))
    assert sum(asked) == 1
    assert await church.questions() == [(1, 4, 4)]
    assert (await church.row(message.id))["awaiting_answer"]


async def test_a_scheduled_message_waits_for_its_time(church: Church) -> None:
    await church.add_crowd(2)
    message = await church.send(scheduled_at=clock.now() + timedelta(hours=1))
    assert message.status == "scheduled"
    assert await church.schedule().due_round() == 0
    with clock.shifted(3599):
        assert not await church.ask(message.id)
    with clock.shifted(3601):
        assert await church.schedule().due_round() == 1
    assert (await church.message(message.id)).status == "accepted"
    assert await church.questions() == [(1, 2, 2)]


async def test_a_message_is_authorized_once_and_only_by_the_answer_to_its_last_question(church: Church) -> None:
    await church.add_crowd(1)
    message = await church.send()
    assert not await church.authorize(message.id, 1)
    await church.ask(message.id)
    assert not await church.authorize(message.id, 2)
    assert await church.authorize(message.id, 1)
    first = await church.row(message.id)
    with clock.shifted(60):
        assert not await church.authorize(message.id, 1)
    assert (await church.row(message.id)) == first
    assert (first["status"], first["dispatched_at"] is not None) == ("sending", True)


async def test_a_declined_message_says_why_and_is_never_streamed(church: Church) -> None:
    await church.add_crowd(2)
    message = await church.send()
    await church.ask(message.id)
    await church.decline(message.id)
    await church.decline(message.id)
    declined = await church.message(message.id)
    assert (declined.status, declined.decline_reason, declined.total_recipients) == ("declined", "plan_limit", 0)
    assert not await church.authorize(message.id)
    assert await church.schedule().streaming_round() == 0
    assert await church.recipients() == []


async def test_an_audience_is_streamed_in_pages_of_distinct_numbers(church: Church) -> None:
    await church.add_crowd(7)
    await church.add_members([{"firstName": "Twin", "phone": "+13125550003"}])
    message_id = await church.dispatch("Hi {{firstName}}")
    await church.stream_all(message_id, numbers=3)
    chunks = await church.published(RecipientsResolved)
    assert [len(chunk.recipients) for chunk in chunks] == [3, 3, 1]
    recipients = await church.recipients()
    assert sorted(each.phone_index for each in recipients) == [each.phone_index for each in recipients]
    assert [each.fields["firstName"] for each in recipients if len(each.member_ids) == 2] == ["P3 & Twin"]
    dispatched_at = (await church.row(message_id))["dispatched_at"]
    assert {each.recipient_id for each in recipients} == {
        derived_id(dispatched_at, message_id.bytes, each.phone_index) for each in recipients
    }
    assert abs(id_time(recipients[0].recipient_id) - dispatched_at) < timedelta(milliseconds=1)
    (dispatched,) = await church.published(MessageDispatched)
    assert dispatched.recipient_count == 7
    row = await church.row(message_id)
    assert (row["resolved"], row["total_recipients"], row["streamed_bound"]) == (True, 7, 7)


async def test_numbers_that_get_no_text_travel_with_their_reason(church: Church) -> None:
    await church.add_members(
        [
            {"firstName": "Anna", "phone": "+13125550001"},
            {"firstName": "Bob", "phone": "+13125550002", "optInSms": False},
            {"firstName": "Carl", "phone": "+13125550003"},
        ]
    )
    message_id = await church.dispatch("Hi {{firstName}}")
    await church.stop("+13125550003")
    await church.stream_all(message_id)
    reasons = {each.fields["firstName"]: each.left_out for each in await church.recipients()}
    assert reasons == {"Anna": None, "Bob": "no_consent", "Carl": "suppressed"}
    row = await church.row(message_id)
    assert (row["total_recipients"], row["streamed_bound"]) == (3, 1)


@pytest.mark.parametrize("kind", ["individual", "groups", "branches"])
async def test_each_kind_of_target_reaches_its_people_alone(church: Church, kind: str) -> None:
    await church.add_crowd(3)
    async with church.database.tenant(church.id) as tx:
        branch = await branches.create(tx, church.actor, BranchRequest(name="North"))
        group = await groups.create(tx, church.actor, GroupRequest(name="Choir"))
        request = MemberRequest(
            first_name="Anna", phone="+14155550001", branch_id=branch.id, group_ids=[group.id], opt_in_sms=True
        )
        anna = await members.create(tx, church.actor, request, church.keys)
    ids = {"individual": anna.person.id, "groups": group.id, "branches": branch.id}
    message_id = await church.dispatch("Hi", kind=kind, ids=[ids[kind]])
    await church.stream_all(message_id)
    (recipient,) = await church.recipients()
    assert recipient.member_ids == (anna.person.id,)


async def test_a_streamer_killed_before_its_commit_leaves_the_page_to_be_done_with_the_same_ids(
    church: Church,
) -> None:
    await church.add_crowd(5)
    message_id = await church.dispatch()
    await church.stream(message_id, 2)
    with pytest.raises(Killed):
        async with church.database.tenant(church.id) as tx:
            assert await broadcasts.stream_page(tx, message_id, 2)
            raise Killed
    assert len(await church.recipients()) == 2
    await church.stream_all(message_id, 2)
    recipients = await church.recipients()
    assert len({each.recipient_id for each in recipients}) == len(recipients) == 5


async def test_two_streamers_of_one_message_publish_each_number_once(church: Church) -> None:
    await church.add_crowd(40)
    message_id = await church.dispatch()

    async def stream() -> None:
        while not (await church.row(message_id))["resolved"]:
            await church.stream(message_id, 3)

    await asyncio.gather(stream(), stream(), stream())
    recipients = await church.recipients()
    assert len({each.recipient_id for each in recipients}) == len(recipients) == 40
    assert len(await church.published(MessageDispatched)) == 1
    assert (await church.row(message_id))["total_recipients"] == 40


async def test_replicas_take_turns_over_messages_of_several_churches(
    new_church: Callable[[], Awaitable[Church]],
) -> None:
    one, other = await new_church(), await new_church()
    for church in (one, other):
        await church.add_crowd(1100)
    sent = {church.id: await church.dispatch() for church in (one, other)}
    rounds = [await one.schedule().streaming_round() for _ in range(3)]
    assert rounds == [2, 2, 2]
    for church in (one, other):
        assert len({each.recipient_id for each in await church.recipients()}) == 1100
        assert (await church.row(sent[church.id]))["resolved"]
    assert await one.schedule().streaming_round() == 0


async def test_a_lease_keeps_other_replicas_away_until_it_ends(
    church: Church, wait_until: Callable[..., Awaitable[object]]
) -> None:
    await church.add_crowd(1)
    await church.dispatch()
    async with church.database.across_churches() as tx:
        assert len(await broadcast_store.claim_streaming(tx, Leases(first_seconds=0.3, longest_seconds=0.3), 10)) == 1
    assert await church.schedule().streaming_round() == 0
    await wait_until(church.schedule().streaming_round)


async def test_a_surplus_is_asked_for_before_it_is_streamed(church: Church) -> None:
    await church.add_crowd(2)
    message = await church.send()
    await church.ask(message.id)
    await church.authorize(message.id, 1, bound=2)
    await church.stream(message.id, 2)
    await church.add_members(
        [{"firstName": "Late", "phone": late_phone(church, after=await cursor(church, message.id))}]
    )
    assert await church.stream(message.id, 2)
    assert not await church.stream(message.id, 2)
    assert await church.questions() == [(1, 2, 2), (2, 3, 3)]
    assert len(await church.recipients()) == 2
    assert not await church.authorize(message.id, 1, bound=9)
    assert await church.authorize(message.id, 2, bound=3)
    await church.stream_all(message.id, 2)
    row = await church.row(message.id)
    assert (row["resolved"], row["total_recipients"], row["streamed_bound"]) == (True, 3, 3)


async def test_a_surplus_that_is_declined_ends_the_message_with_what_was_streamed(church: Church) -> None:
    await church.add_crowd(2)
    message = await church.send()
    await church.ask(message.id)
    await church.authorize(message.id, 1, bound=2)
    await church.stream(message.id, 2)
    await church.add_members(
        [{"firstName": "Late", "phone": late_phone(church, after=await cursor(church, message.id))}]
    )
    await church.stream(message.id, 2)
    await church.report(message.id, {"delivered": 2})
    assert await church.published(MessageCompleted) == []
    await church.decline(message.id, 2)
    ended = await church.message(message.id)
    assert (ended.status, ended.decline_reason, ended.total_recipients) == ("completed", "plan_limit", 2)
    assert [each.recipient_count for each in await church.published(MessageDispatched)] == [2]
    assert [each.recipient_count for each in await church.published(MessageCompleted)] == [2]


async def cursor(church: Church, message_id: UUID) -> bytes:
    return bytes((await church.row(message_id))["cursor"])


def late_phone(church: Church, after: bytes) -> str:
    """A number that streaming has yet to come to."""
    candidates = (f"+1415555{number:04}" for number in range(10_000))
    return next(each for each in candidates if church.keys.index(each, church.id, "phone") > after)


async def test_a_cancel_in_the_middle_stops_the_stream(church: Church) -> None:
    await church.add_crowd(5)
    message_id = await church.dispatch()
    await church.stream(message_id, 2)
    cancelled = await church.cancel(message_id)
    assert (cancelled.status, cancelled.total_recipients, cancelled.counts.queued) == ("cancelled", 2, 2)
    assert not await church.stream(message_id, 2)
    assert len(await church.recipients()) == 2
    assert [each.message_id for each in await church.published(MessageCancelled)] == [message_id]
    await church.report(message_id, {"queued": 2}, {"queued": -2, "cancelled": 1, "sent": 1})
    assert await church.published(MessageCompleted) == []
    await church.report(message_id, {"sent": -1, "unconfirmed": 1})
    await church.report(message_id, {"unconfirmed": -1, "delivered": 1})
    assert [each.recipient_count for each in await church.published(MessageCompleted)] == [2]
    ended = await church.message(message_id)
    assert (ended.status, ended.completed_at is not None) == ("cancelled", True)


async def test_a_cancel_between_reading_a_page_and_its_commit_wins(church: Church) -> None:
    await church.add_crowd(3)
    message_id = await church.dispatch()
    async with church.database.tenant(church.id) as tx:
        found = await broadcast_store.find_streaming(tx, message_id)
        await church.cancel(message_id)
        assert found is not None
        assert not await broadcast_store.advance(tx, found, Page((), 0, b""), is_last=True)
    assert (await church.message(message_id)).total_recipients == 0


@pytest.mark.parametrize("stage", ["accepted", "asked", "authorized", "scheduled"])
async def test_a_message_cancelled_before_its_first_page_is_settled_at_once(church: Church, stage: str) -> None:
    await church.add_crowd(2)
    scheduled_at = clock.now() + timedelta(hours=1) if stage == "scheduled" else None
    message = await church.send(scheduled_at=scheduled_at)
    if stage in {"asked", "authorized"}:
        await church.ask(message.id)
    if stage == "authorized":
        await church.authorize(message.id)
    cancelled = await church.cancel(message.id)
    assert (cancelled.status, cancelled.total_recipients) == ("cancelled", 0)
    assert [each.recipient_count for each in await church.published(MessageCompleted)] == [0]
    assert not await church.authorize(message.id)
    with clock.shifted(7200):
        assert await church.schedule().due_round() == 0
    assert (await church.cancel(message.id)).stopped == cancelled.stopped  # once more: the same figures
    assert len(await church.published(MessageCancelled)) == 1


async def test_an_audience_that_emptied_before_its_time_completes_with_nobody(church: Church) -> None:
    await church.add_crowd(1)
    message_id = await church.dispatch()
    async with church.database.tenant(church.id) as tx:
        await tx.execute(EMPTY)
    await church.stream_all(message_id)
    ended = await church.message(message_id)
    assert (ended.status, ended.total_recipients) == ("completed", 0)
    assert [each.recipient_count for each in await church.published(MessageCompleted)] == [0]
