"""Who is excluded: gets nothing, is not counted, and costs a page no more than a look by the index."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from koinonia import clock
from koinonia.api.branches import BranchRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.messages import Exclude, SegmentCount, SendRequest
from koinonia.api.recurring import RecurringRequest, ScheduleRequest
from koinonia.db import statement
from koinonia.errors import Conflict, ValidationFailed
from koinonia.ids import new_id
from koinonia_messaging import branches, groups, messages, recurring
from koinonia_messaging.domain.messages import AudienceEmpty
from koinonia_messaging.domain.plans import Tariff
from koinonia_messaging.store import audience as audience_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

WAITING = statement(
    "test.waiting", "SELECT count(*) FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)) AND NOT granted"
)
YEARLY = ScheduleRequest(rrule="FREQ=YEARLY", timezone="UTC", start_at=datetime(2050, 1, 1, tzinfo=UTC))


class Undone(Exception):
    """What was deleted shall be there after all."""


MEMBERS = statement("test.members", "SELECT id, first_name, branch_id FROM members ORDER BY first_name")

TARIFF = Tariff(segment_price_cents=2.0, rates={"long_code": 40.0})


async def people(church: Church) -> dict[str, Any]:
    async with church.database.tenant(church.id) as tx:
        return {row["first_name"]: row for row in await tx.fetch(MEMBERS)}


async def group_of(church: Church, name: str, member_ids: Sequence[UUID]) -> UUID:
    async with church.database.tenant(church.id) as tx:
        group = await groups.create(tx, church.actor, GroupRequest(name=name))
        await groups.add_members(tx, church.actor, group.id, list(member_ids))
    return group.id


async def test_whose_number_is_excluded_gets_nothing_and_is_not_counted(church: Church) -> None:
    await church.add_crowd(6)
    await church.add_members([{"firstName": "Wife" * 20, "phone": "+13125550001"}])
    await church.stop("+13125550005")
    known = await people(church)
    everybody = await group_of(church, "Everybody", [row["id"] for row in known.values()])
    staff = await group_of(church, "Staff", [known["P1"]["id"], known["P2"]["id"]])
    exclude = Exclude(member_ids=[known["P3"]["id"]], group_ids=[staff])
    targets: list[tuple[str, list[UUID]]] = [
        ("all", []),
        ("groups", [everybody]),
        ("branches", [known["P0"]["branch_id"]]),
        ("individual", [row["id"] for row in known.values()]),
    ]
    for kind, ids in targets:
        before = len(await church.recipients())
        content = "x" * 120 + "{{firstName}}"
        request = SendRequest(content=content, target_type=kind, target_ids=ids, exclude=exclude)  # type: ignore[arg-type]
        async with church.database.tenant(church.id) as tx:
            preview = await messages.preview(tx, church.actor, request, TARIFF)
        # Her long name shares an excluded phone: it makes no second segment.
        assert (preview.recipients, preview.suppressed, preview.segments) == (3, 1, 1), kind
        assert preview.segment_counts == [SegmentCount(segments=1, recipients=2)]
        assert preview.first_texts == (2 if kind == "all" else 0)
        message = await church.send(content, kind=kind, ids=ids, exclude=exclude)  # type: ignore[arg-type]
        assert (message.total_recipients, message.exclude) == (3, exclude)
        await church.ask(message.id)
        assert await church.authorize(message.id)
        await church.stream_all(message.id, numbers=2)
        names = [each.member_ids for each in (await church.recipients())[before:]]
        assert sorted(names) == sorted((known[name]["id"],) for name in ("P0", "P4", "P5")), kind
    with pytest.raises(AudienceEmpty):
        await church.send(exclude=Exclude(branch_ids=[known["P0"]["branch_id"]]))


async def test_what_is_excluded_must_be_the_churchs(church: Church) -> None:
    await church.add_crowd(1)
    unknown = [new_id()]
    with pytest.raises(ValidationFailed) as caught:
        await church.send(exclude=Exclude(member_ids=unknown, group_ids=unknown, branch_ids=unknown))
    named = [detail.field for detail in caught.value.details]
    assert named == ["exclude.memberIds", "exclude.groupIds", "exclude.branchIds"]


async def test_an_excluded_group_or_branch_stays_until_nothing_unsent_excludes_it(
    church: Church, wait_until: Callable[..., Awaitable[object]]
) -> None:
    await church.add_crowd(3)
    known = await people(church)
    group_id = await group_of(church, "Council", [known["P0"]["id"]])
    async with church.database.tenant(church.id) as tx:
        branch = await branches.create(tx, church.actor, BranchRequest(name="North"))

    async def refused() -> list[bool]:
        answers = []
        for delete, excluded in ((groups.delete, group_id), (branches.delete, branch.id)):
            try:
                async with church.database.tenant(church.id) as tx:
                    await delete(tx, church.actor, excluded)
                    raise Undone
            except (Conflict, Undone) as outcome:
                answers.append(isinstance(outcome, Conflict))
        return answers

    assert await refused() == [False, False]
    exclude = Exclude(group_ids=[group_id], branch_ids=[branch.id])
    later = await church.send(exclude=exclude, scheduled_at=clock.now() + timedelta(days=1))
    assert await refused() == [True, True]
    await church.cancel(later.id)
    assert await refused() == [False, False]
    message_id = await church.dispatch(exclude=exclude)
    assert await church.stream(message_id, 1)
    assert await refused() == [True, True]
    await church.stream_all(message_id)
    assert await refused() == [False, False]
    request = RecurringRequest(content="Hi", target_type="all", exclude=exclude, schedule=YEARLY)
    async with church.database.tenant(church.id) as tx:
        made = await recurring.create(tx, church.actor, request)
    assert await refused() == [True, True]
    async with church.database.tenant(church.id) as tx:
        await recurring.delete(tx, church.actor, made.id)

    # Who deletes it waits for who is about to exclude it.
    async with church.database.tenant(church.id) as tx:
        await messages.accept(tx, church.actor, SendRequest(content="Hi", target_type="all", exclude=exclude))
        deleting = asyncio.create_task(refused())

        async def is_waiting() -> bool:
            return bool(await tx.fetch_value(WAITING))

        await wait_until(is_waiting, what="the deletion to wait")
    assert await deleting == [True, True]


async def test_a_page_looks_for_each_numbers_exclusion_by_the_index(church: Church) -> None:
    """Without statistics too, as here: any other way reads the whole church for each number."""
    await church.add_crowd(50)
    crowd = await group_of(church, "Crowd", [row["id"] for row in (await people(church)).values()])
    sql = statement("test.explain", f"EXPLAIN {audience_store._LIST_PAGE.excluding['all'].text}")
    async with church.database.tenant(church.id) as tx:
        plan = "\n".join(row[0] for row in await tx.fetch(sql, [], b"\x80" * 16, 500, [], [crowd], []))
    assert "Seq Scan" not in plan
    assert plan.count("using members_phone_index on members other") == 2
