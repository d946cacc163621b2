"""The same request twice has its effect once."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.errors import Conflict
from koinonia.ids import new_id
from koinonia.testing.web_world import Note, Notes
from koinonia.web import Answer
from koinonia.web.idempotency import Key, store

BACKDATE = statement("test.backdate", "UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")


async def send(notes: Notes, key: str, text: str = "hello", path: str = "/notes") -> tuple[int, Any, bool]:
    response = await notes.call("POST", path, json={"text": text}, headers={"Idempotency-Key": key})
    return response.status, await response.json(), response.headers.get("Idempotent-Replayed") == "true"


async def test_the_same_key_and_body_give_the_first_answer_again(notes: Notes) -> None:
    first = await send(notes, "key-1")
    again = await send(notes, "key-1")
    assert (first[0], first[2]) == (201, False)
    assert again == (201, first[1], True)
    assert await notes.count() == 1


async def test_a_request_is_answered_again_after_its_time_is_over(notes: Notes) -> None:
    body = {"text": "hello", "notAfter": (clock.now() + timedelta(hours=1)).isoformat()}
    headers = {"Idempotency-Key": "key-1"}
    first = await notes.call("POST", "/notes", json=body, headers=headers)
    with clock.shifted(7200):
        again = await notes.call("POST", "/notes", json=body, headers=headers)
        late = [
            await notes.call("POST", "/notes", json=body),
            await notes.call("POST", "/notes", json=body, headers={"Idempotency-Key": "key-2"}),
        ]
    assert (first.status, again.status) == (201, 201)
    assert await first.json() == await again.json()
    assert [(answer.status, (await answer.json())["error"]["details"][0]["field"]) for answer in late] == [
        (400, "notAfter")
    ] * 2


async def test_another_body_under_the_same_key_is_refused(notes: Notes) -> None:
    await send(notes, "key-1")
    status, body, _ = await send(notes, "key-1", "something else")
    assert (status, body["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert await notes.count() == 1


async def test_keys_of_other_principals_and_churches_are_other_keys(notes: Notes) -> None:
    await send(notes, "key-1")
    notes.principal_id = new_id()
    assert (await send(notes, "key-1"))[2] is False
    assert await notes.count() == 2
    notes.church_id = new_id()
    assert (await send(notes, "key-1"))[2] is False


async def test_a_twin_that_still_runs_is_answered_409_at_once(notes: Notes) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        began.set()
        await go.wait()

    notes.trouble = hold
    first = asyncio.create_task(send(notes, "key-1"))
    await began.wait()
    status, body, _ = await asyncio.wait_for(send(notes, "key-1"), 5)
    assert (status, body["error"]["code"]) == (409, "CONFLICT")
    go.set()
    assert (await first)[0] == 201
    assert await notes.count() == 1


async def test_twenty_twins_at_once_make_one(notes: Notes) -> None:
    answers = await asyncio.gather(*(send(notes, "key-1") for _ in range(20)))
    assert {answer[0] for answer in answers} <= {201, 409, 503}  # 503: four connections for twenty
    assert await notes.count() == 1
    assert sum(1 for answer in answers if answer[0] == 201 and not answer[2]) == 1


async def test_a_twin_that_missed_the_others_commit_is_rolled_back(notes: Notes) -> None:
    await send(notes, "key-1")
    key = Key(principal_id=notes.principal_id, path="POST /notes", key="key-1", body_hash=b"")
    with pytest.raises(Conflict):
        async with notes.database.tenant(notes.church_id) as tx:
            await store(tx, key, 201, None)


async def test_a_request_that_failed_keeps_no_key(notes: Notes) -> None:
    async def fail() -> None:
        raise RuntimeError("a bug")

    notes.trouble = fail
    assert (await send(notes, "key-1"))[0] == 500
    notes.trouble = None
    assert (await send(notes, "key-1"))[::2] == (201, False)
    assert await notes.count() == 1


async def test_a_key_holds_for_24_hours_from_the_first_request(notes: Notes) -> None:
    await send(notes, "key-1")
    async with notes.database.tenant(notes.church_id) as tx:
        await tx.execute(BACKDATE)
    assert (await send(notes, "key-1", "other"))[::2] == (201, False)
    assert (await send(notes, "key-1", "other"))[::2] == (201, True)
    assert await notes.count() == 2


async def test_an_answer_without_a_body_is_given_again(notes: Notes) -> None:
    _, note, _ = await send(notes, "key-1")
    for replayed in (None, "true"):
        response = await notes.call("DELETE", f"/notes/{note['id']}", headers={"Idempotency-Key": "key-2"})
        assert (response.status, response.headers.get("Idempotent-Replayed")) == (204, replayed)
    response = await notes.call("DELETE", f"/notes/{note['id']}", headers={"Idempotency-Key": str(uuid4())})
    assert response.status == 404


@pytest.mark.parametrize("key", ["", "with space", "é", "x" * 256])
async def test_a_key_that_is_no_key_is_refused_by_name(notes: Notes, key: str) -> None:
    status, body, _ = await send(notes, key)
    assert (status, body["error"]["details"][0]["field"]) == (400, "Idempotency-Key")


async def test_a_key_costs_two_statements(
    notes: Notes, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    with count_statements() as counted:
        await send(notes, "key-1")
    assert counted.by_name == {"idempotency.claim": 1, "notes.insert": 1, "idempotency.store": 1}


async def test_what_is_confirmed_after_the_commit_is_the_answer_also_of_a_request_sent_again(notes: Notes) -> None:
    counts = []

    async def confirm(call: Any) -> Answer:
        counts.append(await notes.count())  # another transaction sees what was made
        return Answer(body=Note(id=call.made_id, text=f"confirmed {len(counts)}"), status=200)

    notes.confirmation = confirm
    first = await send(notes, "key-1")
    again = await send(notes, "key-1")
    assert (first[0], first[1]["text"], first[2]) == (200, "confirmed 1", False)
    assert (again[0], again[1]["text"], again[2]) == (200, "confirmed 2", True)
    assert again[1]["id"] == first[1]["id"]
    assert counts == [1, 1]


async def test_what_cannot_be_confirmed_is_answered_as_it_was_made(notes: Notes) -> None:
    async def confirm(_call: Any) -> None:
        return None

    notes.confirmation = confirm
    assert (await send(notes, "key-1"))[0] == 201
    assert (await send(notes, "key-1"))[::2] == (201, True)
