"""What is refused leaves a line in the audit log, and does not flood it."""

import asyncio
from collections.abc import Awaitable
from functools import partial
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db import Statement, statement
from koinonia.events import encode
from koinonia.events.audit import ActionRecorded
from koinonia.events.envelope import Envelope
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway import passwords
from koinonia_gateway.audit import Actor

from .conftest import Answer, Browser, NewBrowser, Service, StartGateway, still_waits
from .test_churches import key_of
from .test_mfa import App, enable, password_step, verify

SET_ROLE = statement("test.set_role", "UPDATE admins SET role = $1")
SET_STATUS = statement("test.set_status", "UPDATE churches SET status = $1")
REQUIRE = statement("test.require_mfa", "UPDATE churches SET require_mfa = $1")
ACTOR = Actor(kind="anonymous", id=None, address="192.0.2.7", request_id="test")


async def line(bus: BusProbe, action: str, outcome: str = "failure", **details: str) -> Envelope[ActionRecorded]:
    """The next such line; it has the caller's address and nobody's e-mail."""

    def is_it(act: ActionRecorded) -> bool:
        return (act.action, act.outcome) == (action, outcome) and act.details.items() >= details.items()

    event = await bus.next(ActionRecorded, is_it)
    assert event.data.address == "127.0.0.1"
    assert b"grace.example" not in encode(event)
    return event


async def code_of(answer: Awaitable[Answer]) -> str:
    return str((await answer)[1]["error"]["code"])


