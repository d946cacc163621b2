"""A church's settings over real HTTP: validated, told, recorded, and in force where they are used."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe

from .conftest import Answer, Browser, NewBrowser, Service, StartGateway
from .test_churches import key_of, number
from .test_mfa import turn_on

REQUIRE_MFA = statement("test.require_mfa", "SELECT require_mfa FROM churches")
QUIET = {"start": "21:00", "until": "08:00"}


async def patch(browser: Browser, body: Any, **more: Any) -> Answer:
    return await browser.call("PATCH", f"/api/churches/{browser.church_id}/settings", body, **more)


def fields_of(act: ActionRecorded) -> set[str]:
    return set(act.details.get("fields", "").split(","))


async def test_all_settings_are_kept_told_and_recorded(bus: BusProbe, owner: Browser) -> None:
    await bus.next(ChurchChanged)
    number_id = new_id()
    await bus.publish(number(number_id), UUID(owner.church_id))
    body = {
        "name": "Grace",
        "timezone": "America/Denver",
        "quietHours": QUIET,
        "senderDefaults": {"numberId": str(number_id)},
        "retentionDays": 365,
        "undoSeconds": 30,
        "approvalAbove": 500,
        "optOutLine": "Reply STOP to opt out",
        "weeklyLimit": 3,
    }

    async def taken() -> bool:
        return (await patch(owner, {"senderDefaults": {"numberId": str(number_id)}}))[0] == 200

    await wait_until(taken)
    await bus.next(ChurchChanged)
    status, answer = await patch(owner, body)
    assert (status, {name: answer[name] for name in body}) == (200, body)
    assert answer["requireMfa"] is False
    told = (await bus.next(ChurchChanged)).data
    assert (told.version, told.name, told.timezone, told.quiet_from, told.quiet_until) == (
        3,
        "Grace",
        "America/Denver",
        "21:00",
        "08:00",
    )
    assert (told.default_number_id, told.retention_days, told.require_mfa) == (number_id, 365, False)
    assert (told.undo_seconds, told.approval_above) == (30, 500)
    assert (told.opt_out_line, told.weekly_limit) == ("Reply STOP to opt out", 3)
    acts = [each.data for each in await bus.all(ActionRecorded) if each.data.action == "church.changed"]
    await bus.next(ActionRecorded, lambda act: {"retention_days", "weekly_limit"} <= fields_of(act))
    assert all((str(act.actor_id), act.address) == (owner.admin_id, "127.0.0.1") for act in acts)

    status, answer = await patch(
        owner,
        {
            "quietHours": None,
            "retentionDays": None,
            "approvalAbove": None,
            "senderDefaults": {},
            "optOutLine": None,
            "weeklyLimit": None,
        },
    )
    assert (status, answer["quietHours"], answer["retentionDays"]) == (200, None, None)
    assert (answer["undoSeconds"], answer["approvalAbove"]) == (30, None)
    assert (answer["senderDefaults"], answer["name"]) == ({"numberId": None}, "Grace")
    told = (await bus.next(ChurchChanged)).data
    assert (told.version, told.quiet_from, told.default_number_id, told.name) == (4, None, None, "Grace")
    assert (told.opt_out_line, answer["optOutLine"]) == (None, None)
    assert (told.weekly_limit, answer["weeklyLimit"]) == (None, None)


async def test_what_is_so_already_is_no_change(bus: BusProbe, owner: Browser) -> None:
    await bus.next(ChurchChanged)
    _, before = await owner.call("GET", f"/api/churches/{owner.church_id}/settings")
    assert await patch(owner, {"name": before["name"], "quietHours": None, "requireMfa": False}) == (200, before)
    assert (await patch(owner, {}))[1] == before
    await patch(owner, {"name": "Other"})
    assert (await bus.next(ChurchChanged)).data.version == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": " "}, "name"),
        ({"optOutLine": " "}, "optOutLine"),
        ({"optOutLine": "Hi {{firstName}}"}, "optOutLine"),
        ({"name": None}, "name"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"quietHours": {"start": "24:00", "until": "08:00"}}, "quietHours.start"),
        ({"quietHours": {"start": "9:00", "until": "08:00"}}, "quietHours.start"),
        ({"quietHours": {"start": "08:00\n", "until": "09:00"}}, "quietHours.start"),
        ({"quietHours": {"start": "08:00"}}, "quietHours.until"),
        ({"quietHours": {"start": "08:00", "until": "08:00"}}, "quietHours.until"),
        ({"retentionDays": 29}, "retentionDays"),
        ({"retentionDays": 3651}, "retentionDays"),
        ({"undoSeconds": 601}, "undoSeconds"),
        ({"approvalAbove": -1}, "approvalAbove"),
        ({"weeklyLimit": 0}, "weeklyLimit"),
        ({"weeklyLimit": 51}, "weeklyLimit"),
        ({"weeklyLimit": 1.5}, "weeklyLimit"),
        ({"weeklyLimit": "3"}, "weeklyLimit"),
        ({"requireMfa": None}, "requireMfa"),
        ({"senderDefaults": {"numberId": str(new_id())}}, "senderDefaults.numberId"),
    ],
)
async def test_what_is_not_valid_is_named_and_changes_nothing(owner: Browser, body: Any, field: str) -> None:
    status, answer = await patch(owner, {"name": "Half", **body})
    assert (status, [each["field"] for each in answer["error"]["details"]]) == (400, [field])
    _, after = await owner.call("GET", f"/api/churches/{owner.church_id}/settings")
    assert after["name"] == "Grace Chapel"


async def test_another_churchs_number_is_no_sender(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    other, number_id = browsers(), new_id()
    await other.register(email="eve@other.example")
    await bus.publish(number(number_id), UUID(other.church_id))
    body = {"senderDefaults": {"numberId": str(number_id)}}

    async def theirs() -> bool:
        return (await patch(other, body))[0] == 200

    await wait_until(theirs)
    assert (await patch(owner, body))[0] == 400


async def test_two_changes_at_once_keep_both(
    bus: BusProbe, gateway: Service, start_gateway: StartGateway, owner: Browser
) -> None:
    other = await start_gateway()
    await bus.next(ChurchChanged)
    for days in range(100, 105):
        bodies = [({"name": f"Grace {days}"}, gateway.url), ({"retentionDays": days}, other.url)]
        answers = await asyncio.gather(*(patch(owner, body, url=url) for body, url in bodies))
        assert [status for status, _ in answers] == [200, 200]
        _, after = await owner.call("GET", f"/api/churches/{owner.church_id}/settings")
        assert (after["name"], after["retentionDays"]) == (f"Grace {days}", days)
    versions = [(await bus.next(ChurchChanged)).data.version for _ in range(10)]
    assert sorted(versions) == list(range(2, 12))


async def test_the_second_factor_is_required_by_who_has_shown_it_and_holds_within_a_second(
    gateway: Service, owner: Browser, browsers: NewBrowser
) -> None:
    _, headers = await key_of(owner, "admin")
    program, without = browsers(), browsers()
    program.church_id = owner.church_id
    assert (await without.log_in())[0] == 200
    assert (await without.call("GET", "/api/auth/me"))[0] == 200
    for browser, more in ((owner, {}), (program, {"headers": headers, "csrf": False})):
        status, answer = await patch(browser, {"requireMfa": True, "name": "Taken"}, **more)
        assert (status, answer["error"]["code"]) == (403, "MFA_REQUIRED")
    await turn_on(owner)
    status, answer = await patch(owner, {"requireMfa": True})
    assert (status, answer["requireMfa"], answer["name"]) == (200, True, "Grace Chapel")
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        assert await tx.fetch_value(REQUIRE_MFA) is True
    status, answer = await patch(program, {"requireMfa": False}, headers=headers, csrf=False)
    assert (status, answer["error"]["code"]) == (403, "MFA_REQUIRED")
    assert (await patch(program, {"name": "By a program"}, headers=headers, csrf=False))[0] == 200
