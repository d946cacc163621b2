"""Likely doubles, and two records made one, through the door."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api import Endpoint, groups, members, messages
from koinonia.api.messages import Exclude
from koinonia.api.recurring import RecurringRequest, ScheduleRequest
from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import MembersChanged
from koinonia.ids import new_id
from koinonia_messaging import members as members_cases
from koinonia_messaging import merging, recurring
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import doubles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.messaging.tests.integration.conftest import Church

    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]

MEMBERS = statement("test.members", "SELECT id, first_name FROM members")
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


@pytest.mark.parametrize("values", [1000, 2])
async def test_likely_doubles_are_shown_once_by_their_strongest_reason(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    monkeypatch.setattr(doubles, "SHARED_VALUES", values)
    people = [
        ("Anna", "Lee", 1, {"email": "lee@x.example"}),
        ("Bob", "Lee", 1, {}),  # family
        ("Ann", "", 1, {"email": "lee@x.example"}),
        ("Jon", "Ray", 2, {}),
        ("John", "Ray", 2, {}),
        ("Ray", "Jon", 2, {"externalId": "7"}),
        ("Dora", "Núñez", 3, {"email": "d@x.example"}),
        ("DORA", "Nunez", 4, {}),
        ("Carl", "Ott", 5, {"email": "D@X.example"}),
        ("Eve", "", 6, {}),
        ("Eve", "", 7, {}),  # a first name alone says little
    ]
    for first, last, number, more in people:
        body = {"firstName": first, "lastName": last, "phone": f"+1312555000{number}", **more}
        assert (await ask(members.CREATE, body=body))[0] == 201
    found: list[tuple[str, str, str]] = []
    query: dict[str, str] = {"limit": "1"}
    while True:
        status, page = await ask(members.LIST_DOUBLES, query=query)
        assert status == 200
        assert len(page["data"]) == 1 or values == 2  # looking ends before a page is full
        for each in page["data"]:
            older, newer = each["members"]
            found.append((each["reason"], older["firstName"], newer["firstName"]))
        assert len(found) < 10
        if not page["hasMore"]:
            break
        query["cursor"] = page["nextCursor"]
    assert sorted(found) == [
        ("email", "Dora", "Carl"),
        ("name", "Dora", "DORA"),
        ("phone", "Anna", "Ann"),
        ("phone", "Jon", "John"),
        ("phone", "Jon", "Ray"),
    ]
    assert (await ask(members.LIST_DOUBLES, role="sender"))[0] == 403


async def test_a_phone_that_a_crowd_shares_makes_nobody_a_double(ask: Ask, church: Church) -> None:
    for digit, count in ((1, doubles.MOST_SHARING), (2, doubles.MOST_SHARING + 1)):
        await church.add_members(
            {"firstName": f"Anna{'x' * each}", "lastName": f"L{digit}", "phone": f"+1312555000{digit}"}
            for each in range(count)
        )
    status, page = await ask(members.LIST_DOUBLES, query={"limit": "100"})
    assert (status, len(page["data"]), page["hasMore"]) == (200, doubles.MOST_SHARING - 1, False)
    assert {each["members"][0]["lastName"] for each in page["data"]} == {"L1"}


async def test_two_records_become_one_and_the_other_leads_to_it(ask: Ask, bus: BusProbe) -> None:
    ids = [(await ask(groups.CREATE, body={"name": name}))[1]["id"] for name in ("Choir", "Youth")]
    first = {**ANNA, "groupIds": ids[:1], "customFields": {"shirt": "M"}}
    second = {
        **ANNA,
        "firstName": "Ann",
        "groupIds": ids,
        "customFields": {"shirt": "L", "car": "no"},
        "externalId": "7",
        "email": "a@x.example",
    }
    (_, anna), (_, ann) = [await ask(members.CREATE, body=body) for body in (first, second)]
    later = {
        "content": "X",
        "targetType": "individual",
        "targetIds": [ann["id"]],
        "scheduledAt": (clock.now() + timedelta(days=1)).isoformat(),
    }
    _, sent = await ask(messages.SEND, body=later)
    at, one = {"id": UUID(anna["id"])}, None
    for _ in range(2):
        status, one = await ask(members.MERGE, ids=at, body={"memberId": ann["id"]})
        assert (status, one["firstName"], one["externalId"], one["email"]) == (200, "Anna", "7", "a@x.example")
        assert (sorted(one["groupIds"]), one["optInSms"]) == (sorted(ids), True)
        assert one["customFields"] == {"shirt": "M", "car": "no"}
    for group in ids:
        assert (await ask(groups.GET, ids={"id": UUID(group)}))[1]["memberCount"] == 1
    gone = {"id": UUID(ann["id"])}
    assert (await ask(members.GET, ids=gone))[1] == one
    for query in ({}, {"deleted": "true"}):
        _, page = await ask(members.LIST, query=query)
        assert [each["id"] for each in page["data"]] == ([] if query else [anna["id"]])
    assert (await ask(members.PATCH, ids=gone, body={"lastName": "X"}))[0] == 404
    assert (await ask(members.RESTORE, ids=gone))[0] == 409
    told = await bus.next(MembersChanged, lambda each: len(each.members) == 2)
    kept, other = told.data.members
    assert (kept.member_id, kept.version, kept.deleted) == (at["id"], 2, False)
    assert (other.member_id, other.version, other.deleted, other.merged_into) == (gone["id"], 2, True, at["id"])
    audited = [each.data for each in await bus.all(ActionRecorded) if each.data.action == "member.merged"]
    assert [each.details for each in audited] == [{"merged": ann["id"]}]
    _, preview = await ask(messages.GET, ids={"id": UUID(sent["message"]["id"])})
    assert preview["targetIds"] == [anna["id"]]


async def test_a_merge_lifts_no_opt_out_and_a_chain_leads_to_its_end(ask: Ask, bus: BusProbe) -> None:
    rows = [
        {**ANNA, "firstName": name, "optInSms": name != "B", "phone": f"+1312555000{number}"}
        for number, name in enumerate("ABC")
    ]
    one, two, three = [UUID((await ask(members.CREATE, body=row))[1]["id"]) for row in rows]
    status, merged = await ask(members.MERGE, ids={"id": two}, body={"memberId": str(one)})
    assert (status, merged["optInSms"], merged["phone"]) == (200, False, "+13125550001")
    status, merged = await ask(members.MERGE, ids={"id": three}, body={"memberId": str(two)})
    assert (status, merged["optInSms"]) == (200, False)
    assert (await ask(members.GET, ids={"id": one}))[1]["id"] == str(three)
    told = await bus.next(MembersChanged, lambda each: len(each.members) == 3)
    assert {each.member_id for each in told.data.members if each.merged_into == three} == {one, two}
    for kept, other, expected in ((three, three, 400), (three, new_id(), 404), (one, three, 404), (three, two, 200)):
        assert (await ask(members.MERGE, ids={"id": kept}, body={"memberId": str(other)}))[0] == expected


async def named(church: Church) -> dict[str, UUID]:
    async with church.database.tenant(church.id) as tx:
        return {row["first_name"]: row["id"] for row in await tx.fetch(MEMBERS)}


async def merge(church: Church, kept: UUID, other: UUID) -> None:
    async with church.database.tenant(church.id) as tx:
        await merging.merge(tx, church.actor, kept, other)


async def test_whoever_names_or_excludes_the_other_names_or_excludes_the_kept_one_once(church: Church) -> None:
    await church.add_crowd(4)
    one, two, three, four = [identifier for _, identifier in sorted((await named(church)).items())]
    later = clock.now() + timedelta(days=1)
    to_two = await church.send(kind="individual", ids=[two, three], scheduled_at=later)
    to_both = await church.send(kind="individual", ids=[one, two], scheduled_at=later)
    but_two = await church.send(exclude=Exclude(member_ids=[two]), scheduled_at=later)
    but_both = await church.send(exclude=Exclude(member_ids=[two, one]), scheduled_at=later)
    begun = await church.dispatch(kind="individual", ids=[two, three, four], exclude=Exclude(member_ids=[two]))
    assert await church.stream(begun, 1)
    schedule = ScheduleRequest(rrule="FREQ=DAILY", timezone="UTC", start_at=later)
    request = RecurringRequest(
        content="Hi", target_type="individual", target_ids=[two], exclude=Exclude(member_ids=[three]), schedule=schedule
    )
    async with church.database.tenant(church.id) as tx:
        again = await recurring.create(tx, church.actor, request)
    await merge(church, one, two)
    shown = [await church.message(each.id) for each in (to_two, to_both, but_two, but_both)]
    assert [each.target_ids for each in shown] == [[one, three], [one], [], []]
    assert [each.exclude.member_ids for each in shown] == [[], [], [one], [one]]
    sending = await church.message(begun)
    assert (sending.target_ids, sending.exclude.member_ids) == ([two, three, four], [one])
    await merge(church, four, three)
    async with church.database.tenant(church.id) as tx:
        kept = await recurring.fetch(tx, again.id)
    assert (kept.target_ids, kept.exclude.member_ids) == ([one], [four])


async def test_a_stop_of_the_others_number_holds_for_the_kept_ones(church: Church) -> None:
    await church.add_crowd(2)
    known = await named(church)
    await church.stop("+13125550001")
    await merge(church, known["P0"], known["P1"])
    async with church.database.tenant(church.id) as tx:
        kept = await members_cases.fetch(tx, known["P0"])
    assert not kept.may_be_texted


async def test_of_two_merges_against_each_other_one_is_done(
    ask: Ask, new_church: Callable[[], Awaitable[Church]]
) -> None:
    (_, anna), (_, bob) = [await ask(members.CREATE, body={**ANNA, "firstName": name}) for name in ("Anna", "Bob")]
    one, two = UUID(anna["id"]), UUID(bob["id"])
    stranger = (await new_church()).id
    _, theirs = await ask(members.CREATE, church_id=stranger, body=ANNA)
    for kept, other in ((one, UUID(theirs["id"])), (UUID(theirs["id"]), one)):
        assert (await ask(members.MERGE, ids={"id": kept}, body={"memberId": str(other)}))[0] == 404
    answers = await asyncio.gather(
        *(
            ask(members.MERGE, ids={"id": kept}, body={"memberId": str(other)})
            for kept, other in ((one, two), (two, one))
        )
    )
    assert sorted(status for status, _ in answers) == [200, 404]
    assert len((await ask(members.LIST))[1]["data"]) == 1
