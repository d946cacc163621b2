"""Recurring messages: each slot runs once, whoever dies, runs beside, or turns the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.api import recurring as api
from koinonia.api.messages import Exclude
from koinonia.api.recurring import RecurringMessage, RecurringPatch, RecurringRequest, ScheduleRequest
from koinonia.api.templates import TemplatePatch, TemplateRequest
from koinonia.db import statement
from koinonia.errors import NotFound, ValidationFailed
from koinonia.events.messaging import MessageAccepted
from koinonia.ids import new_id
from koinonia_messaging import members, pauses, recurring, templates
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.store import recurring as store

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from services.messaging.tests.integration.conftest import Church

    from koinonia.api.messages import Message
    from koinonia.db.statistics import StatementLog
    from koinonia.testing.services import Caller, StartService

SUNDAY = datetime(2026, 11, 29, 15, 0, tzinfo=UTC)  # nine o'clock in Chicago
DAILY = ScheduleRequest(rrule="FREQ=DAILY", timezone="America/Chicago", start_at=SUNDAY)
DAY = timedelta(days=1)
MEMBERS = statement("test.members", "SELECT id FROM members ORDER BY id")
WITHOUT_SCANS = statement("test.without_scans", "SET LOCAL enable_seqscan = off")


class Killed(Exception):
    """The process died before its transaction's commit."""


async def make(church: Church, schedule: ScheduleRequest = DAILY, **values: Any) -> RecurringMessage:
    request = RecurringRequest(**{"content": "Good morning", "target_type": "all", "schedule": schedule, **values})
    async with church.database.tenant(church.id) as tx:
        return await recurring.create(tx, church.actor, request)


async def change(church: Church, recurring_id: UUID, **patch: Any) -> RecurringMessage:
    async with church.database.tenant(church.id) as tx:
        return await recurring.change(tx, church.actor, recurring_id, RecurringPatch(**patch))


async def fetch(church: Church, recurring_id: UUID) -> RecurringMessage:
    async with church.database.tenant(church.id) as tx:
        return await recurring.fetch(tx, recurring_id)


async def sent(church: Church) -> list[Message]:
    async with church.database.tenant(church.id) as tx:
        return await message_store.list_page(tx, None, 100, status=None, pattern=None, tag=None)


async def turns(church: Church, *moments: datetime) -> list[int]:
    """What the loop did at each of these moments."""
    done = []
    for moment in moments:
        with clock.frozen(moment):
            done.append(await church.schedule().recurring_round())
    return done


@pytest.fixture
async def daily(church: Church) -> RecurringMessage:
    await church.add_crowd(2)
    with clock.frozen(SUNDAY - DAY):
        return await make(church)


async def test_a_run_is_a_message_to_who_is_there_then(church: Church, daily: RecurringMessage) -> None:
    assert (daily.next_run_at, daily.next_runs) == (SUNDAY, [SUNDAY + day * DAY for day in range(5)])
    assert (daily.schedule.start_at, daily.last_run) == (SUNDAY, None)
    await church.add_members([{"firstName": "Late", "phone": "+14155550001"}])
    assert await turns(church, SUNDAY - timedelta(seconds=1), SUNDAY, SUNDAY) == [0, 1, 0]
    (message,) = await sent(church)
    assert (message.content, message.total_recipients, message.recurring_id) == ("Good morning", 3, daily.id)
    (accepted,) = await church.published(MessageAccepted)
    assert (accepted.message_id, accepted.recipient_count) == (message.id, 3)
    shown = await fetch(church, daily.id)
    assert shown.last_run is not None
    assert (shown.last_run.at, shown.last_run.outcome, shown.last_run.message_id) == (SUNDAY, "sent", message.id)
    assert shown.next_run_at == SUNDAY + DAY
    with clock.frozen(SUNDAY):
        assert await church.schedule().due_round() == 1


