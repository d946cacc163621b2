"""Consents that a church says were given: proof that is kept once, says where, and lifts nobody's opt-out."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.messaging import ConsentsGiven, GivenConsent
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia_compliance import consents
from koinonia_compliance.store import consents as store

Says = Callable[..., Any]
Apply = Callable[..., Awaitable[None]]
CountStatements = Callable[[], AbstractContextManager[StatementLog]]

PERSON = "+12025550123"
_CONSENTS = statement("test.consents", "SELECT * FROM consents ORDER BY occurred_at, id")
_OPT_OUTS = statement("test.opt_outs", "SELECT state FROM opt_outs")


async def proofs(database: Database, church_id: UUID) -> list[Any]:
    async with database.tenant(church_id) as tx:
        return await tx.fetch(_CONSENTS)


def given(keys: Keys, church_id: UUID, number: int = 0, version: int = 1, source: str = "paper card") -> GivenConsent:
    index = keys.index(PERSON if number == 0 else f"+1202555{number:04}", church_id, "phone")
    return GivenConsent(member_id=UUID(int=number + 1), version=version, phone_index=index, source=source)


def told(church_id: UUID, *rows: GivenConsent, **values: Any) -> Envelope[ConsentsGiven]:
    data = ConsentsGiven(consents=rows, **{"said_by": "import", "said_at": clock.now(), **values})
    return Envelope(id=new_id(), time=clock.now(), data=data, church_id=church_id)


async def test_a_stated_consent_is_kept_with_where_it_was_given(
    apply: Apply, database: Database, keys: Keys, church_id: UUID
) -> None:
    event = told(church_id, given(keys, church_id), given(keys, church_id, 1, source="web form"))
    await apply(event)
    rows = await proofs(database, church_id)
    assert {(row["source"], row["stated_source"], row["granted"]) for row in rows} == {
        ("import", "paper card", True),
        ("import", "web form", True),
    }
    assert {row["member_id"] for row in rows} == {UUID(int=1), UUID(int=2)}
    assert {row["phone_index"] for row in rows} == {each.phone_index for each in event.data.consents}
    assert {row["occurred_at"] for row in rows} == {event.data.said_at}
    assert {(row["number_id"], row["carrier_id"]) for row in rows} == {(None, None)}


async def test_the_same_consent_is_kept_once_in_whatever_event_and_however_late(
    apply: Apply, database: Database, keys: Keys, church_id: UUID
) -> None:
    event = told(church_id, given(keys, church_id))
    await apply(event, event)
    later = told(church_id, given(keys, church_id), given(keys, church_id, 1), said_at=clock.now() + timedelta(days=9))
    await apply(later)
    rows = await proofs(database, church_id)
    assert [(row["member_id"], row["occurred_at"]) for row in rows] == [
        (UUID(int=1), event.data.said_at),
        (UUID(int=2), later.data.said_at),
    ]
    await apply(told(church_id, given(keys, church_id, version=3)))
    assert len(await proofs(database, church_id)) == 3


async def test_killed_before_the_commit_it_leaves_nothing_and_is_kept_when_it_comes_again(
    apply: Apply, database: Database, keys: Keys, church_id: UUID
) -> None:
    event = told(church_id, given(keys, church_id))
    with pytest.raises(InterruptedError):
        async with database.tenant(church_id) as tx:
            await consents.record(tx, event)
            raise InterruptedError
    assert await proofs(database, church_id) == []
    await apply(event)
    assert len(await proofs(database, church_id)) == 1


async def test_what_a_church_says_lifts_no_opt_out_and_is_not_told_as_the_persons_own_word(
    apply: Apply, says: Says, database: Database, keys: Keys, church_id: UUID
) -> None:
    await apply(says("STOP"), told(church_id, given(keys, church_id)))
    index, now = keys.index(PERSON, church_id, "phone"), clock.now()
    async with database.tenant(church_id) as tx:
        assert [row["state"] for row in await tx.fetch(_OPT_OUTS)] == ["opted_out"]
        said = await store.list_while(tx, index, now - timedelta(hours=1), now + timedelta(hours=1))
    assert [row["granted"] for row in said] == [False]


async def test_another_church_sees_no_proof(apply: Apply, database: Database, keys: Keys, church_id: UUID) -> None:
    await apply(told(church_id, given(keys, church_id)))
    assert await proofs(database, new_id()) == []


async def test_five_hundred_consents_are_one_statement(
    apply: Apply, database: Database, keys: Keys, church_id: UUID, count_statements: CountStatements
) -> None:
    event = told(church_id, *(given(keys, church_id, number) for number in range(500)))
    with count_statements() as counted:
        await apply(event)
    assert (counted.by_name["consents.insert_stated"], counted.count) == (1, 2)
    assert len(await proofs(database, church_id)) == 500
