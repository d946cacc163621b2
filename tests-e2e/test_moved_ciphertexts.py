"""Ciphertexts that somebody with the database moved about. Comes late: it leaves errors in the logs on purpose."""

import base64
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

from koinonia.testing.fixtures import wait_until

from .caller import Answer, Caller
from .church import Church, Person
from .platform import Platform


async def test_a_ciphertext_moved_to_another_church_or_kind_does_not_open(
    new_church: Callable[[], Awaitable[Church]],
) -> None:
    theirs, ours = await new_church(), await new_church()
    (anna,) = await theirs.add(1)
    plain, moved, mistaken = await ours.add(3)
    ids = {member.phone: member.id async for member in ours.client.members.list()}
    hers = {member.phone: member.id async for member in theirs.client.members.list()}[anna.phone]
    database = await asyncpg.connect(ours.platform.process("postgres").url)
    take = "UPDATE messaging.members SET phone_ciphertext = ({}) WHERE id = $1 RETURNING phone_ciphertext"
    before = "SELECT id, phone_ciphertext FROM messaging.members WHERE id = ANY ($1)"
    kept = await database.fetch(before, [ids[moved.phone], ids[mistaken.phone]])
    try:
        from_her = take.format("SELECT phone_ciphertext FROM messaging.members WHERE id = $2")
        planted = [await database.fetchval(from_her, ids[moved.phone], hers)]
        planted += [await database.fetchval(take.format("email_ciphertext"), ids[mistaken.phone])]
        assert None not in planted
        async with Caller(ours) as caller:
            for person in (moved, mistaken):
                answer = await caller.send("GET", f"/api/members/{ids[person.phone]}")
                assert_clear_and_silent(answer, [anna, moved, mistaken], planted)
            assert_clear_and_silent(await caller.send("GET", "/api/members"), [anna, moved, mistaken], planted)
            answer = await caller.send("GET", f"/api/members/{ids[plain.phone]}")
            assert (answer.status, answer.json()["phone"]) == (200, plain.phone)
        assert [member.phone async for member in theirs.client.members.list()] == [anna.phone]

        # The chunk on the bus carries both, delivery stores them: nobody gets a text but whom it is meant for.
        message = await ours.send("To whom it may concern.")

        async def is_all_that_can_be_done() -> bool:
            counts = (await ours.client.messages.get(message.id)).counts
            return counts.delivered == 1 and counts.queued == 2

        await wait_until(is_all_that_can_be_done, seconds=30, what="the one text")
        refused = await wait_until(lambda: refusals(ours.platform, message.id), seconds=30, what="two refusals")
        assert refused == {"It cannot be read; support has been told."}
        assert [text.recipient for text in await ours.texts()] == [plain.phone]
        assert await theirs.texts() == []
        to_anna = await theirs.send("To Anna.")
        await theirs.client.messages.wait_until_completed(to_anna.id, timeout_seconds=90)
        await theirs.agrees(to_anna.id)
        await ours.client.messages.cancel(message.id)

        async def are_cancelled() -> bool:
            counts = (await ours.client.messages.get(message.id)).counts
            return (counts.delivered, counts.cancelled) == (1, 2)

        await wait_until(are_cancelled, seconds=30, what="the two cancelled copies")
        assert [text.recipient for text in await ours.texts()] == [plain.phone]
    finally:
        await database.executemany("UPDATE messaging.members SET phone_ciphertext = $2 WHERE id = $1", map(tuple, kept))
        await database.execute("DELETE FROM delivery.recipients WHERE phone_ciphertext = ANY ($1)", planted)
        await database.close()
    async with Caller(ours) as caller:
        assert (await caller.send("GET", f"/api/members/{ids[moved.phone]}")).json()["phone"] == moved.phone


def assert_clear_and_silent(answer: Answer, concerned: list[Person], planted: list[bytes]) -> None:
    """It says that something cannot be read, and nothing of whom it was."""
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert answer.json()["error"]["message"] == "A stored value cannot be decrypted."
    hidden = [text.encode() for person in concerned for text in (person.phone, person.phone[2:], person.email)]
    hidden += [base64.b64encode(each)[:40] for each in planted] + [each.hex().encode()[:40] for each in planted]
    assert [each for each in hidden if each in answer.body] == []


async def refusals(platform: Platform, message_id: UUID) -> set[str]:
    """What is said of the copies of a message that could not be sent, once it is said of two."""
    database = await asyncpg.connect(platform.process("postgres").url)
    try:
        query = "SELECT error_message FROM delivery.recipients WHERE source_id = $1 AND error_message IS NOT NULL"
        said = [row["error_message"] for row in await database.fetch(query, message_id)]
    finally:
        await database.close()
    return set(said) if len(said) == 2 else set()