async def test_a_run_has_its_templates_newest_text_and_leaves_out_the_excluded(church: Church) -> None:
    await church.add_crowd(3)
    async with church.database.tenant(church.id) as tx:
        template = await templates.create(tx, church.actor, TemplateRequest(name="Daily", content="Old"))
        (first, *_) = await tx.fetch(MEMBERS)
    with clock.frozen(SUNDAY - DAY):
        made = await make(church, content=None, template_id=template.id, exclude=Exclude(member_ids=[first["id"]]))
    async with church.database.tenant(church.id) as tx:
        await templates.change(tx, church.actor, template.id, TemplatePatch(content="New \u201cday\u201d"))
    assert await turns(church, SUNDAY) == [1]
    (message,) = await sent(church)
    assert (message.content, message.template_version, message.total_recipients) == ("New \u201cday\u201d", 2, 2)
    assert message.requested_by == church.actor.principal_id

    changed = await change(church, made.id, content="Own words", exclude=Exclude())
    assert (changed.content, changed.template_id, changed.exclude) == ("Own words", None, Exclude())
    assert await turns(church, SUNDAY + DAY) == [1]
    newest, _ = await sent(church)
    assert (newest.content, newest.template_id, newest.total_recipients) == ("Own words", None, 3)
    with pytest.raises(ValidationFailed):
        await make(church, content=None, template_id=new_id())


async def test_it_goes_on_without_whom_it_named_and_who_is_gone(church: Church) -> None:
    await church.add_crowd(3)
    async with church.database.tenant(church.id) as tx:
        first, second, third = [row["id"] for row in await tx.fetch(MEMBERS)]
    exclude = Exclude(member_ids=[third])
    with clock.frozen(SUNDAY - DAY):
        made = await make(church, target_type="individual", target_ids=[first, second], exclude=exclude)
    async with church.database.tenant(church.id) as tx:
        for gone in (second, third):
            await members.delete(tx, church.actor, gone)
    assert await turns(church, SUNDAY) == [1]
    (message,) = await sent(church)
    assert message.total_recipients == 1
    assert (await change(church, made.id, content="Other")).target_ids == [first, second]
    with pytest.raises(ValidationFailed):
        await change(church, made.id, target_ids=[first, second])
    with pytest.raises(ValidationFailed):
        await change(church, made.id, exclude=exclude)


async def test_its_author_is_who_says_what_to_whom(church: Church, daily: RecurringMessage) -> None:
    async def author() -> UUID:
        async with church.database.tenant(church.id) as tx:
            kept = await store.lock(tx, daily.id)
        assert kept is not None
        return kept.requested_by

    written_by = church.actor.principal_id
    church.actor = msgspec.structs.replace(church.actor, principal_id=new_id())
    for patch in ({"paused": True}, {"paused": False}, {"content": "Good morning"}, {"tags": ["daily"]}):
        await change(church, daily.id, **patch)
        assert await author() == written_by
    await change(church, daily.id, content="Other")
    assert await author() == church.actor.principal_id


async def test_two_replicas_run_a_slot_once(church: Church, daily: RecurringMessage) -> None:
    with clock.frozen(SUNDAY):
        done = await asyncio.gather(*(church.schedule().recurring_round() for _ in range(3)))

        async def turn() -> bool:
            async with church.database.tenant(church.id) as tx:
                return await recurring.run(tx, daily.id)

        assert await asyncio.gather(*(turn() for _ in range(3))) == [False] * 3
    assert sum(done) == 1
    assert len(await sent(church)) == 1


async def test_a_run_that_was_killed_before_its_commit_is_run_again_and_once(
    church: Church, daily: RecurringMessage
) -> None:
    with clock.frozen(SUNDAY):
        with pytest.raises(Killed):
            async with church.database.tenant(church.id) as tx:
                assert await recurring.run(tx, daily.id)
                raise Killed
        assert await sent(church) == []
        assert (await fetch(church, daily.id)).last_run is None
        assert [await church.schedule().recurring_round() for _ in range(2)] == [1, 0]
    assert len(await sent(church)) == 1


