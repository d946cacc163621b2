"""A scheduled message is changed until sending starts; the audience is who is there then."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from services.messaging.tests.integration.conftest import church_changed, envelope

from koinonia import clock
from koinonia.api.messages import Message, MessagePatch, SendRequest
from koinonia.errors import Conflict, Forbidden, NotFound, ValidationFailed
from koinonia.events.delivery import NumberChanged
from koinonia.events.messaging import MessageDue, RecipientsResolved
from koinonia.ids import new_id
from koinonia_messaging import broadcasts, messages
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store.broadcasts import Leases

if TYPE_CHECKING:
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church


async def change(church: Church, message_id: UUID, *, test: bool = False, **patch: Any) -> Message:
    actor = structs.replace(church.actor, test=test)
    async with church.database.tenant(church.id) as tx:
        return await messages.change(tx, actor, message_id, MessagePatch(**patch))


async def scheduled(church: Church) -> Message:
    await church.add_crowd(2)
    return await church.send("Soon", scheduled_at=clock.now() + timedelta(hours=1), tags=["a"])


async def test_what_is_changed_is_sent_at_its_new_time_to_who_is_there_then(church: Church) -> None:
    message = await scheduled(church)
    later = clock.now() + timedelta(hours=3)
    changed = await change(church, message.id, content="x" * 161, scheduled_at=later)
    assert (changed.content, changed.segments, changed.scheduled_at) == ("x" * 161, 2, later)
    assert (changed.status, changed.tags, changed.total_recipients) == ("scheduled", ["a"], 2)
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    with clock.shifted(2 * 3600):
        assert await church.schedule().due_round() == 0
    with clock.shifted(4 * 3600):
        assert await church.schedule().due_round() == 1
    assert await church.questions() == [(1, 3, 6)]


async def test_one_that_a_scheduler_had_leased_is_due_at_once_when_it_shall_be(church: Church) -> None:
    message = await scheduled(church)
    schedule = church.schedule()
    with clock.shifted(2 * 3600):
        async with church.database.across_churches() as tx:
            long = Leases(first_seconds=600, longest_seconds=600)
            assert len(await broadcast_store.claim_due(tx, long, clock.now(), 1)) == 1
        async with church.database.tenant(church.id) as tx:
            await messages.change(tx, church.actor, message.id, MessagePatch(scheduled_at=None))
            assert await schedule.due_round() == 0  # it is locked, and passed by
        assert await schedule.due_round() == 1
    assert (await church.message(message.id)).scheduled_at is None


async def test_a_change_is_refused_once_the_scheduler_has_started_it(church: Church) -> None:
    message = await scheduled(church)
    with clock.shifted(2 * 3600):
        async with church.database.tenant(church.id) as tx:
            assert await broadcasts.ask_when_due(tx, message.id)
            changing = asyncio.create_task(change(church, message.id, content="Too late"))
            await asyncio.wait([changing], timeout=0.2)
            assert not changing.done()
    with pytest.raises(Conflict):
        await changing
    assert (await church.message(message.id)).content == "Soon"
    assert len(await church.published(MessageDue)) == 1
    at_once = await church.send()
    with pytest.raises(Conflict):
        await change(church, at_once.id, content="No")
    with pytest.raises(NotFound):
        await change(church, new_id(), content="No")


async def test_a_change_is_checked_as_a_new_message_is(church: Church) -> None:
    message = await scheduled(church)
    for patch in ({"target_type": "groups"}, {"target_type": "individual", "target_ids": [new_id()]}):
        with pytest.raises(ValidationFailed) as caught:
            await change(church, message.id, **patch)
        assert [detail.field for detail in caught.value.details] == ["targetIds"]
    with pytest.raises(ValidationFailed):
        await change(church, message.id, content="x" * 1600)
    with pytest.raises(Forbidden):
        await change(church, message.id, test=True, content="A test key's")
    assert await church.message(message.id) == message


async def test_delivery_is_told_when_it_is_too_late_to_send(church: Church) -> None:
    message = await scheduled(church)
    assert message.scheduled_at is not None
    with pytest.raises(ValidationFailed) as caught:
        await change(church, message.id, do_not_send_after=message.scheduled_at)
    assert [detail.field for detail in caught.value.details] == ["doNotSendAfter"]
    latest = message.scheduled_at + timedelta(hours=2)
    assert (await change(church, message.id, do_not_send_after=latest)).do_not_send_after == latest
    assert (await change(church, message.id, content="Soon")).do_not_send_after == latest
    with clock.shifted(2 * 3600):
        await church.ask(message.id)
        await church.authorize(message.id)
        await church.stream_all(message.id)
    sent = await church.dispatch("At once", do_not_send_after=latest)
    await church.stream_all(sent)
    endless = await church.dispatch("However late")
    await church.stream_all(endless)
    chunks = await church.published(RecipientsResolved)
    assert [chunk.do_not_send_after for chunk in chunks] == [latest, latest, None]


async def test_what_a_change_leaves_out_stays_letter_by_letter(church: Church) -> None:
    """The church's line stands once, also when it has changed; and its number may be gone by now."""
    number_id = await church.add_number()
    await church.receive(
        envelope(church_changed(church.id, 2, opt_out_line="“Adiós”: ALTO", default_number_id=number_id), church.id)
    )
    await church.add_crowd(1)
    message = await church.send("“Hi”", scheduled_at=clock.now() + timedelta(hours=1), smart_encoding=True)
    assert (message.content, message.number_id) == ('"Hi"\n"Adiós": ALTO', number_id)
    gone = NumberChanged(
        number_id=number_id, version=2, phone="+13125550199", kind="long_code", status="released", is_default=False
    )
    await church.receive(envelope(gone, church.id))
    await church.receive(envelope(church_changed(church.id, 3, opt_out_line="Adiós: ALTO"), church.id))
    for patch in ({"tags": ["b"]}, {"content": message.content}, {"smart_encoding": True}):
        changed = await change(church, message.id, **patch)
        assert (changed.content, changed.number_id) == (message.content, number_id)
    with pytest.raises(ValidationFailed) as caught:
        await change(church, message.id, number_id=number_id)
    assert [each.field for each in caught.value.details] == ["numberId"]
    assert (await change(church, message.id, content="Bye")).content == "Bye\nAdiós: ALTO"


async def test_no_change_makes_a_twin_unless_it_is_meant(church: Church) -> None:
    message = await scheduled(church)
    other = await church.send("Other", scheduled_at=message.scheduled_at)
    with pytest.raises(Conflict, match=str(message.id)):
        await change(church, other.id, content="Soon")
    assert (await change(church, other.id, content="Soon", allow_duplicate=True)).content == "Soon"
    assert (await change(church, other.id, tags=["kept"])).tags == ["kept"]
    with pytest.raises(Conflict):
        await change(church, other.id, target_type="all")


def test_times_lie_within_two_years() -> None:
    far = datetime.max.replace(tzinfo=UTC)
    for request in (
        MessagePatch(scheduled_at=far, do_not_send_after=far),
        SendRequest(content="x", target_type="all", scheduled_at=far - timedelta(days=1), do_not_send_after=far),
    ):
        assert [error.field for error in request.check()] == ["scheduledAt", "doNotSendAfter"]
