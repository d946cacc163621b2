"""What is claimed, in which order, and what keeps a recipient from being claimed."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import pairwise

from services.delivery.tests.integration.conftest import World, accepted

from koinonia import clock, telemetry
from koinonia.carrier.contract import traceparent_of
from koinonia.db.statistics import StatementLog
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionAdded
from koinonia.events.delivery import RecipientsUpdated
from koinonia.events.gateway import BacklogReported
from koinonia.events.messaging import MessageCancelled
from koinonia.ids import new_id
from koinonia_delivery import holds
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.choosing import HORIZON_SECONDS, PACE
from koinonia_delivery.store import claims as store
from koinonia_delivery.store import outcomes as outcome_store

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Count = Callable[[], AbstractContextManager[StatementLog]]


def inbound(world: World, text: str, number: int = 0) -> MessageReceived:
    """A text from a person."""
    person = world.person(number)
    return MessageReceived(
        number_id=world.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text=text,
        media_urls=(),
        carrier_id="in1",
        occurred_at=clock.now(),
    )


def opted_out(world: World, number: int = 0) -> SuppressionAdded:
    """Compliance's word that a person is not to be texted."""
    index = world.person(number).phone_index
    return SuppressionAdded(phone_index=index, version=1, occurred_at=clock.now(), reason="carrier_block")


async def test_a_claimed_recipient_is_sending_under_a_lease_with_its_body_fixed(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    (work,) = await world.work()
    assert await world.statuses(message_id) == ["sending"]
    assert (work["state"], work["attempt"], claimed.attempt) == ("sending", 1, 1)
    assert work["leased_until"] > clock.now()
    assert (claimed.sender, claimed.messaging_profile_id) == (work["sender"], "profile")
    assert claimed.webhook_url == f"https://x.test/s?d={claimed.recipient_id}"
    assert await world.updates() == []  # it counts as queued until the outcome is known


async def test_a_recipient_of_a_traced_broadcast_has_its_trace_in_its_webhook_url(world: World) -> None:
    with telemetry.work("request", traceparent=TRACEPARENT, correlation="request-1"):
        message_id = await world.store()
    claimed = await world.claim_one()
    assert traceparent_of(claimed.webhook_url) == claimed.traceparent
    assert claimed.traceparent is not None
    assert claimed.traceparent.split("-")[1] == TRACEPARENT.split("-")[1]
    assert claimed.correlation_id == "request-1"
    await world.settle(accepted(claimed))
    (update,) = await world.events(RecipientsUpdated)
    assert (update.data.source_id, update.correlation_id) == (message_id, "request-1")


async def test_two_workers_share_the_work_and_nobody_is_taken_twice(world: World) -> None:
    await world.store(100)
    found: list[object] = []
    while len(found) < 100:
        both = await asyncio.gather(world.claim(10), world.claim(10))
        assert any(each.calls for each in both)
        found += [call.claimed.recipient_id for each in both for call in each.calls]
    assert len(set(found)) == 100


async def test_nothing_is_claimed_on_stale_knowledge(world: World) -> None:
    await world.store()
    await world.be_fresh(age_seconds=16)
    assert not (await world.claim()).calls
    await world.be_fresh(age_seconds=14)
    assert len((await world.claim()).calls) == 1


async def test_nothing_is_claimed_while_a_gateway_holds_old_inbound_texts(world: World) -> None:
    await world.store()
    old = BacklogReported(oldest_inbound_at=clock.now() - timedelta(seconds=20))
    await world.apply("delivery.holds", old)
    assert not (await world.claim()).calls
    await world.apply("delivery.holds", BacklogReported(oldest_inbound_at=None))
    assert len((await world.claim()).calls) == 1


async def test_who_opted_out_after_the_chunk_is_closed_at_the_claim(world: World) -> None:
    message_id = await world.store(2)
    await world.suppress(0)
    assert len((await world.claim()).calls) == 1
    assert sorted(await world.statuses(message_id)) == ["sending", "suppressed"]
    (update,) = await world.updates()
    assert update.changes == {"queued": -1, "suppressed": 1}


async def test_a_held_number_waits_and_stays_queued(world: World) -> None:
    message_id = await world.store()
    await world.apply("delivery.holds", inbound(world, "Stop!"))
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["queued"]


async def test_a_hold_waits_for_the_claim_under_way_and_the_next_claim_for_the_hold(world: World) -> None:
    async with world.claim_under_way(await world.store()) as claiming:
        holding = asyncio.create_task(world.apply("delivery.holds", inbound(world, "stop")))
        await world.until_waiting(holding, 2, "the hold was stored beside a claim that cannot see it")
    assert len((await claiming).calls) == 1
    await holding

    await world.store(2)  # the first person's waits for their call under way
    async with world.database.across_churches() as tx:
        await holds.hold(tx, world.envelope(inbound(world, "stop", 1)))
        claiming = asyncio.create_task(world.claim())
        await world.until_waiting(claiming, 1, "the claim did not wait for the hold that is being stored")
    assert not (await claiming).calls


async def test_compliances_answer_waits_for_the_claim_under_way_and_the_next_claim_for_the_answer(
    world: World,
) -> None:
    async with world.claim_under_way(await world.store()) as claiming:
        answering = asyncio.create_task(world.apply("delivery.holds", opted_out(world)))
        await world.until_waiting(answering, 2, "the opt-out was stored beside a claim that cannot see it")
    assert len((await claiming).calls) == 1
    await answering

    message_id = await world.store(2)
    async with world.database.across_churches() as tx:
        await holds.suppress(tx, world.envelope(opted_out(world, 1)))
        claiming = asyncio.create_task(world.claim())
        await world.until_waiting(claiming, 1, "the claim did not wait for the opt-out that is being stored")
    assert not (await claiming).calls
    assert await world.statuses(message_id) == ["suppressed", "suppressed"]


async def test_rows_of_a_cancelled_broadcast_are_closed_at_the_claim(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
    assert await world.statuses(message_id) == ["sending"]
    await world.settle(outcomes.returned(attempt_of(claimed)))
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["cancelled"]


async def test_what_comes_too_late_is_closed_as_expired(world: World) -> None:
    message_id = await world.store(do_not_send_after=clock.now() - timedelta(seconds=1))
    assert not (await world.claim()).calls
    (row,) = await world.rows(message_id)
    assert (row["status"], row["error_message"]) == ("expired", "It could not be sent in time.")


async def test_a_number_sends_no_faster_than_its_rate(world: World) -> None:
    other = new_id()
    await world.add_number(other, rate=20.0)
    await world.store(50, number_id=other)
    claimed = await world.claim()
    begins = sorted(call.begins_at for call in claimed.calls)
    assert len(begins) == int(HORIZON_SECONDS * 20 * PACE) + 1
    gaps = [later - earlier for earlier, later in pairwise(begins)]
    assert all(abs(gap - 0.05 / PACE) < 0.001 for gap in gaps)
    free_at = await world.next_free_at(other)
    more = (await world.claim()).calls  # none, unless the first claim took the machine so long that some are due
    assert await world.next_free_at(other) >= free_at + len(more) * timedelta(seconds=0.05)


async def test_a_person_gets_texts_one_after_the_other_in_their_order(world: World) -> None:
    first, second = await world.store(1), await world.store(1)
    claimed = await world.claim_one()
    assert await world.statuses(first) == ["sending"]
    assert not (await world.claim()).calls  # the second waits for the first's outcome
    await world.settle(accepted(claimed))
    await world.claim_one()
    assert await world.statuses(second) == ["sending"]


async def test_one_that_waits_for_a_retry_holds_nobody_up(world: World) -> None:
    first, second = await world.store(1), await world.store(1)
    claimed = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(claimed), 60.0))
    await world.claim_one()
    assert (await world.statuses(first), await world.statuses(second)) == (["unknown"], ["sending"])


