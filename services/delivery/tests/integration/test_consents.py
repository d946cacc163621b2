"""Consent withdrawn while copies are queued: a family shares a phone, a newer version wins, only broadcasts need it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from services.delivery.tests.integration.conftest import World, receipt
from services.delivery.tests.integration.test_chunks import reply

from koinonia.db import statement
from koinonia.events.messaging import MembersChanged, MemberState
from koinonia.ids import new_id
from koinonia_delivery import consents
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import resolving

ANNA, BERT = UUID(int=1), UUID(int=2)
CONSENTS = statement("test.consents", "SELECT member_id, version, consents FROM consents ORDER BY member_id")


def member(world: World, member_id: UUID, *, number: int = 0, **fields: Any) -> MemberState:
    person = world.person(number)
    values: dict[str, Any] = {
        "member_id": member_id,
        "version": 1,
        "first_name": "Anna",
        "last_name": "Berg",
        "phone_index": person.phone_index,
        "phone_ciphertext": person.phone_ciphertext,
        "branch_id": new_id(),
        "opted_in": True,
    }
    return MemberState(**values | fields)


async def tell(world: World, *members: MemberState) -> None:
    await world.apply("delivery.consents", MembersChanged(members=members, source="admin"))


async def known(world: World) -> list[tuple[UUID, int, bool]]:
    async with world.database.across_churches() as tx:
        return [(row["member_id"], row["version"], row["consents"]) for row in await tx.fetch(CONSENTS)]


@pytest.mark.parametrize("change", [{"opted_in": False}, {"deleted": True}])
async def test_consent_withdrawn_while_queued_is_closed_at_the_claim(world: World, change: dict[str, bool]) -> None:
    await tell(world, member(world, ANNA), member(world, BERT, number=1))
    message_id = await world.store(2)
    await tell(world, member(world, ANNA, version=2, **change))
    assert len((await world.claim()).calls) == 1
    closed, taken = sorted(await world.rows(message_id), key=lambda row: row["status"], reverse=True)
    assert (closed["status"], taken["status"]) == ("suppressed", "sending")
    assert (closed["error_code"], closed["error_message"]) == ("suppressed", "This person's consent was withdrawn.")
    assert closed["settled_at"]
    (update,) = await world.updates()
    assert update.changes == {"queued": -1, "suppressed": 1}
    assert len(await world.work()) == 1


async def test_the_consent_of_one_of_a_family_is_enough_and_the_last_ones_withdrawal_stops_it(world: World) -> None:
    await tell(world, member(world, ANNA, opted_in=False), member(world, BERT))
    await world.store(1)
    claimed = await world.claim_one()
    await world.settle(outcomes.returned(attempt_of(claimed)))
    await tell(world, member(world, BERT, version=2, opted_in=False))
    assert not (await world.claim()).calls


async def test_a_phone_that_nobody_told_us_of_is_not_withdrawn(world: World) -> None:
    await tell(world, member(world, ANNA, number=1, opted_in=False), member(world, BERT, phone_index=None))
    await world.store(1)
    await world.claim_one()


async def test_an_older_version_that_comes_late_changes_nothing(world: World) -> None:
    await tell(world, member(world, ANNA, version=3, opted_in=False))
    await tell(world, member(world, ANNA, version=2))
    assert await known(world) == [(ANNA, 3, False)]
    await tell(world, member(world, ANNA, version=4), member(world, ANNA, version=2, opted_in=False))
    assert await known(world) == [(ANNA, 4, True)]


async def test_a_change_delivered_twice_is_the_same(world: World) -> None:
    event = world.envelope(MembersChanged(members=(member(world, ANNA, opted_in=False),), source="import"))
    await world.apply("delivery.consents", event)
    await world.apply("delivery.consents", event)
    assert await known(world) == [(ANNA, 1, False)]


async def test_a_change_killed_before_its_commit_counts_when_it_comes_again(world: World) -> None:
    event = world.envelope(MembersChanged(members=(member(world, ANNA, opted_in=False),), source="admin"))
    with pytest.raises(RuntimeError):
        async with world.database.tenant(world.church_id) as tx:
            await consents.follow(tx, event)
            raise RuntimeError("killed")
    assert await known(world) == []
    await world.apply("delivery.consents", event)
    assert await known(world) == [(ANNA, 1, False)]


async def test_a_reply_to_who_withdrew_is_sent(world: World) -> None:
    await tell(world, member(world, ANNA, opted_in=False))
    wanted = reply(world)
    await world.apply("delivery.texts", wanted)
    assert (await world.claim_one()).source_id == wanted.reply_id


async def test_a_withdrawal_waits_for_the_claim_under_way_and_the_next_claim_for_it(world: World) -> None:
    async with world.claim_under_way(await world.store()) as claiming:
        withdrawing = asyncio.create_task(tell(world, member(world, ANNA, opted_in=False)))
        await world.until_waiting(withdrawing, 2, "the withdrawal was stored beside a claim that cannot see it")
    assert len((await claiming).calls) == 1
    await withdrawing

    message_id = await world.store(2)
    bert = MembersChanged(members=(member(world, BERT, number=1, opted_in=False),), source="admin")
    async with world.database.tenant(world.church_id) as tx:
        await consents.follow(tx, world.envelope(bert))
        claiming = asyncio.create_task(world.claim())
        await world.until_waiting(claiming, 1, "the claim did not wait for the withdrawal that is being stored")
    assert not (await claiming).calls
    assert await world.statuses(message_id) == ["suppressed", "suppressed"]


async def test_an_unknown_one_is_not_sent_again_to_who_withdrew_since(world: World) -> None:
    message_id = await world.store()
    await world.settle(outcomes.unknown(attempt_of(await world.claim_one()), 0))
    await tell(world, member(world, ANNA, opted_in=False))
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["unknown"]


async def test_a_copy_that_a_person_sends_again_is_a_broadcasts_still(world: World) -> None:
    message_id = await world.store()
    claimed = await world.claim_one()
    await world.receive(receipt(claimed.recipient_id, "delivery_unconfirmed"))
    await tell(world, member(world, ANNA, opted_in=False))
    async with world.database.tenant(world.church_id) as tx:
        await resolving.resend(tx, claimed.recipient_id)
    assert not (await world.claim()).calls
    assert await world.statuses(message_id) == ["suppressed"]
