"""What compliance tells of a recipient: what the person said by text and when, and who did what."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from koinonia import clock
from koinonia.api.messages import Actor
from koinonia.db import Database
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.ids import derived_id, new_id
from koinonia.security.keys import Keys
from koinonia.trail import Part, Question, merge
from koinonia_compliance import trail

from .conftest import PERSON

Apply = Callable[..., Awaitable[None]]
NOW = clock.now()
SENT = NOW - timedelta(hours=1)
MESSAGE, RECIPIENT = new_id(), derived_id(SENT, b"m", b"p")


def question(keys: Keys, church_id: UUID, **fields: Any) -> Question:
    values: dict[str, Any] = {
        "kind": "broadcast",
        "phone_index": keys.index(PERSON, church_id, "phone"),
        "status": "suppressed",
        "accepted_at": None,
        "until": NOW,
        **fields,
    }
    return Question(recipient_id=RECIPIENT, source_id=MESSAGE, **values)


async def tell(database: Database, church_id: UUID, asked: Question) -> Part:
    async with database.tenant(church_id) as tx:
        return await trail.tell(tx, asked)


async def test_what_held_then_and_what_was_said_meanwhile_is_told_and_no_word_of_it(
    database: Database, apply: Apply, says: Any, keys: Keys, church_id: UUID
) -> None:
    times = [
        SENT - timedelta(days=2),
        SENT - timedelta(days=1),
        SENT + timedelta(minutes=1),
        NOW + timedelta(minutes=1),
    ]
    for text, at in zip(("START", "Stop, please stop", "START", "STOP"), times, strict=True):
        await apply(says(text if text != "Stop, please stop" else "stop all", at=at))
    told = await tell(database, church_id, question(keys, church_id))
    assert [(entry.event, entry.at) for entry in told.entries] == [("opted_out", times[1]), ("opted_in", times[2])]
    assert {entry.sentence for entry in told.entries} == {
        "This person opted out, by text.",
        "This person agreed to texts again, by text.",
    }
    others = question(keys, church_id, phone_index=b"x" * 16)
    assert (await tell(database, church_id, others)).entries == []


async def test_an_agreement_before_is_no_news(
    database: Database, apply: Apply, says: Any, keys: Keys, church_id: UUID
) -> None:
    await apply(says("START", at=SENT - timedelta(days=1)))
    assert (await tell(database, church_id, question(keys, church_id))).entries == []


async def test_who_asked_paused_and_decided_is_told_from_the_audit_log(
    database: Database, apply: Apply, keys: Keys, church_id: UUID
) -> None:
    ruth, stranger = new_id(), new_id()

    async def act(
        action: str, target_id: UUID, church: UUID = church_id, actor_id: UUID | None = ruth, at: datetime = NOW
    ) -> None:
        data = ActionRecorded(
            action=action,
            actor_kind="session",
            actor_id=actor_id,
            outcome="success",
            occurred_at=at,
            target_kind="thing",
            target_id=target_id,
        )
        await apply(Envelope(id=new_id(), time=NOW, data=data, church_id=church))

    await act("message.accepted", MESSAGE)
    await act("recipient.resend", RECIPIENT)
    await act("member.updated", MESSAGE)  # nothing that a trail tells
    await act("message.cancelled", new_id())  # another message
    await act("message.cancelled", MESSAGE, church=new_id(), actor_id=stranger)
    told = await tell(database, church_id, question(keys, church_id))
    assert [(each.event, each.actor_id) for each in told.acts] == [("requested", ruth), ("resent", ruth)]
    assert told.entries == []
    await act("message.paused", MESSAGE, at=SENT + timedelta(minutes=1))
    await act("message.resumed", MESSAGE, at=SENT + timedelta(minutes=2))
    await act("sending.paused", church_id, at=SENT - timedelta(days=1))  # over before it was sent
    await act("sending.resumed", church_id, at=SENT + timedelta(minutes=3))
    await act("sending.paused", church_id, at=NOW + timedelta(minutes=1))  # it was closed then
    told = await tell(database, church_id, question(keys, church_id))
    assert [(each.event, each.sentence) for each in told.entries] == [
        ("paused", "The message was paused."),
        ("resumed", "The message went on."),
        ("resumed", "The church's sending went on."),
    ]
    (first, *_) = merge([told], {ruth: Actor(id=ruth, kind="admin", name="Ruth")})
    assert first.sentence == "Ruth paused it."
