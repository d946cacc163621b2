"""A weekly limit of broadcasts per number: who has had as many gets no other, but an urgent one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from services.messaging.tests.integration.conftest import Killed, phone

from koinonia import clock
from koinonia.api.messages import MessagePreview, SegmentCount, SendRequest, Urgent
from koinonia.api.recurring import RecurringRequest, ScheduleRequest
from koinonia.db import statement
from koinonia.errors import Forbidden
from koinonia.events.messaging import RecipientsResolved
from koinonia.housekeeping import tidy
from koinonia.testing.fixtures import wait_until
from koinonia_messaging import broadcasts, messages, recurring, resending
from koinonia_messaging.domain.plans import Tariff
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store import plans as plan_store
from koinonia_messaging.store import weekly as weekly_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.security import Identity

    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

TARIFF = Tariff(segment_price_cents=2.0, rates={"long_code": 40.0})
MONDAY = datetime(2026, 11, 23, 15, tzinfo=UTC)
MOMENT = timedelta(seconds=1)
WEEK = timedelta(days=7)
STORM = Urgent(reason="The storm: the service is called off.")
ROWS = statement("test.bulk_texts", "SELECT count(*) FROM bulk_texts")
WAITERS = statement(
    "test.waiters", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database IS NOT NULL"
)
MEMBERS = statement("test.members", "SELECT id FROM members ORDER BY first_name")


@pytest.fixture
async def limited(church: Church) -> Church:
    """A church of three numbers that sends each one broadcast a week."""
    await church.add_crowd(3)
    await church.set_rules(weekly_limit=1)
    return church


async def sent_to(church: Church, message_id: UUID) -> tuple[int, int]:
    """To how many numbers a message went, and how many were left out for the limit."""
    chunks = [each for each in await church.published(RecipientsResolved) if each.message_id == message_id]
    people = [each for chunk in chunks for each in chunk.recipients]
    return sum(each.gets_text for each in people), sum(each.over_limit for each in people)


async def send(church: Church, **values: Any) -> tuple[int, int]:
    """Send to everybody; to how many it went, and how many were left out for the limit."""
    message_id = await church.dispatch(**values)
    await church.stream_all(message_id)
    return await sent_to(church, message_id)


async def rows(church: Church) -> int:
    async with church.database.tenant(church.id) as tx:
        return int(await tx.fetch_value(ROWS))


async def preview(church: Church, actor: Identity | None = None, **values: Any) -> MessagePreview:
    request = SendRequest(**{"content": "Hello", "target_type": "all", **values})
    async with church.database.tenant(church.id) as tx:
        return await messages.preview(tx, actor or church.actor, request, TARIFF)


async def test_who_has_had_as_many_in_seven_days_gets_no_other(church: Church) -> None:
    await church.add_crowd(2)
    await church.set_rules(weekly_limit=2)
    with clock.frozen(MONDAY):
        assert await send(church) == (2, 0)
    with clock.frozen(MONDAY + timedelta(days=1)):
        assert await send(church) == (2, 0)
        await church.add_crowd(3)  # a third joins, who has had none
        assert await send(church) == (1, 2)
    with clock.frozen(MONDAY + WEEK - MOMENT):
        assert await send(church) == (1, 2)
    with clock.frozen(MONDAY + WEEK):
        assert await send(church) == (2, 1)


async def test_who_is_left_out_is_counted_and_costs_nothing(limited: Church) -> None:
    await send(limited)
    message_id = await limited.dispatch()
    await limited.stream_all(message_id)
    row = await limited.row(message_id)
    assert (row["streamed_recipients"], row["streamed_bound"], row["resolved"]) == (3, 0, True)
    await limited.report(message_id, {"suppressed": 3})
    message = await limited.message(message_id)
    assert (message.status, message.counts.suppressed, message.total_recipients) == ("completed", 3, 3)


async def test_who_has_opted_out_is_left_out_for_that(limited: Church) -> None:
    await send(limited)
    await limited.stop(phone(0))
    await limited.add_members([{"firstName": "No", "phone": phone(9), "optInSms": False}])
    message_id = await limited.dispatch()
    await limited.stream_all(message_id)
    (chunk,) = [each for each in await limited.published(RecipientsResolved) if each.message_id == message_id]
    reasons = sorted(str(each.left_out or each.over_limit) for each in chunk.recipients)
    assert reasons == ["True", "True", "no_consent", "suppressed"]


async def test_an_urgent_message_passes_the_limit_and_counts(limited: Church) -> None:
    await send(limited)
    assert await send(limited, urgent=STORM) == (3, 0)
    await limited.set_rules(3, weekly_limit=2)
    assert await send(limited) == (0, 3)


async def test_a_sender_passes_no_limit(limited: Church) -> None:
    with pytest.raises(Forbidden):
        await preview(limited, msgspec.structs.replace(limited.actor, role="sender"), urgent=STORM)


async def test_a_family_with_one_phone_is_one_number(limited: Church) -> None:
    await limited.add_members([{"firstName": name, "phone": phone(50)} for name in ("Anna", "Bob")])
    async with limited.database.tenant(limited.id) as tx:
        anna, bob = [row["id"] for row in await tx.fetch(MEMBERS)][:2]
    assert await send(limited, kind="individual", ids=[anna]) == (1, 0)
    assert await send(limited, kind="individual", ids=[bob]) == (0, 1)
    assert await send(limited) == (3, 1)


async def test_a_cancelled_message_that_went_to_nobody_gives_back(limited: Church) -> None:
    message_id = await limited.dispatch()
    await limited.stream(message_id, 2)
    assert await rows(limited) == 2
    await limited.cancel(message_id)
    assert await send(limited) == (1, 2)  # whether the carrier has any of it, is not known yet
    await limited.report(message_id, {"cancelled": 2})
    assert await send(limited) == (2, 1)


@pytest.mark.parametrize("got_it", ["delivered", "undelivered", "unconfirmed"])
async def test_a_cancelled_message_that_went_to_somebody_counts(limited: Church, got_it: str) -> None:
    message_id = await limited.dispatch()
    await limited.stream(message_id, 2)
    await limited.cancel(message_id)
    await limited.report(message_id, {"cancelled": 1, got_it: 1})
    assert await send(limited) == (1, 2)


async def test_a_declined_message_counts_for_nobody(limited: Church) -> None:
    message = await limited.send()
    await limited.ask(message.id)
    await limited.decline(message.id)
    assert await rows(limited) == 0
    assert await send(limited) == (3, 0)


async def test_a_message_that_expired_for_all_counts_for_nobody(limited: Church) -> None:
    message_id = await limited.dispatch()
    await limited.stream_all(message_id)
    await limited.report(message_id, {"expired": 2, "failed": 1})
    assert (await limited.message(message_id)).status == "completed"
    assert await send(limited) == (3, 0)


async def test_whom_a_message_did_not_reach_gets_it_again(limited: Church) -> None:
    """Else the limit would keep from them what they never got; nor does one text count twice."""
    message_id = await limited.dispatch()
    await limited.stream_all(message_id)
    await limited.report(message_id, {"delivered": 1, "failed": 2})
    async with limited.database.tenant(limited.id) as tx:
        missed = [row["id"] for row in await tx.fetch(MEMBERS)][:2]
        again = await resending.resend_failed(tx, limited.actor, message_id)
        await tx.execute(
            statement("test.miss", "INSERT INTO resend_members SELECT $1, unnest($2::uuid[]), $3"),
            again.id,
            missed,
            limited.id,
        )
        await tx.execute(statement("test.gathered", "UPDATE messages SET gathering = false WHERE id = $1"), again.id)
    await limited.ask(again.id)
    await limited.authorize(again.id)
    await limited.stream_all(again.id)
    assert await sent_to(limited, again.id) == (2, 0)
    assert await rows(limited) == 3
    await limited.set_rules(3, weekly_limit=2)
    assert await send(limited) == (3, 0)


async def test_a_page_that_is_streamed_again_after_a_crash_counts_once(limited: Church) -> None:
    message_id = await limited.dispatch()
    with pytest.raises(Killed):
        async with limited.database.tenant(limited.id) as tx:
            await broadcasts.stream_page(tx, message_id)
            raise Killed
    assert await rows(limited) == 0
    await limited.stream_all(message_id)
    assert await sent_to(limited, message_id) == (3, 0)
    async with limited.database.tenant(limited.id) as tx:
        numbers = [each.phone_index for each in await limited.recipients()]
        await weekly_store.note(tx, numbers, message_id, clock.now(), None)
    assert await rows(limited) == 3
    await limited.set_rules(3, weekly_limit=2)
    assert await send(limited) == (3, 0)


async def test_of_two_messages_at_once_one_takes_the_last_text_of_a_week(limited: Church) -> None:
    first, second = [await limited.dispatch() for _ in range(2)]

    async def somebody_waits() -> bool:
        async with limited.database.tenant(limited.id) as tx:
            return bool(await tx.fetch_value(WAITERS))

    async with limited.database.tenant(limited.id) as tx:
        await broadcasts.stream_page(tx, first)
        other = asyncio.create_task(limited.stream(second))
        await wait_until(somebody_waits, what="the other page")
    assert await other
    assert [await sent_to(limited, each) for each in (first, second)] == [(3, 0), (0, 3)]


async def test_another_church_is_neither_waited_for_nor_counted(
    limited: Church, new_church: Callable[[], Awaitable[Church]]
) -> None:
    other = await new_church()
    await other.add_crowd(3)
    await other.set_rules(weekly_limit=1)
    first, second = await limited.dispatch(), await other.dispatch()
    async with limited.database.tenant(limited.id) as tx:
        await broadcasts.stream_page(tx, first)
        await asyncio.wait_for(other.stream(second), 5)
    assert await sent_to(other, second) == (3, 0)


async def test_a_church_without_a_limit_writes_nothing_and_asks_nothing_more(
    church: Church, count_statements: CountStatements
) -> None:
    await church.add_crowd(3)
    message_id = await church.dispatch()
    with count_statements() as counted:
        await church.stream_all(message_id)
        await preview(church)
    assert not [name for name in counted.by_name if name.startswith(("bulk_texts.", "audience.count_limited"))]
    assert await rows(church) == 0
    await church.set_rules(2, weekly_limit=1)  # counted from now on
    assert await send(church) == (3, 0)
    assert await send(church) == (0, 3)
    await church.set_rules(3)
    assert await send(church) == (3, 0)
    assert await rows(church) == 3


async def test_a_page_takes_three_statements_more_however_many_are_on_it(
    limited: Church, count_statements: CountStatements
) -> None:
    async def statements() -> dict[str, int]:
        message_id = await limited.dispatch()
        with count_statements() as counted:
            await limited.stream(message_id)
        return {name: count for name, count in counted.by_name.items() if name.startswith("bulk_texts.")}

    few = await statements()
    await limited.add_crowd(400)
    assert await statements() == few == {"bulk_texts.lock": 1, "bulk_texts.list_limited": 1, "bulk_texts.note": 1}


async def test_a_test_is_not_limited_and_does_not_count(limited: Church) -> None:
    limited.actor = msgspec.structs.replace(limited.actor, test=True)
    assert await send(limited) == (3, 0)
    assert await send(limited) == (3, 0)
    assert await rows(limited) == 0
    assert (await preview(limited)).left_out.weekly_limit == 0


async def test_a_run_of_a_recurring_message_is_held_to_it(limited: Church) -> None:
    schedule = ScheduleRequest(rrule="FREQ=DAILY", timezone="America/Chicago", start_at=MONDAY)
    request = RecurringRequest(content="Good morning", target_type="all", schedule=schedule)
    with clock.frozen(MONDAY - timedelta(hours=1)):
        async with limited.database.tenant(limited.id) as tx:
            made = await recurring.create(tx, limited.actor, request)
    found = []
    for day in (0, 1, 7):
        with clock.frozen(MONDAY + timedelta(days=day)):
            async with limited.database.tenant(limited.id) as tx:
                assert await recurring.run(tx, made.id)
                ids = await tx.fetch(statement("test.newest", "SELECT id FROM messages ORDER BY id DESC LIMIT 1"))
            await limited.ask(ids[0]["id"])
            await limited.authorize(ids[0]["id"])
            await limited.stream_all(ids[0]["id"])
            found.append(await sent_to(limited, ids[0]["id"]))
    assert found == [(3, 0), (0, 3), (3, 0)]


async def test_the_plan_tells_who_is_left_out_and_what_the_others_cost(
    limited: Church, count_statements: CountStatements
) -> None:
    await limited.add_number()
    with clock.frozen(MONDAY):
        await send(limited)
        await limited.add_crowd(4)
        await limited.stop(phone(0))
        with count_statements() as counted:
            plan = await preview(limited, content="Hi {{firstName}}")
        urgent = await preview(limited, urgent=STORM)
        next_week = await preview(limited, scheduled_at=MONDAY + WEEK)
        too_early = await preview(limited, scheduled_at=MONDAY + WEEK - MOMENT)
        assert await send(limited) == (1, 2)
    assert (plan.left_out.no_consent, plan.left_out.suppressed, plan.left_out.weekly_limit) == (0, 1, 2)
    assert (plan.recipients, plan.suppressed) == (4, 3)
    assert (plan.segment_counts, plan.estimated_cost_cents) == ([SegmentCount(segments=1, recipients=1)], 2)
    (warning,) = [each for each in plan.warnings if each.code == "weekly_limit"]
    assert warning.message.startswith("2 people have had as many texts this week")
    assert sum(counted.by_name.values()) <= 11
    assert too_early.left_out.weekly_limit == 2
    for each in (urgent, next_week):
        assert (each.left_out.weekly_limit, each.suppressed) == (0, 1)
        assert "weekly_limit" not in [warning.code for warning in each.warnings]


async def test_a_plan_of_too_many_kinds_of_values_leaves_them_out_too(
    limited: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(limited)
    await limited.add_members({"firstName": "ab" * each, "phone": phone(50 + each)} for each in (1, 2, 50))
    monkeypatch.setattr(plan_store, "MOST_SHAPES", 2)
    plan = await preview(limited, content="x" * 100 + "{{firstName}}")
    assert [(each.segments, each.recipients) for each in plan.segment_counts] == [(plan.segments, 3)] == [(2, 3)]


async def test_what_counts_no_more_is_forgotten(limited: Church, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinonia.housekeeping.BATCH_ROWS", 2)
    with clock.frozen(MONDAY):
        await send(limited)
    with clock.frozen(MONDAY + timedelta(days=1)):
        await send(limited, urgent=STORM)
    with clock.frozen(MONDAY + WEEK - MOMENT):
        assert await tidy(limited.database, (weekly_store.forget,)) == 0
    with clock.frozen(MONDAY + WEEK):
        assert await tidy(limited.database, (weekly_store.forget,)) == 3
    assert await rows(limited) == 3


async def test_a_page_is_looked_up_by_its_numbers_and_what_is_over_by_its_time(church: Church) -> None:
    """As the service's own role, with row-level security, on a table without statistics."""
    page = [bytes([each % 256, each // 256]) * 16 for each in range(500)]
    async with church.database.tenant(church.id) as tx:
        await tx.execute(
            statement(
                "test.fill",
                """
                INSERT INTO bulk_texts
                SELECT $1, decode(md5(n::text), 'hex'), gen_random_uuid(), now() - n % 7 * interval '1 day'
                FROM generate_series(1, 20000) AS n
                """,
            ),
            church.id,
        )
        values = (page, clock.now() - WEEK, None, 2)
        listed = await explained(tx, weekly_store._LIST_LIMITED, *values)
        noted = await explained(tx, weekly_store._NOTE, church.id, page, church.id, clock.now(), church.id)
    assert "Index Scan using bulk_texts_pkey" in listed or "Bitmap Index Scan on bulk_texts_pkey" in listed
    assert "Seq Scan on bulk_texts" not in listed + noted
    async with church.database.across_churches() as tx:
        await tx.execute(statement("test.without_scans", "SET LOCAL enable_seqscan = off"))
        assert "Index Scan using bulk_texts_texted_at" in await explained(tx, weekly_store._FORGET, clock.now(), 5000)


async def explained(tx: Any, sql: Any, *values: Any) -> str:
    return "\n".join(row[0] for row in await tx.fetch(statement("test.explain", f"EXPLAIN {sql.text}"), *values))


async def test_a_replica_that_takes_a_page_meanwhile_notes_nothing(limited: Church) -> None:
    message_id = await limited.dispatch()
    async with limited.database.tenant(limited.id) as tx:
        before = await broadcast_store.find_streaming(tx, message_id)
    assert before is not None
    assert before.weekly_limit == 1
    results = await asyncio.gather(*(limited.stream(message_id) for _ in range(3)))
    assert sorted(results) == [False, False, True]
    assert await rows(limited) == 3
