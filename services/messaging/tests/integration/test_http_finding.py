"""Members found by what people type, sorted, deleted and brought back, through the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from koinonia.api import Endpoint, branches, groups, members
from koinonia.db import statement
from koinonia.db.cursor import encode_cursor
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import MembersChanged
from koinonia.ids import new_id
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import member_lists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

ANNA = {"firstName": "Anna", "lastName": "Lee", "phone": "(312) 555-0142", "optInSms": True}

LOOPS = ("outbox.", "messages.", "recurring_messages.", "imports.")
"""What statements of the service's loops begin with."""


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    """Call as an owner of the church."""

    async def call(endpoint: Endpoint, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


@pytest.fixture
def names(ask: Ask) -> Callable[..., Awaitable[list[str]]]:
    """The first names in a list, in its order, page by page."""

    async def found(**query: str) -> list[str]:
        shown: list[str] = []
        while True:
            status, page = await ask(members.LIST, query={"limit": "2", **query})
            assert status == 200, page
            shown += [each["firstName"] for each in page["data"]]
            if not page["hasMore"]:
                return shown
            query["cursor"] = page["nextCursor"]

    return found


@pytest.mark.parametrize("candidates", [1000, 0])
async def test_members_are_found_by_what_people_type(
    ask: Ask, names: Callable[..., Awaitable[list[str]]], monkeypatch: pytest.MonkeyPatch, candidates: int
) -> None:
    monkeypatch.setattr(member_lists, "CANDIDATES", candidates)  # none: a list in which every word is frequent
    for number, (first, last, more) in enumerate(
        [
            ("Anna", "Lee-Young", {"email": "Anna@Lee.example"}),
            ("José María", "Núñez", {"externalId": "A-17"}),
            ("Łukasz", "O'Brien", {}),
            ("100% Carl_", "Strauß", {}),
            ("Юлия", "Петрова", {"externalId": "5550000003"}),
        ]
    ):
        body = {"firstName": first, "lastName": last, "phone": f"+1312555000{number}", **more}
        assert (await ask(members.CREATE, body=body))[0] == 201
    for text, expected in {
        "anna": ["Anna"],
        "YOU an": ["Anna"],
        "an an": ["Anna"],
        "nna": [],
        "nunez jose": ["José María"],
        "núñ mar": ["José María"],
        "jose lee": [],
        "lukas": ["Łukasz"],
        "obri": ["Łukasz"],
        "O’Brien": ["Łukasz"],
        "strauss": ["100% Carl_"],
        "100 %carl": ["100% Carl_"],
        "%": [],
        "_": [],
        "петр": ["Юлия"],
        "A-17": ["José María"],
        "a-17": [],
        "(312) 555-0002": ["Łukasz"],
        "+13125550002": ["Łukasz"],
        "312 555 0009": [],
        "5550000003": ["Юлия"],
        "anna@lee.EXAMPLE": ["Anna"],
        "anna@lee": [],
    }.items():
        assert await names(search=text) == expected, text
    await ask(
        members.PATCH,
        ids={"id": UUID((await ask(members.LIST, query={"search": "anna"}))[1]["data"][0]["id"])},
        body={"lastName": "Lee"},
    )
    assert (await names(search="young"), await names(search="lee")) == ([], ["Anna"])


async def test_members_are_sorted_page_by_page_either_way_and_filtered(
    ask: Ask, names: Callable[..., Awaitable[list[str]]]
) -> None:
    _, north = await ask(branches.CREATE, body={"name": "North"})
    _, choir = await ask(groups.CREATE, body={"name": "Choir"})
    for number, (name, values) in enumerate(
        [("bert", {}), ("Älva", {"branchId": north["id"]}), ("Zoë", {"groupIds": [choir["id"]]}), ("Anna", {})]
    ):
        body = {"firstName": name, "lastName": "Lee", "phone": f"+1312555000{number}", "optInSms": number > 0, **values}
        assert (await ask(members.CREATE, body=body))[0] == 201
    assert await names() == ["Anna", "Zoë", "Älva", "bert"]
    assert await names(sort="createdAt") == ["bert", "Älva", "Zoë", "Anna"]
    assert await names(sort="name") == ["Älva", "Anna", "bert", "Zoë"]
    assert await names(sort="-name", search="lee") == ["Zoë", "bert", "Anna", "Älva"]
    assert await names(sort="name", optIn="true") == ["Älva", "Anna", "Zoë"]
    assert await names(branchId=north["id"]) == ["Älva"]
    assert await names(branchId=north["id"], search="zo") == []
    assert await names(groupId=choir["id"], sort="name") == ["Zoë"]
    assert await names(groupId=choir["id"], branchId=north["id"]) == []
    assert await names(branchId=str(new_id())) == []
    _, page = await ask(members.LIST, query={"limit": "1", "sort": "name"})
    odd = encode_cursor("members.list name", (new_id(), "\0"))
    for cursor, sort in (("rubbish", "name"), (page["nextCursor"], "-name"), (page["nextCursor"], ""), (odd, "name")):
        query = {"cursor": cursor, **({"sort": sort} if sort else {})}
        status, answer = await ask(members.LIST, query=query)
        assert (status, answer["error"]["details"][0]["field"]) == (400, "cursor")


async def test_a_page_of_members_with_their_groups_takes_two_statements(
    ask: Ask, count_statements: CountStatements
) -> None:
    ids = [(await ask(groups.CREATE, body={"name": name}))[1]["id"] for name in ("A", "B", "C")]
    rows = [{"firstName": "Anna", "phone": f"+1312555{number:04}", "groupIds": ids} for number in range(30)]
    assert (await ask(members.IMPORT, body={"members": rows}))[1]["created"] == 30
    for endpoint, query, most in (
        (members.LIST, {}, 1),
        (members.LIST, {"sort": "name", "groupId": ids[0]}, 1),
        (members.LIST, {"search": "anna"}, 2),
        (members.LIST, {"search": "312 555 0001"}, 2),
        (members.LIST, {"search": "a@b.example"}, 1),
        (groups.LIST_MEMBERS, {}, 2),
        (groups.LIST, {}, 1),
        (branches.LIST, {}, 1),
    ):
        with count_statements() as counted:
            status, page = await ask(endpoint, ids={"id": UUID(ids[0])} if "{id}" in endpoint.path else {}, query=query)
        assert status == 200
        asked = [name for name in counted.by_name.elements() if not name.startswith(LOOPS)]
        assert len(asked) == most, (endpoint.name, query, asked)
        if endpoint in {members.LIST, groups.LIST_MEMBERS}:
            assert all(len(each["groupIds"]) == 3 for each in page["data"])


async def test_a_deleted_member_comes_back_as_they_were(ask: Ask, bus: BusProbe) -> None:
    ids = [(await ask(groups.CREATE, body={"name": name}))[1]["id"] for name in ("Choir", "Youth")]
    _, anna = await ask(members.CREATE, body={**ANNA, "groupIds": ids})
    at = {"id": UUID(anna["id"])}
    assert (await ask(members.RESTORE, ids=at))[1] == anna  # who is there stays as they are
    await ask(members.DELETE, ids=at)
    await ask(groups.DELETE, ids={"id": UUID(ids[1])})
    _, page = await ask(members.LIST, query={"deleted": "true", "search": "anna"})
    assert [(each["id"], each["deletedAt"] is not None) for each in page["data"]] == [(anna["id"], True)]
    for _ in range(2):
        status, back = await ask(members.RESTORE, ids=at)
        assert (status, back["groupIds"], back["optInSms"], back["deletedAt"]) == (200, ids[:1], True, None)
    assert (await ask(groups.GET, ids={"id": UUID(ids[0])}))[1]["memberCount"] == 1
    assert (await ask(members.LIST, query={"deleted": "true"}))[1]["data"] == []
    told = await bus.next(MembersChanged, lambda each: each.members[0].version == 3)
    assert (told.data.members[0].deleted, told.data.members[0].opted_in) == (False, True)
    assert (await bus.next(ActionRecorded, lambda each: each.action == "member.restored")).data.target_id == at["id"]


async def test_a_deleted_member_whom_others_replaced_or_silenced_comes_back_so(ask: Ask) -> None:
    _, anna = await ask(members.CREATE, body={**ANNA, "externalId": "7"})
    at = {"id": UUID(anna["id"])}
    await ask(members.DELETE, ids=at)
    _, again = await ask(members.CREATE, body=ANNA)
    assert (await ask(members.RESTORE, ids=at))[0] == 409
    _, bob = await ask(members.CREATE, body={**ANNA, "firstName": "Bob"})
    await ask(members.PATCH, ids={"id": UUID(bob["id"])}, body={"optInSms": False})
    await ask(members.DELETE, ids={"id": UUID(again["id"])})
    assert (await ask(members.RESTORE, ids=at))[1]["optInSms"] is False


async def test_deleted_members_are_for_those_who_may_restore(ask: Ask) -> None:
    for role, expected in (("viewer", 403), ("sender", 403), ("admin", 200)):
        assert (await ask(members.LIST, query={"deleted": "true"}, role=role))[0] == expected
    assert (await ask(members.LIST, query={"deleted": "false"}, role="viewer"))[0] == 200


WORDS = statement("test.words", "SELECT word FROM member_words ORDER BY word")
ERASE = statement("test.erase", "DELETE FROM members")


async def test_words_go_with_their_members(church: Church) -> None:
    await church.add_members([{"firstName": "Anna Anna", "lastName": "Lee", "phone": "+13125550001"}])
    async with church.database.tenant(church.id) as tx:
        assert [row["word"] for row in await tx.fetch(WORDS)] == ["anna", "lee"]
        await tx.execute(ERASE)
        assert await tx.fetch(WORDS) == []
