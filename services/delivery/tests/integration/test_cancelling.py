"""A cancel takes back what is not yet with the carrier, and nothing else, and tells exact figures."""

import asyncio

import pytest
from services.delivery.tests.integration.conftest import World, accepted

from koinonia import clock
from koinonia.api.messages import RecipientQuery
from koinonia.carrier.contract import Refused, Rejected
from koinonia.errors import NotFound
from koinonia.events.delivery import BroadcastStopped
from koinonia.events.messaging import MessageAccepted, MessageCancelled, MessageDispatched, MessagePaused
from koinonia.ids import new_id
from koinonia_delivery import messages, recipients
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import broadcasts


async def test_what_waits_is_cancelled_and_what_is_sent_stays(world: World) -> None:
    message_id = await world.store(3)
    (call,) = (await world.claim(1)).calls
    await world.settle(accepted(call.claimed))
    await world.clear_events()
    cancel = world.envelope(MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
    await world.apply("delivery.messages", cancel)
    assert world.bells.cancelled.is_set()
    await world.sweep()
    await world.apply("delivery.messages", cancel)
    await world.sweep()
    assert sorted(await world.statuses(message_id)) == ["cancelled", "cancelled", "sent"]
    assert [update.changes for update in await world.updates()] == [{"queued": -2, "cancelled": 2}]
    assert await world.work() == []


async def test_a_cancel_tells_once_what_was_sent_and_what_is_in_flight(world: World) -> None:
    message_id = await world.store(6)
    calls = [call.claimed for call in (await world.claim(4)).calls]
    await world.settle(
        accepted(calls[0]),
        outcomes.unknown(attempt_of(calls[1]), 60.0),
        outcomes.failed(attempt_of(calls[2]), Rejected("No.", carrier_code="40310"), 30),
    )
    await world.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
    await asyncio.gather(*(world.sweep() for _ in range(2)))  # two replicas
    (stopped,) = [each.data for each in await world.events(BroadcastStopped)]
    assert (stopped.message_id, stopped.sent_recipients, stopped.in_flight_recipients) == (message_id, 1, 2)
    assert (stopped.sent_segments, stopped.in_flight_segments) == (1, 2)
    # Those in flight end afterwards: one is given back, and meets the tombstone.
    await world.settle(outcomes.returned(attempt_of(calls[3])))
    assert not (await world.claim()).calls
    await world.sweep()
    assert sorted(await world.statuses(message_id)) == ["cancelled"] * 3 + ["failed", "sent", "unknown"]
    assert len(await world.events(BroadcastStopped)) == 1


async def test_what_is_put_back_after_the_sweep_is_cancelled_though_nothing_is_claimed(world: World) -> None:
    message_id = await world.store(3)
    first, second = [call.claimed for call in (await world.claim(2)).calls]
    await world.cancel(message_id)
    assert sorted(await world.statuses(message_id)) == ["cancelled", "sending", "sending"]
    await world.settle(outcomes.returned(attempt_of(first)))
    assert await world.sweep() == 1  # another is still held: it is looked at again
    await world.settle(outcomes.failed(attempt_of(second), Refused("Later.", retry_after_seconds=9), 30))
    assert await world.sweep() == 1
    assert set(await world.statuses(message_id)) == {"cancelled"}
    assert await world.work() == []
    assert len(await world.events(BroadcastStopped)) == 1
    async with world.database.across_churches() as tx:
        assert await broadcasts.list_ending(tx) == []


async def test_a_cancel_waits_for_the_claim_under_way_and_the_next_claim_for_the_cancel(world: World) -> None:
    message_id = await world.store(2)
    cancel = MessageCancelled(message_id=message_id, cancelled_at=clock.now())
    async with world.claim_under_way(message_id) as claiming:
        cancelling = asyncio.create_task(world.apply("delivery.messages", cancel))
        await world.until_waiting(cancelling, 2, "the tombstone was set beside a claim that cannot see it")
    assert len((await claiming).calls) == 2
    await cancelling

    message_id = await world.store(2)
    cancel = MessageCancelled(message_id=message_id, cancelled_at=clock.now())
    async with world.database.tenant(world.church_id) as tx:
        await messages.cancel(tx, world.envelope(cancel), world.bells)
        claiming = asyncio.create_task(world.claim())
        await world.until_waiting(claiming, 1, "the claim did not wait for the tombstone that is being set")
    assert not (await claiming).calls


async def test_what_a_cancel_left_is_swept(world: World) -> None:
    message_id = await world.store(3)
    other = await world.store(1)
    async with world.database.tenant(world.church_id) as tx:
        await broadcasts.cancel(tx, message_id, clock.now())  # the tombstone alone
    assert await world.sweep() == 3
    assert await world.sweep() == 0
    assert set(await world.statuses(message_id)) == {"cancelled"}
    assert await world.statuses(other) == ["queued"]


async def test_figures_whose_commit_was_killed_are_told_by_the_next_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = await world.store(2)

    async def die(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(broadcasts, "count_gone", die)
        with pytest.raises(InterruptedError):
            await world.cancel(message_id)
    assert await world.statuses(message_id) == ["cancelled"] * 2
    assert await world.events(BroadcastStopped) == []
    await world.sweep()
    assert len(await world.events(BroadcastStopped)) == 1


async def test_a_small_broadcasts_stop_does_not_wait_for_a_large_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "SWEEP_ROWS", 2)
    large, small = await world.store(9), await world.store(1)
    assert large < small  # the sweep's order
    async with world.database.tenant(world.church_id) as tx:
        for message_id in (large, small):
            await broadcasts.cancel(tx, message_id, clock.now())
    await world.sweep()
    assert [each.data.message_id for each in await world.events(BroadcastStopped)] == [small, large]
    assert set(await world.statuses(large)) == {"cancelled"}


async def test_a_paused_broadcast_can_be_cancelled(world: World) -> None:
    message_id = await world.store(3)
    paused = MessagePaused(message_id=message_id, version=1, paused_at=clock.now())
    await world.apply("delivery.messages", paused)
    await world.sweep()
    await world.apply("delivery.messages", MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
    await world.sweep()
    assert await world.statuses(message_id) == ["cancelled"] * 3
    assert await world.work() == []


async def test_a_cancel_before_its_dispatch_is_kept(world: World) -> None:
    chunk = world.chunk([world.person()])
    await world.apply("delivery.messages", MessageCancelled(message_id=chunk.message_id, cancelled_at=clock.now()))
    await world.sweep()
    (stopped,) = [each.data for each in await world.events(BroadcastStopped)]
    assert (stopped.sent_recipients, stopped.in_flight_recipients) == (0, 0)
    dispatched = MessageDispatched(message_id=chunk.message_id, dispatched_at=chunk.dispatched_at, recipient_count=1)
    await world.apply("delivery.messages", dispatched)
    await world.apply("delivery.chunks", chunk)
    assert await world.statuses(chunk.message_id) == ["cancelled"]


async def test_an_accepted_broadcast_has_an_empty_list_of_recipients_and_keeps_what_is_known(world: World) -> None:
    accepted_event = MessageAccepted(message_id=new_id(), recipient_count=1, segment_bound=1)
    query = RecipientQuery()
    async with world.database.tenant(world.church_id) as tx:
        with pytest.raises(NotFound):
            await recipients.list_page(tx, world.keys, accepted_event.message_id, query)
    await world.apply("delivery.messages", accepted_event)
    async with world.database.tenant(world.church_id) as tx:
        assert (await recipients.list_page(tx, world.keys, accepted_event.message_id, query)).data == []
    message_id = await world.store(1)
    await world.apply("delivery.messages", MessageAccepted(message_id=message_id, recipient_count=1, segment_bound=1))
    async with world.database.tenant(world.church_id) as tx:
        assert len((await recipients.list_page(tx, world.keys, message_id, query)).data) == 1
