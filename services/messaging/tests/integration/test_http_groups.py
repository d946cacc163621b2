"""Groups that are deleted and brought back with who was in them, through the door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from koinonia.api import Endpoint, branches, groups, members
from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.ids import new_id
from koinonia_messaging import groups as cases
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

COUNTS = statement(
    "test.group_counts",
    "SELECT member_count, (SELECT count(*) FROM group_members WHERE group_id = groups.id) FROM groups WHERE id = $1",
)
LOOPS = ("outbox.", "messages.", "recurring_messages.", "imports.", "idempotency", "audience.is_excluded")


class Killed(Exception):
    """The process died before its transaction's commit."""


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    """Call as an owner of the church; ``on``: the id in the path."""

    async def call(endpoint: Endpoint, on: str | UUID | None = None, **values: Any) -> tuple[int, Any]:
        ids = {} if on is None else {"id": UUID(str(on))}
        return await caller(service, endpoint, **{"church_id": church.id, "ids": ids, **values})

    return call


async def make_group(ask: Ask, name: str = "Choir", **values: Any) -> str:
    status, made = await ask(groups.CREATE, body={"name": name, **values})
    assert status == 201
    return str(made["id"])


async def make_member(ask: Ask, number: int, *group_ids: str, **values: Any) -> str:
    person = {"firstName": f"P{number}", "phone": f"+1312555{number:04}", "groupIds": list(group_ids), **values}
    status, made = await ask(members.CREATE, body=person)
    assert status == 201
    return str(made["id"])


async def people_in(ask: Ask, church: Church, group_id: str) -> set[str]:
    """Who is in a group; its count is theirs."""
    _, page = await ask(groups.LIST_MEMBERS, group_id, query={"limit": "100"})
    async with church.database.tenant(church.id) as tx:
        row = await tx.fetch_row(COUNTS, UUID(group_id))
    assert row is not None
    assert tuple(row) == (len(page["data"]), len(page["data"]))
    return {each["id"] for each in page["data"]}


async def test_a_deleted_group_is_listed_and_comes_back_as_it_was(ask: Ask, church: Church, bus: BusProbe) -> None:
    _, north = await ask(branches.CREATE, body={"name": "North"})
    choir = await make_group(ask, description="Sings", branchId=north["id"])
    other = await make_group(ask, "Youth")
    anna, bob = await make_member(ask, 1, choir, other), await make_member(ask, 2, choir)
    _, before = await ask(groups.GET, choir)
    assert (await ask(groups.RESTORE, choir))[1] == before  # one that is there stays as it is
    assert (await ask(groups.DELETE, choir))[0] == 204
    assert (await ask(groups.GET, choir))[0] == 404
    assert [each["id"] for each in (await ask(groups.LIST))[1]["data"]] == [other]
    (deleted,) = (await ask(groups.LIST, query={"deleted": "true"}))[1]["data"]
    assert deleted.pop("deletedAt") is not None
    assert deleted == {name: value for name, value in before.items() if name != "deletedAt"}
    for _ in range(2):
        status, back = await ask(groups.RESTORE, choir)
        assert (status, {**back, "updatedAt": None}) == (200, {**before, "updatedAt": None})
    assert await people_in(ask, church, choir) == {anna, bob}
    assert (await ask(groups.LIST, query={"deleted": "true"}))[1]["data"] == []
    await bus.next(ActionRecorded, lambda act: (act.action, str(act.target_id)) == ("group.restored", choir))
    acts = [act.data.action for act in await bus.all(ActionRecorded)]
    assert (acts.count("group.deleted"), acts.count("group.restored")) == (1, 0)


async def test_deleted_groups_are_listed_page_by_page_for_those_who_may_restore(ask: Ask) -> None:
    made = [await make_group(ask, name) for name in ("A", "B", "C")]
    for group_id in made:
        await ask(groups.DELETE, group_id)
    _, first = await ask(groups.LIST, query={"deleted": "true", "limit": "2"})
    _, second = await ask(groups.LIST, query={"deleted": "true", "limit": "2", "cursor": first["nextCursor"]})
    assert [each["id"] for each in first["data"] + second["data"]] == made[::-1]
    assert (first["hasMore"], second["hasMore"]) == (True, False)
    assert (await ask(groups.LIST, query={"cursor": first["nextCursor"]}))[0] == 400
    for role, expected in (("viewer", 403), ("sender", 403), ("admin", 200)):
        assert (await ask(groups.LIST, query={"deleted": "true"}, role=role))[0] == expected
        assert (await ask(groups.LIST, query={"deleted": "false"}, role=role))[0] == 200
        assert (await ask(groups.RESTORE, made[0], role=role))[0] == expected


async def test_a_name_that_is_taken_by_now_is_refused_and_nothing_is_lost(ask: Ask, church: Church) -> None:
    choir = await make_group(ask)
    anna = await make_member(ask, 1, choir)
    await ask(groups.DELETE, choir)
    again = await make_group(ask, "CHOIR")
    assert (await ask(groups.RESTORE, choir))[0] == 409
    await ask(groups.PATCH, again, body={"name": "New choir"})
    assert (await ask(groups.RESTORE, choir))[0] == 200
    assert await people_in(ask, church, choir) == {anna}


async def test_a_group_whose_branch_is_gone_comes_back_as_the_churchs(ask: Ask) -> None:
    _, north = await ask(branches.CREATE, body={"name": "North"})
    choir = await make_group(ask, branchId=north["id"])
    await ask(groups.DELETE, choir)
    assert (await ask(branches.DELETE, north["id"]))[0] == 204
    status, back = await ask(groups.RESTORE, choir)
    assert (status, back["branchId"]) == (200, None)