@pytest.mark.parametrize(("missed_runs", "messages"), [("once", 1), ("skip", 0)])
async def test_what_was_missed_while_down_is_run_once_or_skipped(
    church: Church, missed_runs: str, messages: int
) -> None:
    await church.add_crowd(1)
    with clock.frozen(SUNDAY - DAY):
        made = await make(church, missed_runs=missed_runs)
    late = SUNDAY + 3 * DAY + timedelta(hours=2)
    assert await turns(church, late, late) == [1, 0]
    assert len(await sent(church)) == messages
    shown = await fetch(church, made.id)
    assert shown.last_run is not None
    assert (shown.last_run.at, shown.last_run.outcome) == (SUNDAY + 3 * DAY, "sent" if messages else "skipped")
    assert shown.next_run_at == SUNDAY + 4 * DAY
    assert await turns(church, SUNDAY + 4 * DAY) == [1]
    assert len(await sent(church)) == messages + 1


async def test_a_clock_that_jumps_forth_and_back_doubles_and_loses_no_run(
    church: Church, daily: RecurringMessage
) -> None:
    assert await turns(church, SUNDAY, SUNDAY + 5 * DAY) == [1, 1]  # the fifth day's has run too early
    assert (await fetch(church, daily.id)).next_run_at == SUNDAY + 6 * DAY
    assert await turns(church, SUNDAY - timedelta(hours=1)) == [1]
    assert (await fetch(church, daily.id)).next_run_at == SUNDAY
    assert await turns(church, *(SUNDAY + day * DAY for day in range(7))) == [1] * 7
    # The first and the fifth day's had run; those between had been passed over by the clock that was wrong.
    assert len(await sent(church)) == 7


async def test_a_run_that_nobody_can_get_says_why_and_the_next_one_comes(
    church: Church, daily: RecurringMessage
) -> None:
    for number in range(2):
        await church.stop(f"+1312555{number:04}")
    assert await turns(church, SUNDAY) == [1]
    shown = await fetch(church, daily.id)
    assert shown.last_run is not None
    assert (shown.last_run.outcome, shown.last_run.reason) == ("failed", "Nobody in there can be texted")
    assert shown.next_run_at == SUNDAY + DAY
    assert await sent(church) == []


async def test_a_run_while_the_church_sends_nothing_is_skipped(church: Church, daily: RecurringMessage) -> None:
    async with church.database.tenant(church.id) as tx:
        await pauses.pause_sending(tx, church.actor, church.id)
    assert await turns(church, SUNDAY) == [1]
    shown = await fetch(church, daily.id)
    assert shown.last_run is not None
    assert (shown.last_run.outcome, await sent(church)) == ("skipped", [])


async def test_a_paused_one_rests_and_goes_on_with_what_comes_then(church: Church, daily: RecurringMessage) -> None:
    with clock.frozen(SUNDAY - timedelta(hours=1)):
        paused = await change(church, daily.id, paused=True)
    assert (paused.paused, paused.next_run_at, paused.next_runs) == (True, None, [])
    assert await turns(church, SUNDAY) == [0]
    with clock.frozen(SUNDAY + timedelta(hours=1)):
        assert (await change(church, daily.id, content="Later")).next_run_at is None
        resumed = await change(church, daily.id, paused=False)
    assert (resumed.next_run_at, resumed.content) == (SUNDAY + DAY, "Later")
    assert await turns(church, SUNDAY + 2 * timedelta(hours=1), SUNDAY + DAY) == [0, 1]