async def test_a_login_that_comes_late_is_recorded(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    admin_id = UUID(owner.admin_id)
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await passwords.change(tx, keys, admin_id, 1, "a hash", session_id=UUID(int=1), actor=ACTOR)
        login = asyncio.create_task(browsers().log_in())
        await still_waits(tx, login)
    assert (await login)[0] == 401
    late = await line(bus, "login.failed", reason="changed")
    assert (str(late.church_id), late.data.target_id) == (owner.church_id, admin_id)


@pytest.mark.usefixtures("window")
async def test_a_second_factor_that_closes_and_who_tries_it_closed_are_recorded(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    strict = await start_gateway(rate_limit_auth="2/1h")
    owner.url = strict.url
    app = App((await enable(owner))[1]["secret"])
    path = "/api/admin/mfa/confirm"
    assert [(await owner.call("POST", path, {"code": app.wrong()}))[0] for _ in range(3)] == [400, 400, 429]
    closed = await line(bus, "mfa.enabled", reason="RateLimited")
    assert (str(closed.data.actor_id), str(closed.data.target_id)) == (owner.admin_id, owner.admin_id)

    browser = browsers()
    owner.url = browser.url
    with clock.shifted(7201):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        assert (await owner.call("POST", path, {"code": app.code()}))[0] == 200
        token = await password_step(browser)
        assert [(await verify(browser, token, code=app.wrong()))[0] for _ in range(8)] == [401] * 5 + [429] * 3
        codes = {"code": app.code(1)}
        assert (await owner.call("POST", "/api/admin/mfa/recovery-codes", codes))[0] == 429
    assert (await line(bus, "mfa.closed", "success")).data.details == {"failures": "5"}
    for action in ("login.failed", "mfa.failed"):
        refused = await line(bus, action, reason="RateLimited")
        assert (str(refused.church_id), str(refused.data.actor_id)) == (owner.church_id, owner.admin_id)
    again = [each for each in await bus.all(ActionRecorded) if each.data.details.get("reason") == "RateLimited"]
    assert again == []  # three in a minute are one line


async def test_a_login_whose_time_for_the_code_is_over_is_recorded(
    owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    app, browser = App((await enable(owner))[1]["secret"]), browsers()
    assert (await owner.call("POST", "/api/admin/mfa/confirm", {"code": app.code()}))[0] == 200
    token = await password_step(browser)
    assert (await verify(browser, token, code=app.code(1)))[0] == 200
    assert (await verify(browser, token, code=app.code(1)))[0] == 401
    over = await line(bus, "login.failed", reason="AuthenticationFailed")
    assert (str(over.church_id), str(over.data.target_id)) == (owner.church_id, owner.admin_id)


async def test_a_made_up_invitation_is_recorded_for_no_church(browsers: NewBrowser, bus: BusProbe) -> None:
    body = {"token": "made up", "firstName": "Bo", "lastName": "Mill", "password": "seven brown bears sing loudly"}
    status, _ = await browsers().call("POST", "/api/auth/invitations/accept", body, csrf=False)
    assert status == 401
    tried = await line(bus, "admin.joined", reason="InvitationOver")
    assert (tried.church_id, tried.data.target_id, tried.data.actor_kind) == (None, None, "anonymous")


async def test_who_is_refused_at_the_door_is_recorded_once_a_minute(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    key_id, headers = await key_of(owner, "viewer")
    program, keys = browsers(), "/api/admin/api-keys"
    for _ in range(3):
        assert await code_of(program.call("GET", keys, headers=headers)) == "FORBIDDEN"
    refused = await line(bus, "request.refused", route="apiKeys.list", reason="Forbidden")
    assert (refused.data.actor_kind, str(refused.data.actor_id)) == ("api_key", key_id)
    with clock.shifted(61):
        assert await code_of(program.call("GET", keys, headers=headers)) == "FORBIDDEN"
    await line(bus, "request.refused", route="apiKeys.list", reason="Forbidden")
    assert not [each for each in await bus.all(ActionRecorded) if each.data.action == "request.refused"]

    assert await code_of(program.call("GET", "/api/auth/sessions", headers=headers)) == "FORBIDDEN"
    await line(bus, "request.refused", route="sessions.list", reason="Forbidden")  # for people
    assert await code_of(owner.call("POST", keys, {"name": "Site", "role": "viewer"}, csrf=False)) == "CSRF_ERROR"
    await line(bus, "request.refused", route="apiKeys.create", reason="CsrfFailed")
    elsewhere = {"Origin": "https://evil.example"}
    assert await code_of(owner.call("DELETE", f"{keys}/{key_id}", headers=elsewhere)) == "CSRF_ERROR"
    await line(bus, "request.refused", route="apiKeys.delete", reason="CsrfFailed")
    assert await code_of(owner.call("POST", "/api/auth/logout", headers=elsewhere)) == "CSRF_ERROR"
    await line(bus, "request.refused", route="auth.logout", reason="CsrfFailed")


async def test_who_is_refused_for_the_churchs_sake_is_recorded(gateway: Service, owner: Browser, bus: BusProbe) -> None:
    for sql, values, code, reason in (
        (REQUIRE, (True, False), "MFA_REQUIRED", "MfaRequired"),
        (SET_STATUS, ("suspended", "active"), "FORBIDDEN", "ChurchSuspended"),
        (SET_ROLE, ("viewer", "owner"), "FORBIDDEN", "Forbidden"),
    ):
        await set_for_all(gateway, sql, values[0])

        async def is_answered(expected: str = code) -> bool:
            _, answer = await owner.call("GET", "/api/admin/api-keys")
            return str(answer.get("error", {}).get("code", "OK")) == expected

        await wait_until(is_answered, seconds=3)
        refused = await line(bus, "request.refused", route="apiKeys.list", reason=reason)
        assert (str(refused.church_id), str(refused.data.actor_id)) == (owner.church_id, owner.admin_id)
        await set_for_all(gateway, sql, values[1])
        await wait_until(partial(is_answered, "OK"), seconds=3)


async def set_for_all(gateway: Service, sql: Statement, value: object) -> None:
    async with gateway.parts.database.across_churches() as tx:
        await tx.execute(sql, value)


async def test_a_key_that_is_revoked_is_recorded(owner: Browser, bus: BusProbe) -> None:
    key_id, _ = await key_of(owner)
    assert (await owner.call("DELETE", f"/api/admin/api-keys/{key_id}"))[0] == 204
    revoked = await line(bus, "api_key.revoked", "success")
    assert (str(revoked.data.actor_id), str(revoked.data.target_id)) == (owner.admin_id, key_id)
    assert (revoked.data.target_kind, str(revoked.church_id)) == ("api_key", owner.church_id)


async def test_refused_changes_of_keys_are_recorded(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    (itself, headers), (other, _) = await key_of(owner, "admin"), await key_of(owner)
    path = f"/api/admin/api-keys/{other}/rotate"
    assert await code_of(browsers().call("POST", path, csrf=False, headers=headers)) == "FORBIDDEN"
    refused = await line(bus, "api_key.rotated", reason="NotItself")
    assert (str(refused.data.actor_id), str(refused.data.target_id)) == (itself, other)
    assert (await owner.call("POST", path))[0] == 200
    assert await code_of(owner.call("POST", path)) == "CONFLICT"
    refused = await line(bus, "api_key.rotated", reason="Conflict")
    assert (str(refused.church_id), str(refused.data.actor_id)) == (owner.church_id, owner.admin_id)


async def test_of_refresh_tokens_only_a_replayed_one_is_recorded(
    owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    old = owner.cookies()["refreshToken"]
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
    unknown = browsers()
    await unknown.set(refreshToken="made up")
    assert (await unknown.call("POST", "/api/auth/refresh"))[0] == 401
    thief = browsers()
    await thief.set(refreshToken=old)
    assert (await thief.call("POST", "/api/auth/refresh"))[0] == 401
    await line(bus, "session.replayed")
    rest = [each.data.action for each in await bus.all(ActionRecorded)]
    assert set(rest) <= {"church.registered"}
