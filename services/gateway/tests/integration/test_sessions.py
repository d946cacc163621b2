"""An admin's own sessions over real HTTP: seen, and ended."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.db.statistics import StatementLog
from koinonia.events.audit import ActionRecorded
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia.security.passwords import PasswordCost, Passwords
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway.store import admins

from .conftest import PASSWORD, Browser, NewBrowser, Service, StartGateway

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
DAY = 24 * 3600


async def listed(browser: Browser, query: str = "") -> Any:
    status, page = await browser.call("GET", f"/api/auth/sessions{query}")
    assert status == 200
    return page


async def end(browser: Browser, session_id: str, password: str = PASSWORD) -> Any:
    return await browser.call("DELETE", f"/api/auth/sessions/{session_id}", {"password": password})


async def is_logged_out(browser: Browser) -> bool:
    return (await browser.call("GET", "/api/auth/me"))[0] == 401


async def add_colleague(gateway: Service, keys: Keys, church_id: str, email: str) -> UUID:
    """One more admin of the church, with the same password as everybody in these tests."""
    hashes, admin_id = Passwords(PasswordCost(memory_kib=8, passes=1)), new_id()
    async with gateway.parts.database.tenant(UUID(church_id)) as tx:
        assert await admins.insert(
            tx,
            admin_id,
            first_name="Naomi",
            last_name="Miller",
            email_ciphertext=keys.encrypt(email, tx.tenant, "email"),
            login_index=keys.login_index(email),
            password_hash=await hashes.hash(PASSWORD),
            role="viewer",
            at=clock.now(),
        )
    hashes.close()
    return admin_id


@pytest.mark.asvs("v5.0.0-7.5.2")
async def test_sessions_are_listed_with_device_address_and_last_use(
    owner: Browser, browsers: NewBrowser, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    other = browsers()
    body = {"email": "ruth@grace.example", "password": PASSWORD}
    assert (await other.call("POST", "/api/auth/login", body, csrf=False, headers={"User-Agent": FIREFOX}))[0] == 200
    with clock.shifted(3600):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        with count_statements() as counted:
            page = await listed(owner)
    assert counted.by_name["sessions.list_page"] == 1
    newest, oldest = page["data"]
    assert (newest["device"], newest["address"], newest["current"]) == ("Firefox on Linux", "127.0.0.1", False)
    assert (oldest["current"], oldest["device"]) == (True, "Unknown device")
    assert newest["lastUsedAt"] == newest["createdAt"] < oldest["lastUsedAt"]
    assert newest.keys() == {"id", "device", "address", "createdAt", "lastUsedAt", "expiresAt", "current"}
    first = await listed(owner, "?limit=1")
    second = await listed(owner, f"?limit=1&cursor={first['nextCursor']}")
    assert (first["data"] + second["data"], second["hasMore"]) == (page["data"], False)


@pytest.mark.asvs("v5.0.0-7.4.1", "v5.0.0-7.5.2")
async def test_an_ended_session_is_refused_everywhere_within_a_second(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = browsers((await start_gateway()).url)
    await other.log_in()
    session_id = (await listed(owner))["data"][0]["id"]
    assert not await is_logged_out(other)
    assert await end(owner, session_id) == (204, b"")
    await wait_until(lambda: is_logged_out(other), seconds=1.5)
    assert (await other.call("POST", "/api/auth/refresh"))[0] == 401
    act = await bus.next(ActionRecorded, lambda act: act.action == "session.ended")
    assert (str(act.data.actor_id), str(act.data.target_id), act.data.address) == (
        owner.admin_id,
        session_id,
        "127.0.0.1",
    )
    assert (await end(owner, session_id))[0] == 404
    assert [each["current"] for each in (await listed(owner))["data"]] == [True]


@pytest.mark.asvs("v5.0.0-7.5.2")
async def test_all_others_end_at_once(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    others = [browsers(), browsers()]
    for other in others:
        await other.log_in()
        assert not await is_logged_out(other)
    assert (await owner.call("DELETE", "/api/auth/sessions", {"password": PASSWORD}))[0] == 204
    assert [await is_logged_out(other) for other in others] == [True, True]
    assert not await is_logged_out(owner)
    act = await bus.next(ActionRecorded, lambda act: act.action == "sessions.ended")
    assert act.data.details == {"sessions": "2"}


@pytest.mark.asvs("v5.0.0-7.5.2")
async def test_a_thief_at_an_open_browser_ends_nothing(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    other = browsers()
    await other.log_in()
    session_id = (await listed(owner))["data"][0]["id"]
    wrong = {"password": "not the password at all"}
    for path in (f"/api/auth/sessions/{session_id}", "/api/auth/sessions"):
        status, answer = await owner.call("DELETE", path, wrong)
        assert (status, answer["error"]["details"][0]["field"]) == (400, "password")
    assert not await is_logged_out(other)
    act = await bus.next(ActionRecorded, lambda act: act.action == "password.confirmed")
    assert act.data.outcome == "failure"


@pytest.mark.asvs("v5.0.0-8.2.2")
async def test_nobody_sees_or_ends_anothers_session_not_even_a_colleagues(
    gateway: Service, keys: Keys, owner: Browser, browsers: NewBrowser
) -> None:
    stranger, colleague = browsers(), browsers()
    await stranger.register(email="eve@evil.example")
    await add_colleague(gateway, keys, owner.church_id, "naomi@grace.example")
    assert (await colleague.log_in(email="naomi@grace.example"))[0] == 200
    (own,) = (await listed(owner))["data"]
    for other in (stranger, colleague):
        assert own["id"] not in {each["id"] for each in (await listed(other))["data"]}
        assert (await end(other, own["id"]))[0] == 404
        assert (await other.call("DELETE", "/api/auth/sessions", {"password": PASSWORD}))[0] == 204
    assert not await is_logged_out(owner)


async def test_a_session_that_is_over_is_not_listed(owner: Browser, browsers: NewBrowser) -> None:
    other = browsers()
    await other.log_in()
    with clock.shifted(DAY - 60):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        assert len((await listed(owner))["data"]) == 2
    with clock.shifted(DAY + 60):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        assert [each["current"] for each in (await listed(owner))["data"]] == [True]


@pytest.mark.asvs("v5.0.0-7.3.2")
async def test_a_session_ends_after_thirty_days_however_much_it_is_used(owner: Browser) -> None:
    statuses = []
    for day in range(32):
        with clock.shifted(day * (DAY - 60)):
            statuses.append((await owner.call("POST", "/api/auth/refresh"))[0])
    assert statuses == [200] * 31 + [401]
