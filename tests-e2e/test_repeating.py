"""A gateway killed between forwarding and answering: who asks again with the same key learns what was done, once."""

import asyncio
import hashlib
import os
import secrets
import signal
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import pytest

from koinonia.testing.fixtures import wait_until

from .caller import Answer, Caller
from .church import Church, people
from .platform import Platform

DIES, REMAINS = "gateway-1", "gateway-2"
REPLAYED = "Idempotent-Replayed"
KEYS = tuple(f"{owner}.idempotency_keys" for owner in ("gateway", "messaging", "conversation", "delivery"))


@dataclass(frozen=True)
class Act:
    """A request that changes something, under a key of its own."""

    path: str
    body: Any
    key: str

    async def ask(self, caller: Caller) -> Answer:
        """Ask once; nothing is tried again."""
        body = None if self.body is None else msgspec.json.encode(self.body)
        return await caller.send("POST", self.path, body, {"Idempotency-Key": self.key})

    async def ask_until_heard(self, caller: Caller) -> Answer:
        """Ask as a client does that may be told that its first request is still running."""
        answers: list[Answer] = []

        async def is_heard() -> bool:
            answers.append(await self.ask(caller))
            return answers[-1].status != 409

        await wait_until(is_heard, seconds=30, what="the end of the first request")
        return answers[-1]


def act(path: str, body: Any = None) -> Act:
    """One under a new key."""
    return Act(path, body, secrets.token_hex(8))


@pytest.mark.native("on containers there is one gateway")
async def test_who_repeats_what_a_killed_gateway_left_unanswered_learns_what_was_done_once(church: Church) -> None:
    client, platform = church.client, church.platform
    (texter,) = await church.add(1)
    await platform.carrier.person_texts(texter.phone, church.number, "Hello there")
    thread, number = await conversation(church), (await anext(client.numbers.list())).id
    (new,) = people(1)
    forwarded = [
        act("/api/groups", {"name": "Once"}),
        act("/api/members", {"firstName": new.first_name, "lastName": new.last_name, "phone": new.phone}),
        act("/api/messages/send", {"content": "Sent once.", "targetType": "all"}),
        act(f"/api/conversations/{thread}/reply", {"content": "Replied once."}),
        act(f"/api/numbers/{number}/pause"),
    ]
    own = act("/api/admin/api-keys", {"name": "Once", "role": "viewer"})
    urls = [platform.process(name).url for name in (DIES, REMAINS)]
    async with Caller(church, urls[0]) as first, Caller(church, urls[1]) as other:
        for path in ("/api/groups", "/api/conversations", "/api/numbers", "/api/admin/api-keys"):
            assert (await first.send("GET", path)).status == 200  # each owner is connected to: the lock is short
        unanswered = await killed_amid(platform, first, [*forwarded, own], forwarded)
        assert all(isinstance(each, aiohttp.ClientError) for each in unanswered), unanswered

        for each in forwarded:
            answers = [await each.ask(caller) for caller in (other, first)]
            assert all(REPLAYED in answer.headers for answer in answers), (each, answers)
            assert answers[0].status == answers[1].status < 300
            assert id_of(answers[0]) == id_of(answers[1])
        made, again = await own.ask_until_heard(other), await own.ask(first)
        assert (made.status, again.status) == (201, 201), (made, again)
        assert (REPLAYED in made.headers, REPLAYED in again.headers) == (False, True)  # it had died with the gateway
        assert id_of(made) == id_of(again)
        assert (await first.send("POST", f"/api/numbers/{number}/resume")).status == 200

    assert [each.name async for each in client.groups.list()] == ["Once"]
    assert [each.phone async for each in client.members.list()].count(new.phone) == 1
    assert [each.name async for each in client.api_keys.list()] == ["Once"]
    (message,) = [each async for each in client.messages.list()]
    done = await client.messages.wait_until_completed(message.id, timeout_seconds=90)
    await wait_until(lambda: is_texted(church, "Replied once."), seconds=60, what="the reply")
    texts = Counter(text.text for text in await church.texts())
    assert (texts["Sent once."], texts["Replied once."]) == (done.counts.delivered, 1)
    await church.agrees(message.id)


async def killed_amid(
    platform: Platform, caller: Caller, acts: Collection[Act], forwarded: Collection[Act]
) -> list[Answer | BaseException]:
    """Ask the gateway for all these, and kill it when all that it forwards is done, and nothing answered.

    1. Nobody can read an idempotency key: each act waits for that at its owner, so the gateway has passed it on.
    2. The gateway is stopped in its tracks. The owners go on, commit, and answer one who does not listen.
    3. The gateway is killed, and with it its own act, which it could not commit.
    """
    pid = platform.process(DIES).pid
    assert pid is not None
    url = platform.process("postgres").url
    holding, looking = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        async with holding.transaction():
            await holding.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")
            asking = [asyncio.create_task(each.ask(caller)) for each in acts]
            await wait_until(lambda: are_claimed(looking, len(acts)), seconds=9, what="every act at its owner")
            os.kill(pid, signal.SIGSTOP)
        try:
            await wait_until(lambda: are_done(looking, forwarded), seconds=30, what="what was forwarded")
            assert not any(each.done() for each in asking)
        finally:
            await platform.kill(DIES)
    finally:
        await holding.close()
        await looking.close()
    return await asyncio.gather(*asking, return_exceptions=True)


async def are_claimed(database: asyncpg.Connection, count: int) -> bool:
    """Whether so many transactions wait for the table of keys to claim theirs."""
    waiting = """
        SELECT count(*)
        FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND wait_event = 'relation' AND query LIKE '%pg_try_advisory_xact_lock%'
    """
    return bool(await database.fetchval(waiting) == count)


async def are_done(database: asyncpg.Connection, acts: Collection[Act]) -> bool:
    """Whether the keys of all these are stored: what is stored with them is committed."""
    stored = [hashlib.sha256(each.key.encode()).hexdigest() for each in acts]
    found = [await database.fetchval(f"SELECT count(*) FROM {table} WHERE key = ANY ($1)", stored) for table in KEYS]
    return bool(sum(found) == len(stored))


def id_of(answer: Answer) -> str:
    """Of what was made or changed, wherever the answer has it."""
    found = answer.json()
    named = [found, *(each for each in found.values() if isinstance(each, dict))]
    return next(str(each["id"]) for each in named if "id" in each)


async def conversation(church: Church) -> UUID:
    """The church's only one, once it is there."""

    async def found() -> UUID | None:
        return next(iter([each.id async for each in church.client.conversations.list()]), None)

    thread = await wait_until(found, what="the conversation")
    assert isinstance(thread, UUID)
    return thread


async def is_texted(church: Church, content: str) -> bool:
    """Whether the carrier has such a text of this church's."""
    return content in {text.text for text in await church.texts()}