async def test_a_claim_takes_at_most_six_statements(world: World, count_statements: Count) -> None:
    await world.store(100)
    await world.suppress(0)
    with count_statements() as counted:
        claimed = await world.claim(50)
    assert len(claimed.calls) == 50
    assert counted.count <= 6, counted.by_name


async def test_a_lease_is_renewed_while_its_holder_lives(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    before = (await world.work())[0]["leased_until"]
    async with world.database.across_churches() as tx:
        await store.renew(tx, [(claimed.recipient_id, claimed.attempt)], 300.0)
    assert (await world.work())[0]["leased_until"] > before + timedelta(seconds=200)


async def test_a_worker_that_wakes_renews_no_lease_of_a_later_attempt(world: World) -> None:
    await world.store()
    slept = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(slept), 0))
    again = await world.claim_one()
    assert again.attempt > slept.attempt
    (before,) = await world.work()
    async with world.database.across_churches() as tx:
        await store.renew(tx, [(slept.recipient_id, slept.attempt)], 300.0)
    assert await world.work() == [before]


async def test_a_renewal_does_not_wait_for_a_recipient_that_is_being_settled(world: World) -> None:
    """It holds others meanwhile, which the same settlement may want next: in another order, that is a deadlock."""
    await world.store(2)
    calls = [call.claimed for call in (await world.claim()).calls]
    first, second = sorted(calls, key=lambda claimed: claimed.recipient_id)
    async with world.database.across_churches() as settling:
        await outcome_store.settle(settling, [accepted(first)], resend=True, receipt_deadline_seconds=60.0)
        async with asyncio.timeout(10), world.database.across_churches() as tx:
            await store.renew(tx, [(each.recipient_id, each.attempt) for each in (second, first)], 300.0)
        await outcome_store.settle(settling, [accepted(second)], resend=True, receipt_deadline_seconds=60.0)
    assert await world.work() == []
