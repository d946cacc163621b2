"""What messaging tells of a recipient: the message's times, and consent that an admin withdrew."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec import structs

from koinonia import clock
from koinonia.api.messages import SendRequest
from koinonia.db import statement
from koinonia.ids import new_id
from koinonia.trail import Part, Question
from koinonia_messaging import approvals, messages, trail
from koinonia_messaging.store import pauses

from .conftest import Church, phone

OPT_OUT = statement("test.opt_out", "INSERT INTO opt_outs (church_id, phone_index, occurred_at) VALUES ($1, $2, $3)")


def question(church: Church, message_id: UUID, **fields: Any) -> Question:
    values: dict[str, Any] = {
        "recipient_id": new_id(),
        "kind": "broadcast",
        "phone_index": church.keys.index(phone(0), church.id, "phone"),
        "status": "delivered",
        "accepted_at": None,
        "until": clock.now(),
        **fields,
    }
    return Question(source_id=message_id, **values)


async def tell(church: Church, asked: Question) -> Part:
    async with church.database.tenant(church.id) as tx:
        return await trail.tell(tx, asked)


async def test_a_messages_times_are_told_with_its_trace(church: Church) -> None:
    await church.add_crowd(2)
    later = clock.now() + timedelta(hours=1)
    message = await church.send("Hello", scheduled_at=later)
    told = await tell(church, question(church, message.id))
    assert [(entry.event, entry.until) for entry in told.entries] == [("requested", None), ("scheduled", later)]
    await church.cancel(message.id)
    told = await tell(church, question(church, message.id))
    assert [entry.event for entry in told.entries] == ["requested", "scheduled", "cancelled"]
    sent = await church.dispatch()
    told = await tell(church, question(church, sent))
    assert [entry.event for entry in told.entries] == ["requested", "dispatched"]
    row = await church.row(sent)
    assert [entry.at for entry in told.entries] == [row["created_at"], row["dispatched_at"]]
    assert told.traceparent == row["traceparent"]


async def test_who_let_it_go_and_what_it_came_from_is_told(church: Church) -> None:
    await church.add_crowd(2)
    await church.set_rules(approval_above=1)
    actor = structs.replace(church.actor, principal_id=new_id())
    approved, rejected = await church.send(), await church.send()
    async with church.database.tenant(church.id) as tx:
        await approvals.approve(tx, actor, approved.id, at_once=False)
        await approvals.reject(tx, actor, rejected.id, "Wrong date")
        run_id = await messages.accept_run(tx, SendRequest(content="Run", target_type="all"), new_id(), new_id())
    told = [await tell(church, question(church, each)) for each in (approved.id, rejected.id, run_id)]
    assert [[entry.event for entry in each.entries] for each in told] == [
        ["requested", "authorized"],
        ["requested", "cancelled"],
        ["requested"],
    ]
    assert told[1].entries[1].sentence == "It was not approved: Wrong date"
    assert "a run of recurring message" in told[2].entries[0].sentence


async def test_why_a_message_paused_itself_is_told_while_it_rests(church: Church) -> None:
    await church.add_crowd(2)
    sent = await church.dispatch()
    async with church.database.tenant(church.id) as tx:
        await pauses.pause(tx, sent, clock.now(), "3 of 4 texts failed.")
    told = await tell(church, question(church, sent))
    assert (told.entries[-1].event, told.entries[-1].sentence) == (
        "paused",
        "The message paused itself: 3 of 4 texts failed.",
    )
    async with church.database.tenant(church.id) as tx:
        await pauses.resume(tx, sent)
    assert [entry.event for entry in (await tell(church, question(church, sent))).entries] == [
        "requested",
        "dispatched",
    ]


async def test_withdrawn_consent_is_told_where_it_kept_the_text_back(church: Church) -> None:
    withdrawn_at = clock.now()
    index = church.keys.index(phone(0), church.id, "phone")
    async with church.database.tenant(church.id) as tx:
        await tx.execute(OPT_OUT, church.id, index, withdrawn_at)
    told = await tell(church, question(church, new_id(), status="suppressed"))
    assert [(entry.event, entry.at) for entry in told.entries] == [("consent_withdrawn", withdrawn_at)]
    for other in (
        {"status": "delivered"},
        {"status": "suppressed", "until": withdrawn_at - timedelta(seconds=1)},
        {"status": "suppressed", "phone_index": b"x" * 16},
    ):
        assert (await tell(church, question(church, new_id(), **other))).entries == []


async def test_an_operators_transaction_finds_no_other_churchs_rows(church: Church) -> None:
    """It sees every church's rows: only the statement keeps them apart."""
    await church.add_crowd(1)
    sent = await church.dispatch()
    async with church.database.tenant(new_id()) as tx:
        assert (await trail.tell(tx, question(church, sent))).entries == []
