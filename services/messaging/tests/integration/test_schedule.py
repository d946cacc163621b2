"""The loops: what fails does not hold up the rest, what is away is waited for; and the plans that they rest on."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.errors import DependencyUnavailable
from koinonia.events.messaging import MessageDue
from koinonia.ids import new_id
from koinonia_messaging import broadcasts
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store import members as member_store
from koinonia_messaging.store.broadcasts import Leases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db import Statement
    from koinonia.testing.servers import TestServers

    Fail = Callable[..., None]
    NewChurch = Callable[[], Awaitable[Church]]
    WaitUntil = Callable[..., Awaitable[object]]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let the page of one message, and the question for it, fail, once or always."""

    def fail(message_id: UUID, *errors: Exception, always: bool = False) -> None:
        failures = list(errors)

        def broken(original: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
            async def work(tx: Any, each: UUID) -> bool:
                if each == message_id and failures:
                    raise failures[0] if always else failures.pop()
                return await original(tx, each)

            return work

        for name in ("ask_when_due", "stream_page"):
            monkeypatch.setattr(broadcasts, name, broken(getattr(broadcasts, name)))

    return fail


OF_ONE_MESSAGE = [
    pytest.param(ValueError("a bug"), id="bug"),
    pytest.param(TimeoutError(), id="transaction"),
    pytest.param(asyncpg.QueryCanceledError("too slow"), id="statement"),
    pytest.param(asyncpg.DeadlockDetectedError("a deadlock"), id="deadlock"),
]
AWAY = [
    pytest.param(DependencyUnavailable(), id="pool"),
    pytest.param(ConnectionResetError(), id="network"),
    pytest.param(asyncpg.ConnectionDoesNotExistError("lost"), id="lost"),
    pytest.param(asyncpg.AdminShutdownError("stopping"), id="shutdown"),
    pytest.param(asyncpg.ReadOnlySQLTransactionError("a replica now"), id="replica"),
    pytest.param(asyncpg.InterfaceError("connection is closed"), id="closed"),
]


@pytest.mark.parametrize("error", OF_ONE_MESSAGE)
async def test_a_message_that_is_always_too_slow_to_ask_for_does_not_hold_up_another_churchs(
    new_church: NewChurch, failing: Fail, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinonia_messaging.schedule.MESSAGES_AT_ONCE", 1)
    church, other = await new_church(), await new_church()
    for each in (church, other):
        await each.add_crowd(1)
    bad = await church.send()
    failing(bad.id, error, always=True)
    await other.send()
    assert [await church.schedule().due_round() for _ in range(2)] == [0, 1]
    assert (await church.questions(), await other.questions()) == ([], [(1, 1, 1)])


@pytest.mark.parametrize("error", OF_ONE_MESSAGE)
async def test_a_message_whose_page_always_fails_does_not_hold_up_another_churchs(
    new_church: NewChurch, failing: Fail, error: Exception
) -> None:
    church, other = await new_church(), await new_church()
    for each in (church, other):
        await each.add_crowd(1)
    bad, good = await church.dispatch(), await other.dispatch()
    failing(bad, error, always=True)
    assert await church.schedule().streaming_round() == 1
    assert (await other.row(good))["resolved"]
    assert not (await church.row(bad))["resolved"]


@pytest.mark.parametrize("error", AWAY)
async def test_a_database_that_is_away_ends_the_round(church: Church, failing: Fail, error: Exception) -> None:
    await church.add_crowd(1)
    message = await church.send()
    failing(message.id, error)
    with pytest.raises(type(error)):
        await church.schedule().due_round()


async def test_a_message_waits_longer_with_each_attempt_that_fails_and_is_taken_up_in_the_end(
    church: Church, failing: Fail, wait_until: WaitUntil
) -> None:
    await church.add_crowd(1)
    message_id = await church.dispatch()
    failing(message_id, *(ValueError("a bug") for _ in range(4)))
    leases: list[float] = []

    async def is_streamed() -> bool:
        streamed = await church.schedule().streaming_round()
        row = await church.row(message_id)
        if row["attempt"] > len(leases):
            leases.append((row["leased_until"] - row["page_at"]).total_seconds())
        return streamed > 0

    await wait_until(is_streamed)
    assert leases == pytest.approx([0.2, 0.4, 0.8, 1.0], abs=0.01)
    row = await church.row(message_id)
    assert (row["attempt"], row["resolved"]) == (0, True)


async def test_a_question_that_failed_is_asked_again(church: Church, failing: Fail, wait_until: WaitUntil) -> None:
    await church.add_crowd(1)
    message = await church.send()
    failing(message.id, ValueError("a bug"))
    assert await church.schedule().due_round() == 0
    assert (await church.row(message.id))["attempt"] == 1
    await wait_until(church.schedule().due_round)
    row = await church.row(message.id)
    assert (row["attempt"], await church.questions()) == (0, [(1, 1, 1)])


async def test_a_message_that_has_failed_comes_last_in_its_round(church: Church, failing: Fail) -> None:
    await church.add_crowd(1)
    schedule = replace(church.schedule(), leases=Leases(first_seconds=0.0, longest_seconds=0.0))
    bad = await church.send()
    failing(bad.id, asyncpg.QueryCanceledError("too slow"))
    assert await schedule.due_round() == 0
    others = {(await church.send()).id for _ in range(12)}
    assert await schedule.due_round() == 13
    *first, last = [due.message_id for due in await church.published(MessageDue)]
    assert (set(first), last) == (others, bad.id)


async def test_a_due_message_that_another_replica_has_is_left_to_it(church: Church) -> None:
    await church.add_crowd(1)
    await church.send()
    async with church.database.across_churches() as tx:
        (work,) = await broadcast_store.claim_due(tx, Leases(first_seconds=60, longest_seconds=60), clock.now(), 10)
        assert await church.schedule().due_round() == 0
    assert work.attempt == 1
    assert await church.schedule().due_round() == 0
    assert await church.questions() == []


async def test_a_message_whose_page_fails_does_not_hold_up_the_others(
    church: Church, failing: Fail, wait_until: WaitUntil
) -> None:
    await church.add_crowd(2)
    bad, good = await church.dispatch(), await church.dispatch()
    failing(bad, ValueError("a bug"))
    assert await church.schedule().streaming_round() == 1
    assert (await church.row(good))["resolved"]
    assert not (await church.row(bad))["resolved"]
    await wait_until(church.schedule().streaming_round)  # its lease is over
    row = await church.row(bad)
    assert (row["resolved"], row["attempt"]) == (True, 0)


async def test_the_loop_waits_for_a_database_that_is_away(church: Church, failing: Fail, wait_until: WaitUntil) -> None:
    await church.add_crowd(2)
    message_id = await church.dispatch()
    failing(message_id, DependencyUnavailable())
    schedule = church.schedule()
    running = asyncio.create_task(schedule.stream())

    async def is_resolved() -> bool:
        return bool((await church.row(message_id))["resolved"])

    await wait_until(is_resolved)
    schedule.life.stop("test")
    await asyncio.wait_for(running, 5)


async def test_a_bell_wakes_the_loop_at_once(
    church: Church, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinonia_messaging.schedule.CLOCK_SECONDS", 3600.0)
    await church.add_crowd(1)
    schedule = church.schedule()
    running = asyncio.create_task(schedule.ask_for_due())
    await asyncio.wait([running], timeout=0.05)
    await church.send()
    schedule.bells.due.set()

    async def is_asked() -> bool:
        return bool(await church.questions())

    await wait_until(is_asked, seconds=5)
    schedule.life.stop("test")
    await asyncio.wait_for(running, 5)


async def test_pages_and_lists_are_read_by_their_index(church: Church, servers: TestServers) -> None:
    await church.add_crowd(5000)
    administrator = await asyncpg.connect(servers.database_url(church.database.url.rpartition("/")[2]))
    await administrator.execute("ANALYZE messaging.members")
    await administrator.close()

    async def plan(sql: Statement, *values: Any) -> str:
        async with church.database.tenant(church.id) as tx:
            rows = await tx.fetch(statement("test.explain", f"EXPLAIN {sql.text}"), *values)
        return "\n".join(row[0] for row in rows)

    page = await plan(audience_store._LIST_PAGE.all["all"], [], b"\x80" * 16, 500)
    assert page.count("using members_phone_index") == 2
    assert "Seq Scan on members" not in page
    alike = await plan(member_store._FIND_ALIKE, ["1"], [b"\x80" * 16])
    assert "Seq Scan on members" not in alike


async def test_what_is_due_and_what_is_streamed_is_found_without_what_waits_or_is_done(church: Church) -> None:
    now = clock.now()
    found = {}
    async with church.database.across_churches() as tx:
        await tx.execute(statement("test.without_scans", "SET LOCAL enable_seqscan = off"))
        for sql, values in (
            (broadcast_store._CLAIM_DUE, (1.0, 1.0, now, 20)),
            (broadcast_store._CLAIM_STREAMING, (1.0, 1.0, 20)),
        ):
            rows = await tx.fetch(statement("test.explain", f"EXPLAIN {sql.text}"), *values)
            found[sql.name] = "\n".join(row[0] for row in rows)
    assert "Index Scan using messages_due on messages" in found["messages.claim_due"]
    assert "Index Scan using messages_streaming on messages" in found["messages.claim_streaming"]


async def test_a_page_of_a_group_reads_as_much_of_a_large_group_as_of_a_small_one(
    church: Church, servers: TestServers
) -> None:
    await church.add_crowd(4000)
    large, small = new_id(), new_id()
    administrator = await asyncpg.connect(servers.database_url(church.database.url.rpartition("/")[2]))
    await administrator.execute(
        "INSERT INTO messaging.groups SELECT id, $2, id::text, '', NULL, 0, now(), now() FROM unnest($1::uuid[]) AS id",
        [large, small],
        church.id,
    )
    for group_id, count in ((large, 4000), (small, 1000)):
        await administrator.execute(
            """
            INSERT INTO messaging.group_members
            SELECT $1, id, $2 FROM messaging.members WHERE church_id = $2 ORDER BY phone_index LIMIT $3
            """,
            group_id,
            church.id,
            count,
        )

    async def buffers(group_id: UUID) -> int:
        sql = statement("test.explain", f"EXPLAIN (ANALYZE, BUFFERS) {audience_store._LIST_PAGE.all['groups'].text}")
        async with church.database.tenant(church.id) as tx:
            plan = "\n".join(row[0] for row in await tx.fetch(sql, [group_id], b"", 100))
        assert "Seq Scan on group_members" not in plan
        return max(int(found) for found in re.findall(r"Buffers: shared hit=(\d+)", plan))

    for statistics in ("none", "new"):
        assert await buffers(large) < 1.2 * await buffers(small), f"statistics: {statistics}"
        await administrator.execute("ANALYZE messaging.members, messaging.group_members")
    await administrator.close()


async def test_streaming_needs_no_statistics(church: Church) -> None:
    """A table that was just filled has none: a join there would compare each member with each number of the page."""
    await church.add_crowd(8000)
    message_id = await church.dispatch()
    async with asyncio.timeout(10):
        await church.stream_all(message_id)
    assert (await church.row(message_id))["total_recipients"] == 8000
