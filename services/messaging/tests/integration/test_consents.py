"""Where consent was given, from requests and imports to the event that compliance keeps it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from services.messaging.tests.integration.conftest import Church, phone

from koinonia.api import Endpoint, members
from koinonia.events.messaging import ConsentsGiven, MembersChanged
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]

SOURCE = "paper card, May 2024"


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(endpoint: Endpoint, on: str | None = None, **values: Any) -> tuple[int, Any]:
        ids = {} if on is None else {"id": UUID(on)}
        return await caller(service, endpoint, **{"church_id": church.id, "ids": ids, **values})

    return call


def person(number: int, **values: Any) -> dict[str, Any]:
    return {"firstName": "Anna", "phone": phone(number), "optInSms": True, "consentSource": SOURCE, **values}


async def nothing_told(bus: BusProbe, church: Church, version: int = 1) -> bool:
    """Whether no consent was told up to the next change of a member."""
    await bus.next(MembersChanged, lambda each: each.members[0].version == version)
    return await bus.all(ConsentsGiven) == []


async def test_a_new_members_source_is_told_with_the_number(ask: Ask, church: Church, bus: BusProbe) -> None:
    status, anna = await ask(members.CREATE, body=person(1, consentSource=f" {SOURCE} "))
    assert (status, "consentSource" in anna) == (201, False)
    event = await bus.next(ConsentsGiven)
    (row,) = event.data.consents
    assert (event.church_id, event.data.said_by) == (church.id, "admin")
    assert (str(row.member_id), row.version, row.source) == (anna["id"], 1, SOURCE)
    assert row.phone_index == church.keys.index(phone(1), church.id, "phone")


@pytest.mark.parametrize("values", [{"optInSms": False}, {"consentSource": None}])
async def test_without_consent_or_without_its_source_nothing_is_told(
    ask: Ask, church: Church, bus: BusProbe, values: dict[str, Any]
) -> None:
    assert (await ask(members.CREATE, body=person(1, **values)))[0] == 201
    assert await nothing_told(bus, church)


async def test_who_is_changed_to_consent_has_a_source_and_who_did_before_has_none(
    ask: Ask, church: Church, bus: BusProbe
) -> None:
    _, anna = await ask(members.CREATE, body=person(1, optInSms=False, consentSource=None))
    assert await nothing_told(bus, church)
    body = {"optInSms": True, "consentSource": SOURCE}
    assert (await ask(members.PATCH, anna["id"], body=body))[0] == 200
    event = await bus.next(ConsentsGiven)
    assert [(row.version, row.source) for row in event.data.consents] == [(2, SOURCE)]
    assert (await ask(members.PATCH, anna["id"], body={**body, "lastName": "Lee"}))[0] == 200
    assert await nothing_told(bus, church, 3)


async def test_an_imports_rows_have_sources_of_their_own_and_a_repeated_row_tells_nothing_new(
    ask: Ask, church: Church, bus: BusProbe
) -> None:
    await ask(members.CREATE, body=person(4, optInSms=False))
    rows = [person(1), person(2, consentSource="web form"), person(3, optInSms=False), person(4), person(1)]
    for _ in range(2):
        assert (await ask(members.IMPORT, body={"members": rows}))[0] == 200
    event = await bus.next(ConsentsGiven)
    assert event.data.said_by == "import"
    told = {row.phone_index: (row.source, row.version) for row in event.data.consents}
    expected = {1: (SOURCE, 1), 2: ("web form", 1), 4: (SOURCE, 2)}
    assert told == {church.keys.index(phone(n), church.id, "phone"): each for n, each in expected.items()}
    assert (await ask(members.CREATE, body=person(9, optInSms=False)))[0] == 201
    await bus.next(MembersChanged, lambda each: each.source == "admin" and each.members[0].first_name == "Anna")
    assert await bus.all(ConsentsGiven) == []


@pytest.mark.parametrize("background", [False, True])
async def test_a_tables_column_says_it_under_the_names_that_people_give_it(
    ask: Ask, bus: BusProbe, background: bool
) -> None:
    table = (
        f'First name,Mobile,Opt in,Source of consent\nAnna,{phone(1)},yes,"{SOURCE}"\nBob,{phone(2)},no,"{SOURCE}"\n'
    )
    query = {"background": "true"} if background else {}
    status, _ = await ask(members.IMPORT, data=table.encode(), headers={"Content-Type": "text/csv"}, query=query)
    assert status == (202 if background else 200)
    event = await bus.next(ConsentsGiven)
    assert [row.source for row in event.data.consents] == [SOURCE]


async def test_where_the_number_has_opted_out_an_import_gives_no_consent_and_no_proof(
    ask: Ask, church: Church, bus: BusProbe
) -> None:
    _, anna = await ask(members.CREATE, body=person(1, consentSource=None))
    await ask(members.PATCH, anna["id"], body={"optInSms": False})
    status, result = await ask(members.IMPORT, body={"members": [person(1), person(1, firstName="Bob")]})
    assert (status, result["created"], result["skipped"]) == (200, 1, 1)
    assert (await ask(members.CREATE, body=person(5)))[0] == 201
    event = await bus.next(ConsentsGiven)
    assert [row.phone_index for row in event.data.consents] == [church.keys.index(phone(5), church.id, "phone")]


@pytest.mark.parametrize("text", ["call 312-555-0142", "anna@lee.example", " ", "", "x" * 201])
async def test_a_source_that_names_a_person_or_nothing_is_refused_by_its_name(
    ask: Ask, bus: BusProbe, text: str
) -> None:
    for endpoint, on, body in (
        (members.CREATE, None, person(1, consentSource=text)),
        (
            members.PATCH,
            (await ask(members.CREATE, body=person(2, consentSource=None)))[1]["id"],
            {"consentSource": text},
        ),
    ):
        status, answer = await ask(endpoint, on, body=body)
        assert (status, [each["field"] for each in answer["error"]["details"]]) == (400, ["consentSource"])
    _, result = await ask(members.IMPORT, body={"members": [person(1, consentSource=text)]})
    assert [(each["row"], each["field"]) for each in result["errors"]] == [(1, "consentSource")]
    assert await bus.all(ConsentsGiven) == []