@pytest.mark.parametrize("first", ["member", "group"])
@pytest.mark.parametrize("back_first", ["member", "group"])
async def test_a_member_and_a_group_that_are_both_deleted_find_each_other_in_any_order(
    ask: Ask, church: Church, first: str, back_first: str
) -> None:
    choir = await make_group(ask)
    anna, bob = await make_member(ask, 1, choir), await make_member(ask, 2, choir)
    deleting = [(members.DELETE, anna), (groups.DELETE, choir)]
    restoring = [(members.RESTORE, anna), (groups.RESTORE, choir)]
    for endpoint, on in deleting if first == "member" else deleting[::-1]:
        assert (await ask(endpoint, on))[0] == 204
    for endpoint, on in restoring if back_first == "member" else restoring[::-1]:
        assert (await ask(endpoint, on))[0] == 200
        assert (await ask(endpoint, on))[0] == 200
    assert await people_in(ask, church, choir) == {anna, bob}
    assert (await ask(members.GET, anna))[1]["groupIds"] == [choir]


async def test_who_was_merged_meanwhile_comes_back_as_the_one_that_stays(ask: Ask, church: Church) -> None:
    choir = await make_group(ask)
    anna, ann = await make_member(ask, 1, choir), await make_member(ask, 1, choir, firstName="Ann")
    kept = await make_member(ask, 1, firstName="Anne")
    await ask(groups.DELETE, choir)
    for other in (anna, ann):
        assert (await ask(members.MERGE, kept, body={"memberId": other}))[0] == 200
    assert (await ask(groups.RESTORE, choir))[0] == 200
    assert await people_in(ask, church, choir) == {kept}


async def test_of_two_who_delete_or_restore_at_once_each_does_it_once(ask: Ask, church: Church, bus: BusProbe) -> None:
    choir = await make_group(ask)
    anna = await make_member(ask, 1, choir)
    deleted = await asyncio.gather(*(ask(groups.DELETE, choir) for _ in range(3)))
    assert sorted(status for status, _ in deleted) == [204, 404, 404]
    restored = await asyncio.gather(*(ask(groups.RESTORE, choir) for _ in range(3)))
    assert [status for status, _ in restored] == [200, 200, 200]
    assert await people_in(ask, church, choir) == {anna}
    await bus.next(ActionRecorded, lambda act: act.action == "group.restored")
    assert "group.restored" not in [act.data.action for act in await bus.all(ActionRecorded)]


async def test_who_joins_while_a_group_is_deleted_is_in_it_or_is_told_that_it_is_gone(ask: Ask, church: Church) -> None:
    choir = await make_group(ask)
    people = [await make_member(ask, number) for number in range(8)]
    asked = [ask(groups.ADD_MEMBERS, choir, body={"memberIds": [each]}) for each in people]
    *joined, (status, _) = await asyncio.gather(*asked[:4], ask(groups.DELETE, choir), *asked[4:], ask(groups.LIST))
    del joined[4]
    assert status == 200
    assert {status for status, _ in joined} <= {200, 404}
    await ask(groups.RESTORE, choir)
    ins = {person for person, (status, _) in zip(people, joined, strict=True) if status == 200}
    assert await people_in(ask, church, choir) == ins


async def test_killed_before_the_commit_a_restore_leaves_the_group_deleted(ask: Ask, church: Church) -> None:
    choir = await make_group(ask)
    anna = await make_member(ask, 1, choir)
    await ask(groups.DELETE, choir)
    with pytest.raises(Killed):
        async with church.database.tenant(church.id) as tx:
            await cases.restore(tx, church.actor, UUID(choir))
            raise Killed
    assert (await ask(groups.GET, choir))[0] == 404
    assert (await ask(groups.RESTORE, choir))[0] == 200
    assert await people_in(ask, church, choir) == {anna}


async def test_another_churchs_deleted_group_is_unknown(ask: Ask, new_church: Callable[[], Awaitable[Church]]) -> None:
    choir = await make_group(ask)
    await ask(groups.DELETE, choir)
    stranger = (await new_church()).id
    for group_id in (choir, new_id()):
        assert (await ask(groups.RESTORE, group_id, church_id=stranger))[0] == 404
    assert (await ask(groups.LIST, query={"deleted": "true"}, church_id=stranger))[1]["data"] == []
    assert (await ask(groups.RESTORE, choir))[0] == 200


async def test_restoring_takes_as_many_statements_for_a_hundred_as_for_one(
    ask: Ask, church: Church, count_statements: CountStatements
) -> None:
    taken = []
    for name, first, count in (("One", 0, 1), ("Hundred", 100, 100)):
        group_id = await make_group(ask, name)
        rows = [{"firstName": "P", "phone": f"+1312555{first + number:04}"} for number in range(count)]
        await ask(members.IMPORT, body={"members": rows, "groupIds": [group_id]})
        await ask(groups.DELETE, group_id)
        with count_statements() as counted:
            assert (await ask(groups.RESTORE, group_id))[1]["memberCount"] == count
        taken.append(sorted(each for each in counted.by_name.elements() if not each.startswith(LOOPS)))
    assert taken[0] == taken[1]
    assert taken[0].count("groups.restore") == 1
    assert len(taken[0]) <= 4
