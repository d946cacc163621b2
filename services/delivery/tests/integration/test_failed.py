"""Whom a message did not reach, told page by page."""

from uuid import UUID

import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia.events.delivery import FailedListed
from koinonia.events.messaging import FailedRequested
from koinonia.ids import new_id
from koinonia_delivery import failed


async def ask(world: World, source_id: UUID, after: UUID | None = None) -> FailedListed:
    """The answer to one question, which comes twice."""
    await world.clear_events()
    question = world.envelope(FailedRequested(message_id=new_id(), source_id=source_id, after=after))
    for _ in range(2):
        await world.apply("delivery.failed", question)
    (answer,) = await world.events(FailedListed)
    assert (answer.data.message_id, answer.data.after) == (question.data.message_id, after)
    return answer.data


async def test_those_whom_it_did_not_reach_are_listed_once_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed, "PAGE_RECIPIENTS", 2)
    await world.suppress(6)
    message_id = await world.store(7)
    claim = await world.claim(100)
    await world.settle(*(accepted(call.claimed) for call in claim.calls))
    rows = [row for row in await world.rows(message_id) if row["status"] == "sent"]
    words = ["delivery_failed"] * 4 + ["delivered", "delivery_unconfirmed"]
    await world.receive(*(receipt(row["id"], word) for row, word in zip(rows, words, strict=True)))
    expected = [row["member_ids"][0] for row in rows[:4]]
    first = await ask(world, message_id)
    assert (list(first.member_ids), first.last) == (expected[:2], rows[1]["id"])
    second = await ask(world, message_id, first.last)
    assert (list(second.member_ids), second.last) == (expected[2:], rows[3]["id"])
    last = await ask(world, message_id, second.last)
    assert (last.member_ids, last.last) == ((), None)


async def test_of_a_message_that_is_not_known_there_are_none(world: World) -> None:
    answer = await ask(world, new_id())
    assert (answer.member_ids, answer.last) == ((), None)
