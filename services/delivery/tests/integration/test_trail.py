"""What is noted of a recipient beside its row, in the statement that changes the row, and told of it afterwards."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia import clock
from koinonia.api.messages import TrailEntry
from koinonia.carrier.contract import Refused, Rejected
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.db import statement
from koinonia.errors import NotFound
from koinonia.events.carrier import MessageReceived
from koinonia.events.conversation import ReplyRequested
from koinonia.events.messaging import MessageCancelled
from koinonia.ids import new_id
from koinonia.trail import trace_id
from koinonia_delivery import trail
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.store import resolving
from koinonia_delivery.store.claims import Claimed

NOTES = statement("test.notes", "SELECT count(*) FROM trail")
FREE = statement("test.free", "UPDATE numbers SET next_free_at = clock_timestamp()")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def entries(world: World, recipient_id: UUID) -> list[TrailEntry]:
    async with world.database.tenant(world.church_id) as tx:
        begun = await trail.begin(tx, recipient_id)
    return sorted(begun.part.entries, key=lambda entry: entry.at)


async def told(world: World, recipient_id: UUID) -> list[str]:
    return [entry.event for entry in await entries(world, recipient_id)]


async def notes(world: World) -> int:
    async with world.database.tenant(world.church_id) as tx:
        return int(await tx.fetch_value(NOTES))


async def one_unknown(world: World) -> Claimed:
    await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(claimed), 30))
    return claimed


@pytest.fixture
async def doubts(world: World) -> AsyncIterator[Doubts]:
    """Looks up at a carrier that knows of nothing."""
    async with SimulatedCarrier() as carrier:
        client = TelnyxCarrier(carrier.url, "key")
        yield Doubts(world.database, client, world.keys, world.receipts, world.settings)
        await client.close()


async def test_the_plain_way_costs_no_row(world: World) -> None:
    await world.store(20)
    calls = (await world.claim()).calls
    await world.settle(*(accepted(call.claimed) for call in calls[:15]))
    await world.receive(*(receipt(call.claimed.recipient_id, "sent") for call in calls))
    await world.receive(*(receipt(call.claimed.recipient_id, "delivered") for call in calls))
    await world.settle(*(accepted(call.claimed) for call in calls[15:]))  # whose receipts came first
    assert await notes(world) == 0
    for call in (calls[0], calls[-1]):
        assert await told(world, call.claimed.recipient_id) == ["accepted", "delivered"]


async def test_a_refusal_tells_when_it_began_how_it_ended_and_when_it_is_tried_again(world: World) -> None:
    await world.store()
    before = clock.now()
    claimed = await world.claim_one()
    error = Refused("The carrier asks to go slower; it is tried again.", carrier_code="429", retry_after_seconds=40)
    await world.settle(outcomes.failed(attempt_of(claimed), error, 30))
    refused, waiting = await entries(world, claimed.recipient_id)
    assert (refused.event, refused.code, refused.attempt, refused.status) == ("refused", "429", 1, "queued")
    assert refused.began_at is not None
    assert refused.until is not None
    assert before - timedelta(seconds=2) < refused.began_at <= refused.at
    assert timedelta(seconds=35) < refused.until - refused.at < timedelta(seconds=120)
    assert (waiting.event, waiting.until) == ("waiting", refused.until)
    await world.let_pass(minutes=10)
    async with world.database.across_churches() as tx:
        await tx.execute(FREE)
    await world.settle(accepted(await world.claim_one()))
    assert await told(world, claimed.recipient_id) == ["refused", "accepted", "waiting"]
    assert await notes(world) == 1


async def test_a_rejection_tells_its_code_and_a_late_receipt_does_not_make_it_forgotten(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    error = Rejected("This is not a phone number that can receive texts.", carrier_code="40310")
    await world.settle(outcomes.failed(attempt_of(claimed), error, 30))
    (entry,) = await entries(world, claimed.recipient_id)
    assert (entry.event, entry.code, entry.status) == ("failed", "40310", "failed")
    await world.receive(receipt(claimed.recipient_id, "sent"))
    assert await told(world, claimed.recipient_id) == ["failed", "accepted"]
    assert (await entries(world, claimed.recipient_id))[-1].status == "unconfirmed"


async def test_a_place_given_back_is_no_attempt(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.returned(attempt_of(claimed)))
    assert await told(world, claimed.recipient_id) == ["waiting"]


async def test_an_unknown_one_that_is_asked_for_again_tells_both(world: World) -> None:
    claimed = await one_unknown(world)
    assert await told(world, claimed.recipient_id) == ["unknown", "waiting"]
    await world.be_due()
    await world.settle(accepted(await world.claim_one()))
    unknown, answered, _ = await entries(world, claimed.recipient_id)
    assert (unknown.event, unknown.attempt, unknown.status) == ("unknown", 1, "unknown")
    assert (answered.event, answered.attempt, answered.status) == ("accepted", 2, "sent")
    assert "it went out once" in answered.sentence


async def test_a_lost_lease_is_told_once_for_each_attempt(world: World, doubts: Doubts) -> None:
    await world.store()
    claimed = await world.claim_one()
    await world.be_due()
    assert await doubts.reap_leases() == 1
    assert await doubts.reap_leases() == 0
    await world.be_due()
    await world.claim_one()  # whose worker is lost as well: it stays unknown
    await world.be_due()
    await doubts.reap_leases()
    first, second, _ = await entries(world, claimed.recipient_id)
    assert [(each.event, each.attempt, each.status) for each in (first, second)] == [
        ("unknown", 1, "unknown"),
        ("unknown", 2, None),
    ]
    assert first.began_at is not None
    assert "The sending process ended" in first.sentence


async def test_trouble_is_told_with_the_carriers_time_and_a_repeat_is_not_told_again(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    soon = clock.now() + timedelta(seconds=90)
    failed = receipt(claimed.recipient_id, "delivery_failed", error_code="40008", occurred_at=soon)
    for _ in range(3):
        await world.receive(failed)
    other_word = receipt(claimed.recipient_id, "sending_failed", occurred_at=soon + timedelta(seconds=1))
    await world.receive(other_word)  # which says the same
    _, undelivered = await entries(world, claimed.recipient_id)
    assert (undelivered.event, undelivered.at, undelivered.code) == ("undelivered", soon, "40008")
    assert "switched off" in undelivered.sentence
    later = receipt(claimed.recipient_id, "delivered", occurred_at=soon + timedelta(seconds=5))
    for _ in range(2):
        await world.receive(later)
        await world.receive(failed)  # it says otherwise than what holds, each time
    assert await told(world, claimed.recipient_id) == ["accepted", "undelivered", "delivered"]
    assert await notes(world) == 2


async def test_a_contradiction_that_comes_later_is_told_once_and_changes_nothing(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    failed = receipt(claimed.recipient_id, "delivery_failed", occurred_at=clock.now() + timedelta(seconds=30))
    await world.receive(failed)
    await world.receive(failed)
    *_, last = await entries(world, claimed.recipient_id)
    assert (last.event, last.status) == ("undelivered", None)
    assert last.sentence.endswith("It had said otherwise before, which holds.")
    assert await notes(world) == 1


async def test_a_receipt_settles_an_unknown_one_and_says_so(world: World) -> None:
    claimed = await one_unknown(world)
    occurred_at = clock.now()
    await world.receive(receipt(claimed.recipient_id, "sent", occurred_at=occurred_at))
    _, found, _ = await entries(world, claimed.recipient_id)
    assert (found.event, found.at, found.status) == ("accepted", occurred_at, "sent")
    assert found.sentence == "The carrier says that it has the text."


async def test_what_nobody_can_tell_is_told(world: World, doubts: Doubts) -> None:
    claimed = await one_unknown(world)
    await world.let_pass(hours=30)  # beyond its key: it is looked up, and not on record
    await doubts.look_up()
    assert await told(world, claimed.recipient_id) == ["unknown", "unconfirmed"]


async def test_a_persons_decisions_are_told_and_the_first_copy_is_not_forgotten(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    await world.receive(receipt(claimed.recipient_id, "delivery_unconfirmed"))
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, claimed.recipient_id)
    second = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(second), 30))
    (row,) = await world.rows(message_id)
    assert row["sent_at"] is None  # what the row has forgotten
    async with world.database.tenant(world.church_id) as tx:
        await resolving.close(tx, claimed.recipient_id)
    found = await entries(world, claimed.recipient_id)
    assert [entry.event for entry in found] == ["accepted", "unconfirmed", "resent", "unknown", "closed"]
    assert [entry.status for entry in found] == ["sent", "unconfirmed", "queued", "unknown", "unconfirmed"]


async def test_an_unknown_one_that_is_not_sent_again_says_why(world: World) -> None:
    claimed = await one_unknown(world)
    await world.suppress(0)
    await world.be_due()
    await world.claim()
    await world.be_due()
    await world.claim()
    assert await told(world, claimed.recipient_id) == ["unknown", "left_to_records", "waiting"]


async def test_what_shall_never_go_says_why_from_its_row_alone(world: World) -> None:
    expired = await world.store(1, do_not_send_after=clock.now() - timedelta(seconds=1))
    await world.claim()
    cancelled = await world.store()
    await world.apply("delivery.messages", MessageCancelled(message_id=cancelled, cancelled_at=clock.now()))
    opted_out = await world.store()
    await world.suppress(0)
    await world.claim()
    suppressed = await world.store()
    chunk = world.chunk([world.person(1, over_limit=True)])
    await world.apply("delivery.chunks", chunk)
    for message_id, event, reason in (
        (chunk.message_id, "left_out", "This person has had as many texts this week as the church allows."),
        (expired, "expired", "It could not be sent in time."),
        (cancelled, "cancelled", "the message was cancelled."),
        (opted_out, "left_out", "This person has opted out."),
        (suppressed, "left_out", "This person has opted out."),
    ):
        (row,) = await world.rows(message_id)
        (entry,) = await entries(world, row["id"])
        assert (entry.event, entry.at) == (event, row["settled_at"])
        assert entry.sentence.endswith(reason)
    assert await notes(world) == 0


async def test_the_carriers_own_block_is_told_of_every_later_text(world: World) -> None:
    await world.store()
    error = Rejected("This person has opted out by STOP.", carrier_code="40300", opted_out=True)
    claimed = await world.claim_one()
    await world.settle(outcomes.failed(attempt_of(claimed), error, 30))
    assert await told(world, claimed.recipient_id) == ["blocked", "failed"]
    (row,) = await world.rows(await world.store())
    assert await told(world, row["id"]) == ["blocked", "left_out"]
    await world.suppress(0, at=clock.now())  # compliance has heard it too: its word is told by itself
    assert await told(world, row["id"]) == ["left_out"]


async def test_a_hold_is_told_while_it_lasts(world: World) -> None:
    person = world.person(0)
    stop = MessageReceived(
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text="STOP",
        media_urls=(),
        carrier_id="in1",
        occurred_at=clock.now(),
    )
    await world.apply("delivery.holds", stop)
    (row,) = await world.rows(await world.store())
    assert await told(world, row["id"]) == ["held", "waiting"]


async def test_a_reply_keeps_its_trace_for_operators(world: World) -> None:
    person = world.person(0)
    reply_id = new_id()
    reply = ReplyRequested(
        conversation_id=new_id(),
        reply_id=reply_id,
        number_id=None,
        member_id=None,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        content="See you on Sunday",
        media_urls=(),
        requested_at=clock.now(),
    )
    await world.apply("delivery.texts", msgspec.structs.replace(world.envelope(reply), traceparent=TRACE))
    await world.settle(accepted(await world.claim_one()))
    (row,) = await world.rows(reply_id)
    async with world.database.tenant(world.church_id) as tx:
        begun = await trail.begin(tx, row["id"])
    assert begun.question.kind == "reply"
    assert begun.part.traceparent is not None
    assert trace_id([begun.part]) == TRACE[3:35]


async def test_another_churchs_recipient_and_another_messages_are_not_there(world: World) -> None:
    message_id = await world.store()
    (row,) = await world.rows(message_id)
    async with world.database.tenant(world.church_id) as tx:
        assert (await trail.begin(tx, row["id"], message_id)).question.source_id == message_id
        for recipient_id, source_id in ((row["id"], new_id()), (new_id(), message_id)):
            with pytest.raises(NotFound):
                await trail.begin(tx, recipient_id, source_id)
    async with world.database.tenant(new_id()) as tx:
        with pytest.raises(NotFound):
            await trail.begin(tx, row["id"], message_id)
