"""Accounts over real HTTP: registering, logging in, rotating, logging out."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from unicodedata import normalize
from uuid import UUID

import argon2
import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events import encode
from koinonia.events.audit import ActionRecorded
from koinonia.events.gateway import ChurchChanged
from koinonia.security import api_keys, passwords
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe

from .conftest import PASSWORD, Browser, NewBrowser, Service, StartGateway

FETCH_HASH = statement("test.fetch_hash", "SELECT password_hash FROM admins")
COUNT_CHURCHES = statement("test.count_churches", "SELECT count(*) FROM churches")


async def test_registering_makes_a_church_a_session_and_its_events(
    gateway: Service, bus: BusProbe, browsers: NewBrowser
) -> None:
    browser = browsers()
    status, answer = await browser.register()
    assert status == 201
    assert (answer["church"]["name"], answer["admin"]["role"], answer["mfaRequired"]) == (
        "Grace Chapel",
        "owner",
        False,
    )
    changed = await bus.next(ChurchChanged)
    assert (str(changed.church_id), changed.data.version, changed.data.status) == (browser.church_id, 1, "active")
    act = await bus.next(ActionRecorded)
    assert (act.data.action, str(act.data.actor_id), act.data.address) == (
        "church.registered",
        browser.admin_id,
        "127.0.0.1",
    )
    status, me = await browser.call("GET", "/api/auth/me")
    assert (status, me["principalKind"], me["admin"]["email"]) == (200, "session", "ruth@grace.example")


async def test_registering_takes_four_statements(
    gateway: Service, browsers: NewBrowser, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    names = {"churches.insert", "admins.insert", "sessions.insert", "outbox.add"}
    with count_statements() as counted:
        await browsers().register()
    assert {name: counted.by_name[name] for name in names} == dict.fromkeys(names, 1)
    asked = {name for name in counted.by_name if name.partition(".")[0] in {"churches", "admins", "refresh_tokens"}}
    assert asked <= names


async def test_an_e_mail_logs_in_to_one_church_only(gateway: Service, owner: Browser, browsers: NewBrowser) -> None:
    status, answer = await browsers().register(email=" Ruth@Grace.example ".strip().upper(), church="Other")
    assert (status, answer["error"]["code"]) == (409, "CONFLICT")
    async with gateway.parts.database.across_churches() as tx:
        assert await tx.fetch_value(COUNT_CHURCHES) == 1


@pytest.mark.asvs("v5.0.0-6.2.4")
async def test_a_bad_password_is_named(browsers: NewBrowser) -> None:
    body = {"churchName": "Grace", "firstName": "A", "lastName": "B", "email": "a@b.example"}
    status, answer = await browsers().call("POST", "/api/auth/register", {**body, "password": "passwordpassword"})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "password")


async def test_unknown_account_and_wrong_password_get_the_same_answer_and_are_recorded(
    owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    browser = browsers()
    wrong = await browser.log_in(password="not the password at all")
    unknown = await browser.log_in(email="nobody@grace.example")
    for answer in (wrong, unknown):
        answer[1]["error"].pop("requestId")
    assert wrong == unknown
    assert (wrong[0], wrong[1]["error"]["code"]) == (401, "AUTH_ERROR")
    failed = await bus.next(ActionRecorded, lambda act: act.details == {"reason": "password"})
    assert (str(failed.church_id), str(failed.data.target_id)) == (owner.church_id, owner.admin_id)
    nobody = await bus.next(ActionRecorded, lambda act: act.details == {"reason": "unknown"})
    assert (nobody.church_id, nobody.data.target_id, nobody.data.actor_kind) == (None, None, "anonymous")
    for act in (failed, nobody):
        assert (act.data.action, act.data.outcome, act.data.address) == ("login.failed", "failure", "127.0.0.1")
        assert b"grace.example" not in encode(act)


async def test_an_unknown_account_costs_the_hash_work_of_a_wrong_password(
    owner: Browser, browsers: NewBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[str] = []
    real = argon2.PasswordHasher.verify

    def counted(hasher: argon2.PasswordHasher, hashed: str | bytes, password: str | bytes) -> bool:
        costs.append(str(hashed).rpartition("$")[0].rpartition("$")[0])  # kind, version, memory, passes, lanes
        return real(hasher, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    monkeypatch.setattr(argon2.PasswordHasher, "hash", None)  # neither makes one
    for email in ("ruth@grace.example", "nobody@grace.example"):
        assert (await browsers().log_in(email=email, password="not the password at all"))[0] == 401
    assert len(costs) == 2
    assert costs[0] == costs[1]
    assert costs[0].startswith("$argon2id$")


async def test_more_logins_than_can_be_hashed_in_time_are_refused_at_once_and_cost_no_try(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = await start_gateway(rate_limit_auth="20/15m")
    monkeypatch.setattr(passwords, "LONGEST_QUEUE", 5)
    real, goes_on = argon2.PasswordHasher.verify, threading.Event()

    def held_up(hasher: argon2.PasswordHasher, hashed: str | bytes, password: str | bytes) -> bool:
        assert goes_on.wait(30)
        return real(hasher, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", held_up)
    try:
        logins = [asyncio.create_task(browsers(limited.url).log_in()) for _ in range(5)]
        busy = browsers(limited.url)

        async def is_full() -> bool:  # whoever is let in waits, too
            logins.append(asyncio.create_task(busy.log_in()))
            await asyncio.wait(logins[-1:], timeout=0.2)
            return logins[-1].done()

        await wait_until(is_full)
        refused = await asyncio.gather(*(busy.log_in() for _ in range(40)))
        assert {(status, answer["error"]["code"]) for status, answer in refused} == {(503, "DEPENDENCY_UNAVAILABLE")}
        assert int(busy.headers["Retry-After"]) > 0
    finally:
        goes_on.set()
    waited = [(await login)[0] for login in logins]
    assert waited.count(200) == 5
    assert set(waited) == {200, 503}
    assert (await busy.log_in())[0] == 200


@pytest.mark.asvs("v5.0.0-3.3.2", "v5.0.0-3.3.4")
async def test_a_login_gives_a_session_and_is_recorded(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    browser = browsers()
    status, answer = await browser.log_in(email="RUTH@grace.example")
    assert (status, answer["admin"]["id"]) == (200, owner.admin_id)
    set_cookies = browser.headers.getall("Set-Cookie")
    assert all("HttpOnly" in each and "SameSite=Lax" in each and "Secure" not in each for each in set_cookies)
    assert len(browser.cookies()) == 2
    assert not any(value in str(answer) for value in browser.cookies().values())
    assert (await browser.call("GET", "/api/auth/me"))[0] == 200
    await bus.next(ActionRecorded, lambda act: act.action == "login.succeeded")


@pytest.mark.asvs("v5.0.0-7.2.4")
async def test_a_login_ends_the_session_that_it_takes_the_place_of_and_no_other(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    thief, elsewhere = browsers(), browsers()
    await elsewhere.log_in()
    await thief.set(**owner.cookies())
    assert (await thief.call("GET", "/api/auth/me"))[0] == 200
    assert (await owner.log_in(password="not the password"))[0] == 401
    assert (await thief.call("GET", "/api/auth/me"))[0] == 200
    assert (await owner.log_in())[0] == 200
    assert (await thief.call("GET", "/api/auth/me"))[0] == 401
    assert [(await each.call("GET", "/api/auth/me"))[0] for each in (owner, elsewhere)] == [200, 200]
    await bus.next(ActionRecorded, lambda act: act.action == "logout")
    refresh_alone = owner.cookies()["refreshToken"]  # the access token has run out
    await thief.set(**owner.cookies())
    owner.session.cookie_jar.clear()
    await owner.set(refreshToken=refresh_alone)
    assert (await owner.register("naomi@hope.example", "Hope Chapel"))[0] == 201
    assert (await thief.call("GET", "/api/auth/me"))[0] == 401
    assert [(await each.call("GET", "/api/auth/me"))[0] for each in (owner, elsewhere)] == [200, 200]


@pytest.mark.asvs("v5.0.0-6.2.8")
async def test_a_password_logs_in_exactly_as_it_was_chosen(browsers: NewBrowser) -> None:
    chosen, browser = " Ga\u0308rten und \ufb01ve Birken ", browsers()
    owner = {"churchName": "Grace Chapel", "firstName": "Ruth", "lastName": "Miller", "email": "ruth@grace.example"}
    request = {**owner, "password": chosen}
    assert (await browser.call("POST", "/api/auth/register", request, csrf=False))[0] == 201
    for other in (chosen.strip(), chosen.lower(), chosen[:-1], *(normalize(form, chosen) for form in ("NFC", "NFKD"))):
        assert other != chosen
        assert (await browsers().log_in(password=other))[0] == 401
    assert (await browsers().log_in(password=chosen))[0] == 200


@pytest.mark.asvs("v5.0.0-3.3.1", "v5.0.0-3.3.3")
async def test_cookies_are_secure_where_browsers_come_by_https(
    start_gateway: StartGateway, browsers: NewBrowser
) -> None:
    secure = await start_gateway(public_url="https://texts.example")
    browser = browsers(secure.url)
    await browser.register()
    set_cookies = browser.headers.getall("Set-Cookie")
    assert [each.partition("=")[0] for each in set_cookies] == ["accessToken", "refreshToken"]
    assert all("; Secure" in each and "domain=" not in each.lower() for each in set_cookies)
    assert "Strict-Transport-Security" in browser.headers


@pytest.mark.usefixtures("window")
async def test_of_tries_that_come_at_once_those_without_a_place_are_not_counted(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = await start_gateway(rate_limit_auth="5/15m")
    monkeypatch.setattr(passwords, "LONGEST_QUEUE", 2)
    real, goes_on = argon2.PasswordHasher.verify, threading.Event()

    def held_up(hasher: argon2.PasswordHasher, hashed: str | bytes, password: str | bytes) -> bool:
        assert goes_on.wait(30)
        return real(hasher, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", held_up)
    browser, wrong = browsers(limited.url), "not the password at all"
    logins = [asyncio.create_task(browser.log_in(password=wrong)) for _ in range(12)]
    try:

        async def are_refused() -> bool:
            return sum(login.done() for login in logins) == 10

        await wait_until(are_refused)
    finally:
        goes_on.set()
    assert sorted([(await login)[0] for login in logins]) == [401] * 2 + [503] * 10
    assert (await browser.log_in(password=wrong))[0] == 401
    assert browser.headers["RateLimit-Remaining"] == "2"


@pytest.mark.usefixtures("window")
async def test_what_has_no_place_to_be_hashed_in_costs_no_try_of_its_address(
    start_gateway: StartGateway, browsers: NewBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browsers((await start_gateway(rate_limit_auth="1/15m")).url)
    token, names = {"token": "made up", "password": PASSWORD}, {"firstName": "Bo", "lastName": "Mill"}

    async def ask() -> list[int]:
        return [
            (await browser.register())[0],
            (await browser.call("POST", "/api/auth/password/reset", token, csrf=False))[0],
            (await browser.call("POST", "/api/auth/invitations/accept", {**token, **names}, csrf=False))[0],
        ]

    with monkeypatch.context() as busy:
        busy.setattr(passwords, "LONGEST_QUEUE", 0)
        assert [await ask() for _ in range(8)] == [[503] * 3] * 8
    assert await ask() == [201, 400, 401]


@pytest.mark.asvs("v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_tries_to_log_in_are_limited_per_account_and_a_right_one_clears_the_count(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser
) -> None:
    limited = await start_gateway(rate_limit_auth="2/15m")
    browser = browsers(limited.url)
    assert (await browser.log_in(password="a wrong password"))[0] == 401
    assert (await browser.log_in())[0] == 200
    assert [(await browser.log_in(password="a wrong password"))[0] for _ in range(2)] == [401, 401]
    status, answer = await browser.log_in()
    assert (status, answer["error"]["code"]) == (429, "RATE_LIMITED")
    assert 0 < int(browser.headers["Retry-After"]) <= 900
    assert browser.headers["RateLimit-Remaining"] == "0"
    assert (await browser.log_in(email="nobody@grace.example"))[0] == 401
    with clock.shifted(901):
        assert (await browser.log_in())[0] == 200


@pytest.mark.asvs("v5.0.0-4.1.3", "v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_behind_a_proxy_one_client_does_not_lock_another_out(
    start_gateway: StartGateway, browsers: NewBrowser, bus: BusProbe
) -> None:
    behind_proxy = await start_gateway(rate_limit_auth="1/15m", trusted_proxies="127.0.0.0/8, 10.0.0.0/8")
    attacker, member = {"X-Forwarded-For": "203.0.113.1, 10.1.1.1"}, {"X-Forwarded-For": "::1, 198.51.100.9"}
    browser = browsers(behind_proxy.url)
    body = {"email": "nobody@grace.example", "password": PASSWORD}
    bodies = [{**body, "email": f"nobody{number}@grace.example"} for number in range(20)]
    tries = [await browser.call("POST", "/api/auth/login", each, csrf=False, headers=attacker) for each in bodies]
    assert {status for status, _ in tries} == {401}
    assert (await browser.call("POST", "/api/auth/login", body, csrf=False, headers=attacker))[0] == 429
    assert (await browser.call("POST", "/api/auth/login", body, csrf=False, headers=member))[0] == 401
    church = {"churchName": "Grace", "firstName": "Ruth", "lastName": "Miller", **body}
    assert (await browser.call("POST", "/api/auth/register", church, csrf=False, headers=member))[0] == 201
    act = await bus.next(ActionRecorded, lambda act: act.action == "church.registered")
    assert act.data.address == "198.51.100.9"


@pytest.mark.asvs("v5.0.0-4.1.3", "v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_a_spoofed_address_does_not_help_against_the_limit(
    start_gateway: StartGateway, browsers: NewBrowser
) -> None:
    limited = await start_gateway(rate_limit_auth="1/15m", trusted_proxies="10.0.0.0/8")
    body = {"email": "nobody@grace.example", "password": PASSWORD}
    statuses = [
        (await browsers(limited.url).call("POST", "/api/auth/login", body, csrf=False, headers=headers))[0]
        for headers in ({"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.2"})
    ]
    assert statuses == [401, 429]


@pytest.mark.usefixtures("window")
async def test_who_has_a_whole_ipv6_network_has_the_tries_of_one_address(
    start_gateway: StartGateway, browsers: NewBrowser
) -> None:
    limited = await start_gateway(rate_limit_auth="1/15m", rate_limit_webhook="1/15m", trusted_proxies="127.0.0.1")
    browser = browsers(limited.url)

    async def log_in(address: str) -> int:
        body, headers = {"email": "nobody@grace.example", "password": PASSWORD}, {"X-Forwarded-For": address}
        return (await browser.call("POST", "/api/auth/login", body, csrf=False, headers=headers))[0]

    async def show_key(address: str) -> int:
        headers = {"Authorization": f"Bearer {api_keys.make()[0]}", "X-Forwarded-For": address}
        return (await browser.call("GET", "/api/auth/me", headers=headers))[0]

    for ask in (log_in, show_key):
        assert [await ask(f"2001:db8:0:7::{number}") for number in (1, 2)] == [401, 429]
        assert await ask("2001:db8:0:8::1") == 401
        assert [await ask(f"::ffff:198.51.100.{number}") for number in (1, 2)] == [401, 401]
        assert await ask("198.51.100.1") == 429


async def test_a_hash_is_renewed_when_its_cost_has_changed(
    start_gateway: StartGateway, gateway: Service, owner: Browser, browsers: NewBrowser
) -> None:
    dearer = await start_gateway(password_passes=2)

    async def stored() -> str:
        async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
            return str(await tx.fetch_value(FETCH_HASH))

    assert "t=1" in await stored()
    assert (await browsers(dearer.url).log_in())[0] == 200
    assert "t=2" in await stored()
    assert (await browsers().log_in())[0] == 200


@pytest.mark.asvs("v5.0.0-7.2.2")
async def test_refreshing_rotates_and_a_replay_ends_the_family(owner: Browser, bus: BusProbe) -> None:
    first = owner.cookies()["refreshToken"]
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
    second = owner.cookies()["refreshToken"]
    assert second != first
    assert (await owner.call("GET", "/api/auth/me"))[0] == 200
    await owner.set(refreshToken=first)
    owner.session.cookie_jar.clear(lambda cookie: cookie.key == "refreshToken" and cookie.value == second)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401
    await bus.next(ActionRecorded, lambda act: act.action == "session.replayed")
    assert (await owner.call("GET", "/api/auth/me"))[0] == 401
    owner.session.cookie_jar.clear()
    await owner.set(refreshToken=second)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401


async def test_of_two_that_show_one_refresh_token_at_once_only_one_is_served(owner: Browser) -> None:
    _, token = await owner.call("GET", "/api/csrf-token")
    headers = {"X-CSRF-Token": token["csrfToken"], "Cookie": f"refreshToken={owner.cookies()['refreshToken']}"}
    owner.session.cookie_jar.clear()
    twins = [owner.call("POST", "/api/auth/refresh", csrf=False, headers=headers) for _ in range(2)]
    assert sorted(status for status, _ in await asyncio.gather(*twins)) == [200, 401]


@pytest.mark.parametrize(("seconds", "status"), [(23 * 3600, 200), (25 * 3600, 401)])
@pytest.mark.asvs("v5.0.0-7.3.1")
async def test_a_session_ends_after_a_day_unused(owner: Browser, seconds: float, status: int) -> None:
    with clock.shifted(seconds):
        assert (await owner.call("GET", "/api/auth/me"))[0] == 401
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == status


@pytest.mark.asvs("v5.0.0-7.4.1")
async def test_a_logout_acts_at_every_gateway_within_a_second(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = await start_gateway()
    thief = browsers(other.url)
    await thief.set(**owner.cookies())
    assert (await thief.call("GET", "/api/auth/me"))[0] == 200
    assert (await owner.call("POST", "/api/auth/logout"))[0] == 204
    assert owner.cookies() == {}

    async def refused() -> bool:
        return (await thief.call("GET", "/api/auth/me"))[0] == 401

    await wait_until(refused, seconds=1.5)
    assert (await thief.call("POST", "/api/auth/refresh"))[0] == 401
    await bus.next(ActionRecorded, lambda act: act.action == "logout")
    assert (await owner.call("POST", "/api/auth/logout", csrf=False))[0] == 204


@pytest.mark.asvs("v5.0.0-3.5.1")
async def test_a_browsers_change_needs_its_own_sessions_csrf_token(owner: Browser, browsers: NewBrowser) -> None:
    path, body = f"/api/churches/{owner.church_id}/settings", {"name": "Other"}
    status, answer = await owner.call("PATCH", path, body, csrf=False)
    assert (status, answer["error"]["code"]) == (403, "CSRF_ERROR")
    stranger = browsers()
    await stranger.register(email="eve@evil.example")
    for browser in (stranger, browsers()):
        _, foreign = await browser.call("GET", "/api/csrf-token")
        headers = {"X-CSRF-Token": foreign["csrfToken"]}
        assert (await owner.call("PATCH", path, body, csrf=False, headers=headers))[0] == 403
        assert (await owner.call("POST", "/api/auth/logout", csrf=False, headers=headers))[0] == 403
        assert (await owner.call("POST", "/api/auth/refresh", csrf=False, headers=headers))[0] == 403
    assert (await owner.call("PATCH", path, body))[0] == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
@pytest.mark.asvs("v5.0.0-3.5.1")
async def test_another_sites_page_changes_nothing(owner: Browser, headers: dict[str, str]) -> None:
    path = f"/api/churches/{owner.church_id}/settings"
    assert (await owner.call("PATCH", path, {"name": "Other"}, headers=headers))[0] == 403
    login = {"email": "ruth@grace.example", "password": PASSWORD}
    assert (await owner.call("POST", "/api/auth/login", login, headers=headers))[0] == 403
    assert (await owner.call("PATCH", path, {"name": "Other"}, headers={"Origin": owner.url}))[0] == 200


@pytest.mark.asvs("v5.0.0-2.4.1")
@pytest.mark.usefixtures("window")
async def test_a_principal_is_limited_and_told_so(start_gateway: StartGateway, owner: Browser) -> None:
    limited = await start_gateway(rate_limit_api="40/1h")
    statuses = [(await owner.call("GET", "/api/auth/me", url=limited.url))[0] for _ in range(41)]
    assert statuses == [200] * 40 + [429]
    assert owner.headers["RateLimit-Limit"] == "40"
    assert 0 < int(owner.headers["Retry-After"]) <= 3600


@pytest.mark.asvs("v5.0.0-2.4.1")
@pytest.mark.usefixtures("window")
async def test_limits_hold_without_redis(start_gateway: StartGateway, owner: Browser) -> None:
    limited = await start_gateway(rate_limit_api="3/1h", redis_url="redis://127.0.0.1:1/0")
    statuses = [(await owner.call("GET", "/api/auth/me", url=limited.url))[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_health_names_the_parts_and_keeps_metrics_off_the_public_port(gateway: Service, owner: Browser) -> None:
    async def is_healthy() -> bool:
        return (await owner.call("GET", "/health"))[0] == 200

    await wait_until(is_healthy, what="health")  # on a busy machine a part may answer later than it is asked for
    _, health = await owner.call("GET", "/health")
    assert {"status", "timestamp", "responseTime", "checks"} <= health.keys()
    assert health["checks"].keys() == {"database", "redis", "queues", "environment", "uptime"}
    assert (await owner.call("GET", "/metrics"))[0] == 404
    operators = f"http://127.0.0.1:{gateway.operators_port}"
    assert (await owner.call("GET", "/metrics", url=operators))[0] == 200
