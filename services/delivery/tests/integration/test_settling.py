"""How calls end, against what receipts and other attempts did meanwhile."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from unittest.mock import ANY

import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt, settings_for

from koinonia import clock
from koinonia.carrier.contract import Refused, Rejected
from koinonia.db.statistics import StatementLog
from koinonia_delivery.calls import attempt_of, idempotency_key
from koinonia_delivery.domain import outcomes
from koinonia_delivery.doubts import Doubts
from koinonia_delivery.store import doubts as doubt_store
from koinonia_delivery.store import outcomes as store

Count = Callable[[], AbstractContextManager[StatementLog]]


async def test_an_accepted_one_is_sent_and_metered(world: World) -> None:
    message_id = await world.store()
    await world.settle(accepted(await world.claim_one(), "c9"))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["carrier_id"]) == ("sent", "c9")
    assert row["accepted_at"]
    assert row["sent_at"]
    (update,) = await world.updates()
    assert update.changes == {"queued": -1, "sent": 1}
    assert (update.accepted_recipients, update.accepted_segments) == (1, 1)
    assert await world.work() == []


async def test_a_settlement_repeated_changes_nothing(world: World) -> None:
    await world.store()
    outcome = accepted(await world.claim_one())
    await world.settle(outcome)
    await world.settle(outcome)
    assert len(await world.updates()) == 1


async def test_a_settlement_killed_before_its_commit_can_be_made_again(world: World) -> None:
    message_id = await world.store()
    outcome = accepted(await world.claim_one())
    with pytest.raises(RuntimeError):
        async with world.database.across_churches() as tx:
            await store.settle(tx, [outcome], resend=True, receipt_deadline_seconds=1.0)
            raise RuntimeError("killed")
    assert await world.statuses(message_id) == ["sending"]
    await world.settle(outcome)
    assert await world.statuses(message_id) == ["sent"]


async def test_a_rejected_one_has_failed_for_good(world: World) -> None:
    message_id = await world.store()
    error = Rejected("This is not a phone number.", carrier_code="40310")
    await world.settle(outcomes.failed(attempt_of(await world.claim_one()), error, 30))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["error_code"], row["accepted_at"]) == ("failed", "40310", None)
    (update,) = await world.updates()
    assert update.changes == {"queued": -1, "failed": 1}
    assert update.accepted_recipients == 0


async def test_who_told_the_carrier_to_stop_gets_nothing_more(world: World) -> None:
    await world.store()
    error = Rejected("This person has opted out by STOP.", carrier_code="40300", opted_out=True)
    await world.settle(outcomes.failed(attempt_of(await world.claim_one()), error, 30))
    assert await world.statuses(await world.store()) == ["suppressed"]


async def test_a_start_since_the_call_began_stands_against_the_carriers_block(world: World) -> None:
    await world.store()
    claimed = await world.claim_one()
    await world.suppress(0, suppressed=False)
    error = Rejected("This person has opted out by STOP.", carrier_code="40300", opted_out=True)
    await world.settle(outcomes.failed(attempt_of(claimed), error, 30))
    assert await world.statuses(await world.store()) == ["queued"]


async def test_the_carriers_block_overrides_an_older_start_and_a_start_that_comes_late_the_block(world: World) -> None:
    await world.suppress(0, suppressed=False)
    await world.store()
    claimed = await world.claim_one()
    started_at = clock.now()
    error = Rejected("This person has opted out by STOP.", carrier_code="40300", opted_out=True)
    await world.settle(outcomes.failed(attempt_of(claimed), error, 30))
    assert await world.statuses(await world.store()) == ["suppressed"]
    await world.suppress(0, suppressed=False, at=started_at)
    assert await world.statuses(await world.store()) == ["queued"]


async def test_a_refused_one_waits_and_stays_queued_for_others(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.settle(outcomes.failed(attempt_of(claimed), Refused("busy", carrier_code="10011"), 30))
    (work,) = await world.work()
    assert await world.statuses(message_id) == ["queued"]
    assert (work["state"], work["leased_until"]) == ("ready", None)
    assert await world.updates() == []
    await world.let_pass(seconds=10)
    again = await world.claim_one()
    assert again.attempt == 2


async def test_a_retry_after_pauses_that_number_only(world: World) -> None:
    await world.store()
    error = Refused("slower", carrier_code="10011", retry_after_seconds=40)
    await world.settle(outcomes.failed(attempt_of(await world.claim_one()), error, 30))
    assert await world.next_free_at() > clock.now() + timedelta(seconds=35)
    await world.store()
    assert not (await world.claim()).calls


async def test_an_unknown_one_says_so_and_is_sent_again_with_the_same_body_and_key(world: World) -> None:
    message_id = await world.store()
    first = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(first), 30))
    assert [update.changes for update in await world.updates()] == [{"queued": -1, "unknown": 1}]
    assert not (await world.claim()).calls
    await world.be_due()
    again = await world.claim_one()
    assert await world.statuses(message_id) == ["unknown"]
    assert (again.webhook_url, again.sender, again.text) == (first.webhook_url, first.sender, first.text)
    assert idempotency_key(again) == idempotency_key(first)
    await world.settle(accepted(again))
    assert await world.statuses(message_id) == ["sent"]
    assert (await world.updates())[-1].changes == {"unknown": -1, "sent": 1}


async def test_an_unknown_one_is_not_sent_again_after_its_key_has_ended(world: World) -> None:
    await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 30))
    await world.let_pass(hours=24)
    assert not (await world.claim()).calls


async def test_an_unknown_one_is_never_sent_again_where_the_carrier_has_no_keys(world: World) -> None:
    await world.store()
    outcome = outcomes.unknown(attempt_of(await world.claim_one()), 0)
    world.settings = settings_for(telnyx_idempotency=False)
    await world.settle(outcome)
    await world.let_pass(seconds=60)
    assert not (await world.claim()).calls


async def test_an_unknown_one_is_not_sent_again_once_the_keys_were_switched_off(world: World) -> None:
    await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0))
    world.settings = settings_for(telnyx_idempotency=False)
    assert not (await world.claim()).calls


async def test_an_unknown_one_is_not_sent_again_to_who_opted_out_since(world: World) -> None:
    message_id = await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0))
    await world.suppress(0)
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["unknown"]  # it may have been sent: nobody may say suppressed
    await world.suppress(0, suppressed=False)
    assert not (await world.claim()).calls


async def test_the_answer_after_its_receipt_changes_nothing(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    await world.settle(accepted(claimed, "other"))
    (row,) = await world.rows(message_id)
    assert (row["status"], row["carrier_id"]) == ("delivered", "c1")
    assert sum(update.accepted_recipients for update in await world.updates()) == 1


async def test_a_worker_that_wakes_after_its_row_was_claimed_anew_changes_nothing(world: World) -> None:
    message_id = await world.store()
    slept = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(slept), 0))
    again = await world.claim_one()
    error = Rejected("no", carrier_code="40310")
    await world.settle(outcomes.failed(attempt_of(slept), error, 30))
    assert await world.statuses(message_id) == ["unknown"]
    await world.settle(accepted(again))
    assert await world.statuses(message_id) == ["sent"]


async def test_a_worker_that_wakes_after_its_lease_has_ended_settles_its_own_call(world: World) -> None:
    message_id = await world.store()
    slept = await world.claim_one()
    await world.be_due()
    doubts = Doubts(world.database, ANY, world.keys, world.receipts, world.settings)
    assert await doubts.reap_leases() == 1
    assert await world.statuses(message_id) == ["unknown"]
    await world.settle(accepted(slept))
    assert await world.statuses(message_id) == ["sent"]
    assert not (await world.claim()).calls
    assert sum(update.accepted_recipients for update in await world.updates()) == 1


async def test_two_ends_of_one_recipient_in_a_batch_count_by_their_attempts(world: World) -> None:
    message_id = await world.store()
    slept = await world.claim_one()
    await world.settle(outcomes.unknown(attempt_of(slept), 0))
    again = await world.claim_one()
    error = Rejected("no", carrier_code="40310")
    await world.settle(outcomes.failed(attempt_of(slept), error, 30), accepted(again))
    assert await world.statuses(message_id) == ["sent"]


async def test_a_look_up_that_took_long_gives_up_no_later_attempt(world: World) -> None:
    message_id = await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0))
    async with world.database.across_churches() as tx:
        (doubt,) = await doubt_store.take(tx, 10, 60.0, resend=False)
    await world.be_due()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0))
    (before,) = await world.work()
    assert (before["state"], before["attempt"]) == (doubt.state, doubt.attempt + 1)
    async with world.database.across_churches() as tx:
        assert await doubt_store.give_up(tx, [doubt], "Nobody knows.") == []
    assert (await world.statuses(message_id), await world.work()) == (["unknown"], [before])


async def test_a_place_given_back_is_taken_again(world: World) -> None:
    message_id = await world.store()
    await world.settle(outcomes.returned(attempt_of(await world.claim_one())))
    assert await world.statuses(message_id) == ["queued"]
    assert (await world.claim_one()).attempt == 2


async def test_a_batch_of_five_hundred_takes_at_most_three_statements(world: World, count_statements: Count) -> None:
    await world.store(500)
    claimed = await world.claim(500)
    assert len(claimed.calls) == 500
    with count_statements() as counted:
        await world.settle(*(accepted(call.claimed) for call in claimed.calls))
    assert counted.count <= 3, counted.by_name
    assert len(await world.updates()) == 1
