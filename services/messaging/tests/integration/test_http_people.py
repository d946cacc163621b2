"""Branches, groups and members through the door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from koinonia.api import Endpoint, branches, groups, members, messages
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import BranchChanged, MembersChanged
from koinonia.ids import new_id
from koinonia_messaging.app import build
from koinonia_messaging.http.progress import PROGRESS
from koinonia_messaging.settings import MessagingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.messaging.tests.integration.conftest import Church

    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]

ANNA = {"firstName": "Anna", "lastName": "Lee", "phone": "(312) 555-0142", "optInSms": True}


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    """Call as an owner of the church."""

    async def call(endpoint: Endpoint, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


async def test_a_new_church_has_one_default_branch_though_it_is_announced_again(
    service: Running[MessagingSettings], bus: BusProbe, church: Church, ask: Ask
) -> None:
    await church.set_up()
    status, page = await ask(branches.LIST)
    assert (status, [(each["name"], each["isDefault"]) for each in page["data"]]) == (200, [("Main", True)])
    (branch,) = page["data"]
    changed = await bus.next(BranchChanged)
    assert (changed.church_id, str(changed.data.branch_id), changed.data.is_default) == (church.id, branch["id"], True)


async def test_a_branch_is_made_changed_and_deleted(ask: Ask, bus: BusProbe) -> None:
    status, north = await ask(branches.CREATE, body={"name": "North", "description": "Hill"})
    assert status == 201
    assert (await ask(branches.CREATE, body={"name": "north"}))[0] == 409
    ids = {"id": UUID(north["id"])}
    status, changed = await ask(branches.PATCH, ids=ids, body={"name": "Northern"})
    assert (status, changed["name"], changed["description"]) == (200, "Northern", "Hill")
    assert (await ask(branches.PATCH, ids=ids, body={"name": "MAIN"}))[0] == 409
    assert await ask(branches.GET, ids=ids) == (200, changed)
    assert (await ask(branches.DELETE, ids=ids))[0] == 204
    assert (await ask(branches.GET, ids=ids))[0] == 404
    gone = await bus.next(BranchChanged, lambda each: each.deleted)
    assert (str(gone.data.branch_id), gone.data.version) == (north["id"], 3)
    assert (await bus.next(ActionRecorded, lambda each: each.action == "branch.deleted")).data.actor_kind == "session"


async def test_a_branch_that_is_default_or_has_people_stays(ask: Ask) -> None:
    _, page = await ask(branches.LIST)
    assert (await ask(branches.DELETE, ids={"id": UUID(page["data"][0]["id"])}))[0] == 409
    _, north = await ask(branches.CREATE, body={"name": "North"})
    _, anna = await ask(members.CREATE, body={**ANNA, "branchId": north["id"]})
    north_id, anna_id = {"id": UUID(north["id"])}, {"id": UUID(anna["id"])}
    assert (await ask(branches.DELETE, ids=north_id))[0] == 409
    assert (await ask(members.DELETE, ids=anna_id))[0] == 204
    assert (await ask(branches.DELETE, ids=north_id))[0] == 204


async def test_a_group_counts_its_members(ask: Ask) -> None:
    status, choir = await ask(groups.CREATE, body={"name": "Choir"})
    assert (status, choir["memberCount"]) == (201, 0)
    assert (await ask(groups.CREATE, body={"name": "CHOIR"}))[0] == 409
    ids = {"id": UUID(choir["id"])}
    people = [(await ask(members.CREATE, body={**ANNA, "firstName": name}))[1]["id"] for name in ("A", "B", "C")]
    for _ in range(2):
        status, choir = await ask(groups.ADD_MEMBERS, ids=ids, body={"memberIds": people})
        assert (status, choir["memberCount"]) == (200, 3)
    assert (await ask(groups.ADD_MEMBERS, ids=ids, body={"memberIds": [str(new_id())]}))[0] == 404
    _, page = await ask(groups.LIST_MEMBERS, ids=ids, query={"limit": "2"})
    assert ([each["firstName"] for each in page["data"]], page["hasMore"]) == (["C", "B"], True)
    _, page = await ask(groups.LIST_MEMBERS, ids=ids, query={"limit": "2", "cursor": page["nextCursor"]})
    assert ([each["firstName"] for each in page["data"]], page["nextCursor"]) == (["A"], None)
    status, choir = await ask(groups.REMOVE_MEMBERS, ids=ids, body={"memberIds": people[:1]})
    assert (status, choir["memberCount"]) == (200, 2)
    await ask(members.DELETE, ids={"id": UUID(people[1])})
    status, choir = await ask(groups.PATCH, ids=ids, body={"description": "Sings"})
    assert (status, choir["memberCount"], choir["description"]) == (200, 1, "Sings")
    assert (await ask(groups.PATCH, ids=ids, body={"branchId": str(new_id())}))[0] == 400
    assert [each["id"] for each in (await ask(groups.LIST))[1]["data"]] == [choir["id"]]
    assert (await ask(groups.DELETE, ids=ids))[0] == 204
    assert (await ask(groups.DELETE, ids=ids))[0] == 404
    assert (await ask(members.GET, ids={"id": UUID(people[2])}))[1]["groupIds"] == []


async def test_a_member_is_stored_sealed_and_shown_plain(ask: Ask, bus: BusProbe, church: Church) -> None:
    status, anna = await ask(members.CREATE, body={**ANNA, "email": "Anna@Lee.example", "customFields": {"shirt": "M"}})
    assert (status, anna["phone"], anna["email"], anna["optInSms"]) == (201, "+13125550142", "Anna@Lee.example", True)
    assert await ask(members.GET, ids={"id": UUID(anna["id"])}) == (200, anna)
    changed = await bus.next(MembersChanged)
    (state,) = changed.data.members
    assert (state.version, changed.data.source, state.opted_in) == (1, "admin", True)
    assert state.phone_ciphertext is not None
    assert church.keys.decrypt(state.phone_ciphertext, church.id, "phone") == "+13125550142"


async def test_one_person_is_a_member_once_but_a_family_shares_a_phone(ask: Ask) -> None:
    assert (await ask(members.CREATE, body=ANNA))[0] == 201
    assert (await ask(members.CREATE, body={**ANNA, "firstName": "ANNA"}))[0] == 409
    status, bob = await ask(members.CREATE, body={**ANNA, "firstName": "Bob", "externalId": "7"})
    assert status == 201
    assert (await ask(members.CREATE, body={**ANNA, "firstName": "Carl", "externalId": "7"}))[0] == 409
    ids = {"id": UUID(bob["id"])}
    assert (await ask(members.PATCH, ids=ids, body={"firstName": "Anna"}))[0] == 409
    assert (await ask(members.PATCH, ids=ids, body={"lastName": "Ray"}))[1]["lastName"] == "Ray"


async def test_a_members_change_is_whole_or_refused(ask: Ask, bus: BusProbe) -> None:
    _, choir = await ask(groups.CREATE, body={"name": "Choir"})
    _, anna = await ask(members.CREATE, body={**ANNA, "email": "a@b.example"})
    ids = {"id": UUID(anna["id"])}
    for wrong in ({"phone": "12"}, {"branchId": str(new_id())}, {"groupIds": [str(new_id())]}):
        status, answer = await ask(members.PATCH, ids=ids, body=wrong)
        assert (status, [each["field"] for each in answer["error"]["details"]]) == (400, list(wrong))
    patch = {"phone": "3125550143", "email": None, "groupIds": [choir["id"]], "customFields": {"shirt": "L"}}
    status, after = await ask(members.PATCH, ids=ids, body=patch)
    assert (status, after["phone"], after["email"], after["groupIds"]) == (200, "+13125550143", None, [choir["id"]])
    changed = await bus.next(MembersChanged, lambda each: each.members[0].version == 2)
    assert changed.data.members[0].first_name == "Anna"
    status, after = await ask(members.PATCH, ids=ids, body={"groupIds": []})
    assert (status, after["groupIds"], after["customFields"]) == (200, [], {"shirt": "L"})
    assert (await ask(groups.GET, ids={"id": UUID(choir["id"])}))[1]["memberCount"] == 0
    assert (await ask(members.PATCH, ids={"id": new_id()}, body={"lastName": "X"}))[0] == 404


async def test_consent_belongs_to_the_number(ask: Ask, bus: BusProbe) -> None:
    _, anna = await ask(members.CREATE, body=ANNA)
    _, bob = await ask(members.CREATE, body={**ANNA, "firstName": "Bob"})
    await ask(members.PATCH, ids={"id": UUID(anna["id"])}, body={"optInSms": False})
    assert not (await ask(members.GET, ids={"id": UUID(bob["id"])}))[1]["optInSms"]
    changed = await bus.next(MembersChanged, lambda each: len(each.members) == 2)
    assert [each.opted_in for each in changed.data.members] == [False, False]
    rows = [{**ANNA, "firstName": name} for name in ("Anna", "Carl")]
    _, result = await ask(members.IMPORT, body={"members": rows})
    assert (result["created"], result["skipped"]) == (1, 1)
    assert (await ask(members.LIST, query={"optIn": "true"}))[1]["data"] == []
    _, dora = await ask(members.CREATE, body={**ANNA, "firstName": "Dora", "phone": "3125550143"})
    ids = {"id": UUID(dora["id"])}
    assert not (await ask(members.PATCH, ids=ids, body={"phone": ANNA["phone"]}))[1]["optInSms"]
    assert (await ask(members.PATCH, ids=ids, body={"optInSms": True}))[1]["optInSms"]


async def test_who_texted_stop_is_shown_without_consent_whatever_an_admin_says(ask: Ask, church: Church) -> None:
    _, anna = await ask(members.CREATE, body=ANNA)
    await church.stop("+13125550142")
    ids = {"id": UUID(anna["id"])}
    assert not (await ask(members.GET, ids=ids))[1]["optInSms"]
    assert not (await ask(members.PATCH, ids=ids, body={"optInSms": True}))[1]["optInSms"]
    assert [each["id"] for each in (await ask(members.LIST, query={"optIn": "false"}))[1]["data"]] == [anna["id"]]


async def test_a_church_that_is_not_known_yet_is_asked_to_wait(ask: Ask) -> None:
    status, answer = await ask(members.CREATE, church_id=new_id(), body=ANNA)
    assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")


async def test_another_churchs_ids_answer_as_unknown_ones(
    ask: Ask, new_church: Callable[[], Awaitable[Church]]
) -> None:
    _, anna = await ask(members.CREATE, body=ANNA)
    _, choir = await ask(groups.CREATE, body={"name": "Choir"})
    _, north = await ask(branches.CREATE, body={"name": "North"})
    _, sent = await ask(messages.SEND, body={"content": "Hi", "targetType": "all"})
    stranger = (await new_church()).id
    _, theirs = await ask(groups.CREATE, church_id=stranger, body={"name": "Choir"})
    kinds: list[tuple[str, list[tuple[Endpoint, Any]]]] = [
        (
            anna["id"],
            [(members.GET, None), (members.PATCH, {"lastName": "X"}), (members.RESTORE, None), (members.DELETE, None)],
        ),
        (north["id"], [(branches.GET, None), (branches.PATCH, {"name": "X"}), (branches.DELETE, None)]),
        (
            choir["id"],
            [
                (groups.GET, None),
                (groups.PATCH, {"name": "X"}),
                (groups.LIST_MEMBERS, None),
                (groups.ADD_MEMBERS, {"memberIds": [anna["id"]]}),
                (groups.REMOVE_MEMBERS, {"memberIds": [anna["id"]]}),
                (groups.DELETE, None),
                (groups.RESTORE, None),
            ],
        ),
        (sent["message"]["id"], [(messages.GET, None), (messages.CANCEL, None), (PROGRESS, None)]),
    ]
    for identifier, requests in kinds:
        for endpoint, body in requests:
            answers = [
                (await ask(endpoint, church_id=stranger, ids={"id": each}, body=body))[0]
                for each in (UUID(identifier), new_id())
            ]
            assert answers == [404, 404], endpoint.name
    bodies: list[tuple[Endpoint, dict[str, UUID] | None, Callable[[str], Any]]] = [
        (members.CREATE, None, lambda each: {**ANNA, "branchId": each}),
        (members.CREATE, None, lambda each: {**ANNA, "groupIds": [each]}),
        (members.IMPORT, None, lambda each: {"members": [ANNA], "groupIds": [each]}),
        (groups.CREATE, None, lambda each: {"name": "X", "branchId": each}),
        (groups.ADD_MEMBERS, {"id": UUID(theirs["id"])}, lambda each: {"memberIds": [each]}),
        (messages.SEND, None, lambda each: {"content": "X", "targetType": "individual", "targetIds": [each]}),
        (messages.PREVIEW, None, lambda each: {"content": "X", "targetType": "groups", "targetIds": [each]}),
    ]
    for endpoint, ids, body_of in bodies:
        for own in (north["id"], choir["id"], anna["id"]):
            answers = [
                (await ask(endpoint, church_id=stranger, ids=ids, body=body_of(each)))[0]
                for each in (own, str(new_id()))
            ]
            assert answers[0] == answers[1] >= 400, endpoint.name
    assert (await ask(members.LIST, church_id=stranger))[1]["data"] == []
    assert (await ask(messages.LIST, church_id=stranger))[1]["data"] == []
