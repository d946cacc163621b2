"""Chunks and texts become rows, once, whatever comes before or after them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from services.delivery.tests.integration.conftest import World

from koinonia import clock
from koinonia.bus import FactMissing
from koinonia.db.statistics import StatementLog
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionRemoved
from koinonia.events.conversation import ReplyRequested
from koinonia.events.delivery import TextRequested
from koinonia.events.messaging import MessageCancelled
from koinonia.ids import new_id
from koinonia_delivery import chunks

Count = Callable[[], AbstractContextManager[StatementLog]]


async def test_a_chunk_becomes_rows_with_work_and_one_event(world: World) -> None:
    chunk = world.chunk([world.person(number) for number in range(3)])
    await world.apply("delivery.chunks", chunk)

    rows = await world.rows(chunk.message_id)
    assert {row["text"] for row in rows} == {"Hi Anna0", "Hi Anna1", "Hi Anna2"}
    assert {row["status"] for row in rows} == {"queued"}
    assert len(await world.work()) == 3
    (update,) = await world.updates()
    assert update.source_id == chunk.message_id
    assert update.changes == {"queued": 3}


async def test_a_chunk_delivered_twice_is_stored_once(world: World) -> None:
    envelope = world.envelope(world.chunk([world.person()]))
    await world.apply("delivery.chunks", envelope)
    await world.apply("delivery.chunks", envelope)
    assert await world.statuses(envelope.data.message_id) == ["queued"]
    assert len(await world.updates()) == 1


async def test_the_same_recipients_from_two_streamers_are_stored_once(world: World) -> None:
    chunk = world.chunk([world.person(0), world.person(1)])
    await world.apply("delivery.chunks", chunk)
    overlapping = world.chunk(
        [world.person(1), world.person(2)], message_id=chunk.message_id, dispatched_at=chunk.dispatched_at
    )
    await world.apply("delivery.chunks", overlapping)
    assert await world.statuses(chunk.message_id) == ["queued"] * 3
    assert [update.changes for update in await world.updates()] == [{"queued": 2}, {"queued": 1}]


async def test_a_chunk_killed_before_its_commit_is_stored_once_when_it_comes_again(world: World) -> None:
    envelope = world.envelope(world.chunk([world.person()]))

    with pytest.raises(RuntimeError):
        async with world.database.tenant(world.church_id) as tx:
            await chunks.store(tx, envelope)
            raise RuntimeError("killed")
    assert await world.statuses(envelope.data.message_id) == []
    await world.apply("delivery.chunks", envelope)
    assert await world.statuses(envelope.data.message_id) == ["queued"]
    assert len(await world.updates()) == 1


async def test_left_out_and_opted_out_numbers_are_suppressed_at_once(world: World) -> None:
    await world.suppress(1)
    people = [
        world.person(0, left_out="no_consent"),
        world.person(1),
        world.person(2),
        world.person(3, over_limit=True),
    ]
    chunk = world.chunk(people)
    await world.apply("delivery.chunks", chunk)
    by_text = {row["text"]: (row["status"], row["error_code"]) for row in await world.rows(chunk.message_id)}
    assert by_text == {
        "Hi Anna0": ("suppressed", "no_consent"),
        "Hi Anna1": ("suppressed", "suppressed"),
        "Hi Anna2": ("queued", None),
        "Hi Anna3": ("suppressed", "weekly_limit"),
    }
    assert (await world.updates())[0].changes == {"suppressed": 3, "queued": 1}
    assert len(await world.work()) == 1


async def test_a_chunk_after_its_cancel_is_stored_as_cancelled(world: World) -> None:
    chunk = world.chunk([world.person(0), world.person(1, left_out="no_consent")])
    cancelled = MessageCancelled(message_id=chunk.message_id, cancelled_at=clock.now())
    await world.apply("delivery.messages", cancelled)
    await world.apply("delivery.chunks", chunk)
    assert sorted(await world.statuses(chunk.message_id)) == ["cancelled", "suppressed"]
    assert await world.work() == []


async def test_a_chunk_of_a_church_without_a_number_waits_for_it(world: World) -> None:
    other = new_id()
    envelope = world.envelope(world.chunk([world.person()]), church_id=other)
    with pytest.raises(FactMissing) as missing:
        await world.apply("delivery.chunks", envelope)
    assert missing.value.fact_key == f"number:{other}"


async def test_a_chunk_of_five_hundred_takes_at_most_five_statements(world: World, count_statements: Count) -> None:
    chunk = world.chunk([world.person(number) for number in range(500)])
    with count_statements() as counted:
        await world.apply("delivery.chunks", chunk)
    assert counted.count <= 5, counted.by_name
    assert len(await world.work()) == 500


def reply(world: World, number: int = 0) -> ReplyRequested:
    person = world.person(number)
    return ReplyRequested(
        conversation_id=new_id(),
        reply_id=new_id(),
        number_id=world.number_id,
        member_id=person.member_ids[0],
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        content="On my way {{not a field}}",
        media_urls=(),
        requested_at=clock.now(),
    )


async def test_a_reply_delivered_twice_is_one_row_that_goes_before_broadcasts(world: World) -> None:
    await world.store(3)
    envelope = world.envelope(reply(world, 9))
    await world.apply("delivery.texts", envelope)
    await world.apply("delivery.texts", envelope)
    (row,) = await world.rows(envelope.data.reply_id)
    assert row["kind"] == "reply"
    claimed = await world.claim(places=1)
    assert [call.claimed.recipient_id for call in claimed.calls] == [row["id"]]


async def test_a_reply_to_a_person_who_opted_out_is_not_sent(world: World) -> None:
    await world.suppress(9)
    wanted = reply(world, 9)
    await world.apply("delivery.texts", wanted)
    assert await world.statuses(wanted.reply_id) == ["suppressed"]


def wish(world: World, number: int = 0, **fields: Any) -> TextRequested:
    person = world.person(number)
    content = "Your code is 123456. {{not a field|or is it}}"
    values = {"purpose": "code", "content": content, "media_urls": (), "number_id": None, **fields}
    return TextRequested(
        text_id=new_id(),
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        requested_at=clock.now(),
        **values,
    )


async def test_a_text_that_another_service_asks_for_twice_is_one_row_as_it_was_written_before_broadcasts(
    world: World,
) -> None:
    await world.store(3)
    envelope = world.envelope(wish(world, 9, content="Hi {{firstName|friend}}, and all"))
    await world.apply("delivery.texts", envelope)
    await world.apply("delivery.texts", envelope)
    (row,) = await world.rows(envelope.data.text_id)
    assert (row["kind"], row["text"]) == ("reply", "Hi {{firstName|friend}}, and all")
    assert row["number_id"] == world.number_id
    claimed = await world.claim(places=1)
    assert [call.claimed.recipient_id for call in claimed.calls] == [row["id"]]


async def test_a_text_that_another_service_asks_for_passes_no_opt_out(world: World) -> None:
    await world.suppress(9)
    wanted = wish(world, 9)
    await world.apply("delivery.texts", wanted)
    assert await world.statuses(wanted.text_id) == ["suppressed"]
    assert (await world.claim()).calls == []


async def test_a_text_that_comes_too_late_expires_and_is_never_sent(world: World) -> None:
    wanted = wish(world, 9, do_not_send_after=clock.now() - timedelta(seconds=1))
    await world.apply("delivery.texts", wanted)
    assert (await world.claim()).calls == []
    assert await world.statuses(wanted.text_id) == ["expired"]


async def test_a_text_waits_for_the_churchs_number(world: World) -> None:
    other = new_id()
    envelope = world.envelope(wish(world), church_id=other)
    with pytest.raises(FactMissing) as missing:
        await world.apply("delivery.texts", envelope)
    assert missing.value.fact_key == f"number:{other}"


def compliance_reply(world: World, purpose: str) -> ComplianceReplyRequested:
    person = world.person(0)
    return ComplianceReplyRequested(
        purpose=purpose,  # type: ignore[arg-type]
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        content="You are opted out.",
        inbound_event_id=new_id(),
        requested_at=clock.now(),
    )


@pytest.mark.parametrize(("purpose", "status"), [("stop", "queued"), ("help", "suppressed")])
async def test_only_the_confirmation_of_an_opt_out_passes_it(world: World, purpose: str, status: str) -> None:
    await world.suppress(0)
    wanted = compliance_reply(world, purpose)
    await world.apply("delivery.texts", wanted)
    assert await world.statuses(wanted.inbound_event_id) == [status]
    assert len((await world.claim()).calls) == (status == "queued")


async def test_the_welcome_back_waits_for_the_end_of_the_opt_out(world: World) -> None:
    await world.suppress(0)
    welcome = world.envelope(compliance_reply(world, "start"))
    with pytest.raises(FactMissing):
        await world.apply("delivery.texts", welcome)
    started = SuppressionRemoved(
        phone_index=welcome.data.phone_index,
        version=2,
        occurred_at=clock.now(),
        reason="start",
        inbound_event_id=welcome.data.inbound_event_id,
    )
    await world.apply("delivery.holds", started)
    await world.apply("delivery.texts", welcome)
    assert await world.statuses(welcome.data.inbound_event_id) == ["queued"]
