"""Again to those whom a message did not reach: gathered page by page, whatever dies, comes twice or late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from services.messaging.tests.integration.conftest import envelope

from koinonia.api.messages import Exclude
from koinonia.db import statement
from koinonia.errors import Conflict, NotFound
from koinonia.events.delivery import FailedListed
from koinonia.events.messaging import FailedRequested
from koinonia_messaging import merging, resending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.api.messages import Message

MEMBERS = statement("test.members", "SELECT id FROM members ORDER BY first_name")
KEPT = statement("test.kept", "SELECT count(*) FROM resend_members")


async def member_ids(church: Church) -> list[UUID]:
    async with church.database.tenant(church.id) as tx:
        return [row["id"] for row in await tx.fetch(MEMBERS)]


async def kept(church: Church) -> Any:
    async with church.database.tenant(church.id) as tx:
        return await tx.fetch_value(KEPT)


async def resend(church: Church, message_id: UUID) -> Message:
    async with church.database.tenant(church.id) as tx:
        return await resending.resend_failed(tx, church.actor, message_id)


async def answered(church: Church, *pages: tuple[UUID, ...]) -> None:
    """Delivery's answers to the last question and those that follow it, each delivered twice."""
    for place, page in enumerate(pages):
        question = (await church.published(FailedRequested))[-1]
        listed = envelope(
            FailedListed(
                message_id=question.message_id,
                source_id=question.source_id,
                after=question.after,
                member_ids=page,
                last=page[-1] if place < len(pages) - 1 else None,
            ),
            church.id,
        )
        await church.receive(listed, killed=True)
        for _ in range(2):
            await church.receive(listed)


@pytest.fixture
async def failed(church: Church) -> UUID:
    """A message to six of whom it did not reach four."""
    await church.add_crowd(6)
    message_id = await church.dispatch("Hi {{firstName}}", tags=["sunday"])
    await church.stream_all(message_id)
    await church.report(message_id, {"delivered": 2, "failed": 1, "undelivered": 2, "expired": 1})
    return message_id


async def test_it_goes_to_those_whom_it_did_not_reach_and_may_be_texted_now(church: Church, failed: UUID) -> None:
    people = await member_ids(church)
    before = len(await church.recipients())
    again = await resend(church, failed)
    assert (again.status, again.content, again.tags, again.resend_of) == (
        "accepted",
        "Hi {{firstName}}",
        ["sunday"],
        failed,
    )
    assert again.total_recipients == 4
    assert not await church.ask(again.id)
    assert await church.schedule().due_round() == 0
    await answered(church, (people[0], people[1]), (people[2],), (people[3],))
    assert [each.after for each in await church.published(FailedRequested)] == [None, people[1], people[2]]
    assert await kept(church) == 4
    await church.stop("+13125550002")
    assert await church.ask(again.id)
    assert (await church.questions())[-1] == (1, 4, 3)
    assert await church.authorize(again.id)
    await church.stream_all(again.id, numbers=2)
    sent = (await church.recipients())[before:]
    assert {each.member_ids[0]: each.left_out for each in sent} == {
        people[0]: None,
        people[1]: None,
        people[2]: "suppressed",
        people[3]: None,
    }


async def test_a_merged_person_is_sent_to_at_the_record_that_was_kept_and_not_who_was_excluded(church: Church) -> None:
    await church.add_crowd(6)
    zero, one, two, three, _, five = await member_ids(church)
    source = await church.dispatch(exclude=Exclude(member_ids=[five]))
    await church.stream_all(source)
    await church.report(source, {"failed": 4, "sent": 1})
    with pytest.raises(Conflict, match="handed_over"):
        await resend(church, source)  # who fails after it would get none
    await church.report(source, {"sent": -1, "failed": 1})
    again = await resend(church, source)
    assert again.exclude == Exclude(member_ids=[five])
    before = len(await church.recipients())
    await merge(church, zero, one)  # before they are told
    await answered(church, (one,), (two, five))
    await merge(church, three, two)  # and after
    await church.ask(again.id)
    assert await church.authorize(again.id)
    await church.stream_all(again.id)
    assert sorted(each.member_ids for each in (await church.recipients())[before:]) == [(zero,), (three,)]


async def merge(church: Church, kept_id: UUID, other_id: UUID) -> None:
    async with church.database.tenant(church.id) as tx:
        await merging.merge(tx, church.actor, kept_id, other_id)


async def test_nobody_is_sent_to_again_twice(
    church: Church, failed: UUID, new_church: Callable[[], Awaitable[Church]]
) -> None:
    outcomes = await asyncio.gather(*(resend(church, failed) for _ in range(3)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "Conflict", "Message"]
    (again,) = [each for each in outcomes if not isinstance(each, BaseException)]
    await church.cancel(again.id)
    people = await member_ids(church)
    await answered(church, (people[0],), (people[1],))  # too late: it was cancelled
    assert (await kept(church), len(await church.published(FailedRequested))) == (0, 1)
    second = await resend(church, failed)  # of the first nothing has gone
    await answered(church, tuple(people[:4]))
    await church.ask(second.id)
    assert await church.authorize(second.id)
    assert await church.stream(second.id, 2)
    await church.cancel(second.id)
    with pytest.raises(Conflict):
        await resend(church, failed)
    with pytest.raises(NotFound):
        await resend(await new_church(), failed)


async def test_a_message_under_way_or_that_reached_everybody_is_not_sent_again(church: Church) -> None:
    await church.add_crowd(2)
    message_id = await church.dispatch()
    with pytest.raises(Conflict):
        await resend(church, message_id)
    await church.stream_all(message_id)
    await church.report(message_id, {"delivered": 1, "unconfirmed": 1})
    with pytest.raises(Conflict):
        await resend(church, message_id)