async def test_one_that_is_changed_or_deleted_amid_its_turn_is_passed_by(
    church: Church, daily: RecurringMessage
) -> None:
    new = ScheduleRequest(rrule="FREQ=DAILY;COUNT=1", timezone="America/Chicago", start_at=SUNDAY + 2 * DAY)
    with clock.frozen(SUNDAY):
        async with church.database.tenant(church.id) as tx:
            await recurring.change(tx, church.actor, daily.id, RecurringPatch(schedule=new))
            assert await church.schedule().recurring_round() == 0
    assert await turns(church, SUNDAY + timedelta(hours=1), SUNDAY + 2 * DAY, SUNDAY + 3 * DAY) == [0, 1, 0]
    assert (await fetch(church, daily.id)).next_runs == []  # it has ended
    async with church.database.tenant(church.id) as tx:
        await recurring.delete(tx, church.actor, daily.id)
    with pytest.raises(NotFound):
        await change(church, daily.id, paused=True)
    assert len(await sent(church)) == 1


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"schedule": ScheduleRequest(rrule="FREQ=HOURLY", timezone="UTC", start_at=SUNDAY)}, "schedule.rrule"),
        (
            {"schedule": ScheduleRequest(rrule="FREQ=DAILY;UNTIL=20200101", timezone="UTC", start_at=SUNDAY)},
            "schedule.rrule",
        ),
        ({"target_type": "groups", "target_ids": [new_id()]}, "targetIds"),
    ],
)
async def test_one_that_could_not_run_is_refused(church: Church, values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await make(church, **values)
    assert [detail.field for detail in caught.value.details] == [field]


async def test_through_the_door_a_list_takes_one_statement_and_another_church_finds_nothing(
    start_service: StartService,
    caller: Caller,
    church: Church,
    count_statements: Callable[[], AbstractContextManager[StatementLog]],
) -> None:
    service = await start_service("messaging", build, MessagingSettings)
    start = (clock.now() + DAY).isoformat()
    body = {
        "content": "Good morning",
        "targetType": "all",
        "schedule": {"rrule": "FREQ=WEEKLY;BYDAY=SU,WE", "timezone": "America/Chicago", "startAt": start},
    }
    made: list[UUID] = []
    for _ in range(2):
        status, answer = await caller(
            service, api.CREATE, church_id=church.id, body=body, headers={"Idempotency-Key": f"k{len(made) // 2}"}
        )
        assert (status, len(answer["nextRuns"]), answer["missedRuns"]) == (201, 5, "once")
        made.append(UUID(answer["id"]))
    assert made[0] == made[1]
    status, _ = await caller(service, api.CREATE, church_id=church.id, body={**body, "content": "Two"})
    with count_statements() as counted:
        _, page = await caller(service, api.LIST, church_id=church.id)
    assert [each["content"] for each in page["data"]] == ["Two", "Good morning"]
    loops = {"recurring_messages.claim_due"}
    asked = {name: count for name, count in counted.by_name.items() if "recurring" in name and name not in loops}
    assert asked == {"recurring_messages.list_page": 1}
    ids = {"id": made[0]}
    for endpoint, patch in ((api.GET, None), (api.PATCH, {"paused": True}), (api.DELETE, None)):
        status, _ = await caller(service, endpoint, church_id=new_id(), ids=ids, body=patch)
        assert status == 404
    bad = {**body, "schedule": {**body["schedule"], "timezone": "Mars/Olympus"}}  # type: ignore[dict-item]
    status, answer = await caller(service, api.CREATE, church_id=church.id, body=bad)
    assert (status, answer["error"]["details"][0]["field"]) == (400, "schedule.timezone")
    assert (await caller(service, api.DELETE, church_id=church.id, ids=ids))[0] == 204


async def test_looking_for_turns_reads_nothing_that_waits(church: Church, daily: RecurringMessage) -> None:
    async with church.database.across_churches() as tx:
        await tx.execute(WITHOUT_SCANS)
        rows = await tx.fetch(statement("test.plan", f"EXPLAIN {store._CLAIM_DUE.text}"), 1.0, 1.0, SUNDAY, 20, 60.0)
    plan = "\n".join(row[0] for row in rows)
    assert "Index Cond: (next_run_at <= " in plan
    assert "Index Cond: (turned_at > " in plan
