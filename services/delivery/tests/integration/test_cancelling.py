"""A cancel takes back what is not yet with the carrier, and nothing else."""

import pytest
from services.delivery.tests.integration.conftest import World, accepted

from koinonia import clock
from koinonia.api.messages import RecipientQuery
from koinonia.errors import NotFound
from koinonia.events.messaging import MessageAccepted, MessageCancelled, MessageDispatched
from koinonia.ids import new_id
from koinonia_delivery import messages, recipients
from koinonia_delivery.store import broadcasts


async def test_what_waits_is_cancelled_and_what_is_sent_stays(world: World) -> None:
    message_id = await world.store(3)
    (call,) = (await world.claim(1)).calls
    await world.settle(accepted(call.claimed))
    await world.clear_events()
    cancel = world.envelope(MessageCancelled(message_id=message_id, cancelled_at=clock.now()))
    await world.apply("delivery.messages", cancel)
    await world.apply("delivery.messages", cancel)
    assert sorted(await world.statuses(message_id)) == ["cancelled", "cancelled", "sent"]
    assert [update.changes for update in await world.updates()] == [{"queued": -2, "cancelled": 2}]
    assert await world.work() == []


async def test_what_a_cancel_left_is_swept(world: World) -> None:
    message_id = await world.store(3)
    other = await world.store(1)
    async with world.database.tenant(world.church_id) as tx:
        await broadcasts.cancel(tx, message_id, clock.now())  # the tombstone alone
    assert await messages.sweep_cancelled(world.database) == 3
    assert await messages.sweep_cancelled(world.database) == 0
    assert set(await world.statuses(message_id)) == {"cancelled"}
    assert await world.statuses(other) == ["queued"]


async def test_a_cancel_before_its_dispatch_is_kept(world: World) -> None:
    chunk = world.chunk([world.person()])
    await world.apply("delivery.messages", MessageCancelled(message_id=chunk.message_id, cancelled_at=clock.now()))
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
