"""The second factor over real HTTP, at two gateways: each code once, few tries, nothing without it where it must be."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import asyncpg
import msgspec
import pyotp
import pytest

from koinonia import clock
from koinonia.api import ENDPOINTS
from koinonia.db import statement
from koinonia.db.ciphertexts import list_tables, reencrypt
from koinonia.errors import AuthenticationFailed
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import EmailRequested
from koinonia.ids import new_id
from koinonia.security import tokens
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring
from koinonia.security.keys import Keys
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import KEY_SETTINGS, BusProbe

from .conftest import PASSWORD, Answer, Browser, NewBrowser, Service, StartGateway

REQUIRE = statement("test.require_mfa", "UPDATE churches SET require_mfa = $1")
CONFIRM = statement("test.confirm", "UPDATE totp_factors SET confirmed_at = now()")
FAIL = statement("test.fail", "UPDATE totp_factors SET failures = $1")
COUNT_FACTORS = statement("test.count_factors", "SELECT count(*) FROM totp_factors")
STORED = statement(
    "test.stored",
    """
    SELECT string_agg(line, ' ')
    FROM (
        SELECT totp_factors::text FROM totp_factors
        UNION ALL SELECT recovery_codes::text FROM recovery_codes
        UNION ALL SELECT sessions::text FROM sessions
        UNION ALL SELECT convert_from(body, 'UTF8') FROM outbox
    ) AS stored (line)
    """,
)


class App:
    """An admin's authenticator app. Codes come from the step before the present on, so that three are good at once."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)

    def code(self, step: int = 0) -> str:
        """The code of the present step, or of one so many after it."""
        return self._totp.at(clock.now(), counter_offset=step)

    def wrong(self) -> str:
        """A code of no step that is near."""
        near = {self.code(step) for step in range(-3, 4)}
        return next(code for code in (f"{number:06}" for number in range(10)) if code not in near)


@pytest.fixture(autouse=True)
def _early_in_a_step() -> Iterator[None]:
    """No step ends while a test runs."""
    with clock.shifted(1 - clock.now().timestamp() % 30):
        yield


def succeeded(action: str, act: ActionRecorded) -> bool:
    return (act.action, act.outcome) == (action, "success")


async def enable(browser: Browser, password: str = PASSWORD) -> Answer:
    return await browser.call("POST", "/api/admin/mfa/enable", {"password": password})


async def turn_on(browser: Browser) -> tuple[App, list[str]]:
    """Turn it on with the code of the step before; answers the app and the recovery codes."""
    status, begun = await enable(browser)
    assert status == 200
    app = App(begun["secret"])
    status, answer = await browser.call("POST", "/api/admin/mfa/confirm", {"code": app.code(-1)})
    assert status == 200
    return app, answer["recoveryCodes"]


async def password_step(browser: Browser) -> str:
    """Show the password; answers the token to be shown with the second factor."""
    status, answer = await browser.log_in()
    assert (status, answer.keys()) == (200, {"mfaRequired", "mfaToken"})
    assert answer["mfaRequired"] is True
    assert browser.cookies() == {}
    return str(answer["mfaToken"])


async def verify(browser: Browser, token: str, **shown: str) -> Answer:
    return await browser.call("POST", "/api/admin/mfa/verify", {"mfaToken": token, **shown}, csrf=False)


async def is_in(browser: Browser, url: str | None = None) -> bool:
    return (await browser.call("GET", "/api/auth/me", url=url))[0] == 200


async def mail_of(bus: BusProbe, keys: Keys, template: str) -> Any:
    """The fields of the next e-mail of a template, and its address as ``to``."""
    mail = await bus.next(EmailRequested, lambda wish: wish.template == template)
    assert mail.church_id is not None
    fields = msgspec.json.decode(keys.decrypt(mail.data.fields_ciphertext, mail.church_id, "fields"))
    return {**fields, "to": keys.decrypt(mail.data.email_ciphertext, mail.church_id, "email")}


@pytest.fixture
async def other(start_gateway: StartGateway) -> Service:
    """A second gateway of the same platform."""
    return await start_gateway()


@pytest.mark.asvs("v5.0.0-6.3.7")
async def test_it_is_off_until_confirmed_and_a_login_shows_it_from_then_on(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    status, begun = await enable(owner)
    assert (status, begun.keys()) == (200, {"secret", "otpauthUrl", "qrCode"})
    assert f"secret={begun['secret']}" in begun["otpauthUrl"]
    kind, _, picture = begun["qrCode"].partition(",")
    assert kind.startswith("data:image/svg+xml")
    assert unquote(picture).startswith("<svg")
    app = App(begun["secret"])
    assert (await browsers().log_in())[1]["mfaRequired"] is False
    status, answer = await owner.call("POST", "/api/admin/mfa/confirm", {"code": app.wrong()})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "code")
    assert (await browsers().log_in())[1]["mfaRequired"] is False

    status, answer = await owner.call("POST", "/api/admin/mfa/confirm", {"code": app.code(-1)})
    assert (status, len(set(answer["recoveryCodes"]))) == (200, 8)
    me = (await owner.call("GET", "/api/auth/me"))[1]
    assert (me["mfaVerified"], me["admin"]["mfaEnabled"]) == (True, True)
    for path, body in (("enable", {"password": PASSWORD}), ("confirm", {"code": app.code()})):
        assert (await owner.call("POST", f"/api/admin/mfa/{path}", body))[0] == 409

    browser = browsers()
    status, session = await verify(browser, await password_step(browser), code=app.code())
    assert (status, session["mfaRequired"], session["admin"]["mfaEnabled"]) == (200, False, True)
    me = (await browser.call("GET", "/api/auth/me"))[1]
    assert (me["principalId"], me["mfaVerified"]) == (owner.admin_id, True)
    assert (await browser.call("POST", "/api/auth/refresh"))[0] == 200
    assert (await browser.call("GET", "/api/auth/me"))[1]["mfaVerified"] is True

    assert await mail_of(bus, keys, "mfa-on") == {"name": "Ruth", "church": "Grace Chapel", "to": "ruth@grace.example"}
    wrong = await bus.next(ActionRecorded, lambda act: (act.action, act.outcome) == ("mfa.enabled", "failure"))
    assert (str(wrong.data.actor_id), wrong.data.address) == (owner.admin_id, "127.0.0.1")
    for action in ("mfa.begun", "mfa.enabled", "login.awaits_mfa"):
        act = await bus.next(ActionRecorded, partial(succeeded, action))
        assert (str(act.data.actor_id), act.data.address) == (owner.admin_id, "127.0.0.1")
    await bus.next(ActionRecorded, lambda act: act.action == "login.succeeded" and act.details == {"factor": "totp"})


async def test_a_secret_that_was_never_confirmed_is_replaced(owner: Browser) -> None:
    first, second = [(await enable(owner))[1]["secret"] for _ in range(2)]
    assert (await owner.call("POST", "/api/admin/mfa/confirm", {"code": App(first).code()}))[0] == 400
    assert (await owner.call("POST", "/api/admin/mfa/confirm", {"code": App(second).code()}))[0] == 200


@pytest.mark.asvs("v5.0.0-7.5.1")
@pytest.mark.usefixtures("window")
async def test_an_open_browser_does_not_turn_it_on_without_the_password(
    start_gateway: StartGateway, owner: Browser, bus: BusProbe
) -> None:
    owner.url = (await start_gateway(rate_limit_auth="3/15m")).url
    status, answer = await owner.call("POST", "/api/admin/mfa/enable", {})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "password")
    status, answer = await enable(owner, "not the password")
    assert (status, answer["error"]["details"][0]["field"]) == (400, "password")
    failed = await bus.next(ActionRecorded, lambda act: act.action == "password.confirmed")
    assert (str(failed.data.actor_id), failed.data.outcome) == (owner.admin_id, "failure")
    assert (await enable(owner))[0] == 200  # which clears the count
    assert [(await enable(owner, "not the password"))[0] for _ in range(3)] == [400] * 3
    assert (await enable(owner))[0] == 429


@pytest.mark.usefixtures("window")
async def test_codes_cannot_be_tried_where_it_is_turned_on(start_gateway: StartGateway, owner: Browser) -> None:
    owner.url = (await start_gateway(rate_limit_auth="3/15m")).url
    app = App((await enable(owner))[1]["secret"])

    async def confirm(code: str) -> int:
        return (await owner.call("POST", "/api/admin/mfa/confirm", {"code": code}))[0]

    assert [await confirm(app.wrong()) for _ in range(4)] == [400, 400, 400, 429]
    assert await confirm(app.code()) == 429
    with clock.shifted(901):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        assert await confirm(app.code()) == 200


@pytest.mark.asvs("v5.0.0-6.5.1")
async def test_a_code_is_taken_once_and_none_before_it_any_more(owner: Browser, browsers: NewBrowser) -> None:
    app, _ = await turn_on(owner)
    browser = browsers()
    token = await password_step(browser)
    assert (await verify(browser, token, code=app.code(-1)))[0] == 401  # it confirmed
    assert (await verify(browser, token, code=app.code(1)))[0] == 200
    browser = browsers()
    token = await password_step(browser)
    assert [(await verify(browser, token, code=app.code(step)))[0] for step in (1, 0)] == [401, 401]
    with clock.shifted(30):
        assert (await verify(browser, token, code=app.code(1)))[0] == 200


@pytest.mark.asvs("v5.0.0-6.5.5")
@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (1, 200), (2, 401)])
async def test_an_app_may_be_one_step_off_either_way(
    owner: Browser, browsers: NewBrowser, steps: int, status: int
) -> None:
    app, _ = await turn_on(owner)
    with clock.shifted(90):
        browser = browsers()
        assert (await verify(browser, await password_step(browser), code=app.code(steps)))[0] == status


@pytest.mark.asvs("v5.0.0-2.3.4", "v5.0.0-6.5.1")
async def test_of_twins_with_one_code_at_two_gateways_one_gets_in(
    owner: Browser, other: Service, browsers: NewBrowser
) -> None:
    app, codes = await turn_on(owner)
    twins = [browsers(), browsers(other.url)]
    for shown in ({"code": app.code()}, {"recoveryCode": codes[0]}):
        tokens_ = [await password_step(twin) for twin in twins]
        pairs = zip(twins, tokens_, strict=True)
        answers = await asyncio.gather(*(verify(twin, token, **shown) for twin, token in pairs))
        assert sorted(status for status, _ in answers) == [200, 401]
        for twin in twins:
            twin.session.cookie_jar.clear()


async def test_a_token_lets_in_once_at_two_gateways_and_the_other_code_stays_good(
    owner: Browser, other: Service, browsers: NewBrowser
) -> None:
    _, codes = await turn_on(owner)
    twins = [browsers(), browsers(other.url)]
    token = await password_step(twins[0])
    shown = zip(twins, codes[:2], strict=True)
    answers = await asyncio.gather(*(verify(twin, token, recoveryCode=code) for twin, code in shown))
    assert sorted(status for status, _ in answers) == [200, 401]
    left = codes[0] if answers[1][0] == 200 else codes[1]
    browser = browsers()
    assert (await verify(browser, await password_step(browser), recoveryCode=left))[0] == 200


@pytest.mark.asvs("v5.0.0-6.5.5", "v5.0.0-9.2.2")
async def test_a_token_is_for_five_minutes_for_this_step_and_ends_with_the_sessions(
    gateway: Service, owner: Browser, browsers: NewBrowser, keys: Keys
) -> None:
    app, codes = await turn_on(owner)
    browser = browsers()
    token = await password_step(browser)
    await browser.set(accessToken=token)
    assert not await is_in(browser)
    browser.session.cookie_jar.clear()
    access = owner.cookies()["accessToken"]
    altered = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    for wrong in (access, altered, "x", "eyJhbGciOiJub25lIn0.e30."):
        assert (await verify(browser, wrong, code=app.code()))[0] == 401
    forged = msgspec.structs.replace(tokens.read(keys, token, "mfa"), type="access")
    await browser.set(accessToken=tokens.issue(keys, forged))
    assert not await is_in(browser)  # as our own keys would make it: the session is not there yet
    browser.session.cookie_jar.clear()
    foreign = msgspec.structs.replace(tokens.read(keys, token, "mfa"), church_id=new_id())
    assert (await verify(browser, tokens.issue(keys, foreign), code=app.code()))[0] == 401
    with clock.shifted(301):
        assert (await verify(browser, token, code=app.code()))[0] == 401
    with pytest.raises(AuthenticationFailed):
        tokens.read(keys, token)
    body = {"password": PASSWORD, "code": codes[0]}
    assert (await owner.call("POST", "/api/admin/mfa/disable", body))[0] == 204
    app, _ = await turn_on(owner)
    assert (await verify(browser, token, code=app.code()))[0] == 401  # it was for the factor before
    assert (await verify(browser, await password_step(browser), code=app.code()))[0] == 200


@pytest.mark.asvs("v5.0.0-7.2.4")
async def test_a_login_with_the_code_ends_the_session_that_it_takes_the_place_of(
    owner: Browser, browsers: NewBrowser
) -> None:
    app, _ = await turn_on(owner)
    thief = browsers()
    await thief.set(**owner.cookies())
    _, answer = await owner.log_in()
    assert await is_in(thief)
    assert (await verify(owner, answer["mfaToken"], code=app.code(1)))[0] == 200
    assert [await is_in(each) for each in (owner, thief)] == [True, False]


async def test_a_code_or_a_recovery_code_is_given_and_not_both(browsers: NewBrowser) -> None:
    for shown in ({}, {"code": "123456", "recoveryCode": "x"}):
        status, answer = await verify(browsers(), "x", **shown)
        assert (status, answer["error"]["details"][0]["field"]) == (400, "code")


@pytest.mark.asvs("v5.0.0-6.3.1")
async def test_five_wrong_codes_close_it_for_a_quarter_of_an_hour_at_every_gateway(
    owner: Browser, other: Service, browsers: NewBrowser, bus: BusProbe
) -> None:
    app, codes = await turn_on(owner)
    twins = [browsers(), browsers(other.url)]
    token = await password_step(twins[0])
    many = (verify(twins[number % 2], token, code=app.wrong()) for number in range(12))
    statuses = [status for status, _ in await asyncio.gather(*many)]
    assert (statuses.count(401), statuses.count(429)) == (5, 7)
    for shown in ({"code": app.code()}, {"recoveryCode": codes[0]}):
        status, answer = await verify(twins[1], token, **shown)
        assert (status, answer["error"]["code"]) == (429, "RATE_LIMITED")
    assert 800 < int(twins[1].headers["Retry-After"]) <= 901
    assert (await owner.call("POST", "/api/admin/mfa/recovery-codes", {"code": app.code()}))[0] == 429
    failed = await bus.next(ActionRecorded, lambda act: act.action == "mfa.failed")
    assert (str(failed.data.target_id), failed.data.outcome) == (owner.admin_id, "failure")
    with clock.shifted(901):
        token = await password_step(twins[0])
        assert (await verify(twins[0], token, code=app.wrong()))[0] == 401
        assert (await verify(twins[0], token, code=app.code()))[0] == 200


async def test_a_right_code_forgets_the_wrong_ones_before_it(owner: Browser, browsers: NewBrowser) -> None:
    app, codes = await turn_on(owner)
    for shown in ({"code": app.code()}, {"recoveryCode": codes[0]}):
        browser = browsers()
        token = await password_step(browser)
        assert [(await verify(browser, token, code=app.wrong()))[0] for _ in range(4)] == [401] * 4
        assert (await verify(browser, token, **shown))[0] == 200


@pytest.mark.asvs("v5.0.0-6.5.1")
async def test_a_recovery_code_is_taken_once_and_its_owner_is_told(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    _, codes = await turn_on(owner)
    browser = browsers()
    typed = codes[0].lower().replace("-", " ")
    assert (await verify(browser, await password_step(browser), recoveryCode=typed))[0] == 200
    assert (await browser.call("GET", "/api/auth/me"))[1]["mfaVerified"] is True
    assert await is_in(owner)  # nothing was changed: other sessions go on
    mail = await mail_of(bus, keys, "recovery-code-used")
    assert (mail["to"], mail["codes_left"]) == ("ruth@grace.example", "7")
    used = await bus.next(ActionRecorded, lambda act: act.action == "mfa.recovery_code_used")
    assert (str(used.data.actor_id), used.data.details) == (owner.admin_id, {"left": "7"})
    browser = browsers()
    assert (await verify(browser, await password_step(browser), recoveryCode=codes[0]))[0] == 401


@pytest.mark.asvs("v5.0.0-6.5.6")
async def test_new_recovery_codes_replace_all_others(owner: Browser, browsers: NewBrowser, bus: BusProbe) -> None:
    app, old = await turn_on(owner)
    status, answer = await owner.call("POST", "/api/admin/mfa/recovery-codes", {"code": app.wrong()})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "code")
    status, answer = await owner.call("POST", "/api/admin/mfa/recovery-codes", {"code": app.code()})
    assert (status, len(set(answer["recoveryCodes"]) - set(old))) == (200, 8)
    await bus.next(ActionRecorded, lambda act: act.action == "mfa.recovery_codes_renewed")
    assert (await owner.call("POST", "/api/admin/mfa/recovery-codes", {"code": app.code()}))[0] == 400
    browser = browsers()
    token = await password_step(browser)
    assert (await verify(browser, token, recoveryCode=old[0]))[0] == 401
    assert (await verify(browser, token, recoveryCode=answer["recoveryCodes"][0]))[0] == 200


@pytest.mark.asvs("v5.0.0-7.4.3")
async def test_turning_it_on_ends_every_session_from_before_within_a_second(
    owner: Browser, other: Service, browsers: NewBrowser
) -> None:
    elsewhere, thief = browsers(other.url), browsers(other.url)
    await elsewhere.log_in()
    await thief.set(**owner.cookies())
    assert await is_in(elsewhere)
    assert await is_in(thief)
    await turn_on(owner)
    for browser in (elsewhere, thief):

        async def is_out(browser: Browser = browser) -> bool:
            return not await is_in(browser)

        await wait_until(is_out, seconds=1.5)
        assert (await browser.call("POST", "/api/auth/refresh"))[0] == 401
    assert await is_in(owner)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200


async def test_a_login_that_crosses_the_turning_on_opens_nothing(gateway: Service, owner: Browser) -> None:
    assert (await enable(owner))[0] == 200
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await tx.execute(CONFIRM)  # as another gateway would, which did not see this session yet

    async def is_out() -> bool:
        return not await is_in(owner)

    await wait_until(is_out, seconds=1.5)


@pytest.mark.asvs("v5.0.0-6.3.7", "v5.0.0-6.5.6", "v5.0.0-7.4.3")
async def test_it_is_turned_off_with_both_factors_and_other_sessions_end(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    app, _ = await turn_on(owner)
    elsewhere = browsers()
    assert (await verify(elsewhere, await password_step(elsewhere), code=app.code()))[0] == 200
    for body, field in (
        ({"password": "not the password", "code": app.code(1)}, "password"),
        ({"password": PASSWORD, "code": app.wrong()}, "code"),
    ):
        status, answer = await owner.call("POST", "/api/admin/mfa/disable", body)
        assert (status, answer["error"]["details"][0]["field"]) == (400, field)
    right = {"password": PASSWORD, "code": app.code(1)}
    assert (await owner.call("POST", "/api/admin/mfa/disable", right))[0] == 204
    assert not await is_in(elsewhere)
    me = (await owner.call("GET", "/api/auth/me"))[1]
    assert (me["mfaVerified"], me["admin"]["mfaEnabled"]) == (False, False)
    assert (await browsers().log_in())[1]["mfaRequired"] is False
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        assert await tx.fetch_value(COUNT_FACTORS) == 0
    assert (await mail_of(bus, keys, "mfa-off"))["to"] == "ruth@grace.example"
    await bus.next(ActionRecorded, partial(succeeded, "mfa.disabled"))
    for path, body in (("disable", right), ("recovery-codes", {"code": app.code(1)})):
        assert (await owner.call("POST", f"/api/admin/mfa/{path}", body))[0] == 409


async def test_passwords_cannot_be_tried_where_it_is_turned_off(owner: Browser) -> None:
    app, _ = await turn_on(owner)
    bodies = [{"password": f"guess {number}", "code": app.code()} for number in range(6)]
    statuses = [(await owner.call("POST", "/api/admin/mfa/disable", body))[0] for body in bodies]
    assert statuses == [400] * 5 + [429]


@pytest.mark.asvs("v5.0.0-7.3.2")
async def test_a_session_that_goes_on_lives_no_longer_than_before(owner: Browser) -> None:
    for hours in range(20, 720, 20):
        with clock.shifted(hours * 3600):
            assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
            if hours == 240:
                await turn_on(owner)
    with clock.shifted(719 * 3600):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
    with clock.shifted(720 * 3600 + 60):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401


async def test_a_login_that_awaits_is_no_session_in_the_list(owner: Browser, browsers: NewBrowser) -> None:
    app, _ = await turn_on(owner)
    browser = browsers()
    token = await password_step(browser)
    assert len((await owner.call("GET", "/api/auth/sessions"))[1]["data"]) == 1
    assert (await verify(browser, token, code=app.code()))[0] == 200
    assert len((await owner.call("GET", "/api/auth/sessions"))[1]["data"]) == 2


@pytest.mark.asvs("v5.0.0-6.4.3")
async def test_another_password_ends_a_login_that_awaits_and_leaves_the_factor_on(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    app, _ = await turn_on(owner)
    thief, changed = browsers(), "another long sentence for me"
    token = await password_step(thief)
    body = {"currentPassword": PASSWORD, "newPassword": changed}
    assert (await owner.call("POST", "/api/auth/password/change", body))[0] == 204
    assert (await verify(thief, token, code=app.code()))[0] == 401
    status, answer = await thief.log_in(password=changed)
    assert (status, answer["mfaRequired"]) == (200, True)
    forgotten = {"email": "ruth@grace.example"}
    assert (await thief.call("POST", "/api/auth/password/forgot", forgotten, csrf=False))[0] < 300
    link = (await mail_of(bus, keys, "password-reset"))["token"]
    reset = {"token": link, "password": PASSWORD}
    assert (await thief.call("POST", "/api/auth/password/reset", reset, csrf=False))[0] == 204
    assert (await verify(thief, answer["mfaToken"], code=app.code()))[0] == 401
    await password_step(thief)


async def set_anew(browser: Browser, bus: BusProbe, keys: Keys, password: str) -> str:
    """Set the password by mail, and show it; answers the token to be shown with the second factor."""
    forgotten = {"email": "ruth@grace.example"}
    assert (await browser.call("POST", "/api/auth/password/forgot", forgotten, csrf=False))[0] == 204
    body = {"token": (await mail_of(bus, keys, "password-reset"))["token"], "password": password}
    assert (await browser.call("POST", "/api/auth/password/reset", body, csrf=False))[0] == 204
    status, answer = await browser.log_in(password=password)
    assert (status, answer["mfaRequired"]) == (200, True)
    return str(answer["mfaToken"])


async def test_a_password_set_anew_by_mail_reopens_it_for_its_owner(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    app, _ = await turn_on(owner)
    browser = browsers()
    token = await password_step(browser)
    assert [(await verify(browser, token, code=app.wrong()))[0] for _ in range(6)] == [401] * 5 + [429]
    token = await set_anew(browser, bus, keys, "another long sentence for me")
    assert (await verify(browser, token, code=app.code()))[0] == 200
    act = await bus.next(ActionRecorded, partial(succeeded, "mfa.reopened"))
    assert (str(act.data.actor_id), str(act.data.target_id)) == (owner.admin_id, owner.admin_id)


async def test_who_reads_the_mail_alone_has_fifty_codes_and_no_more(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    app, _ = await turn_on(owner)
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await tx.execute(FAIL, 45)
    browser = browsers()
    token = await password_step(browser)
    for password in ("another long sentence for me", "one more long sentence for me"):
        assert [(await verify(browser, token, code=app.wrong()))[0] for _ in range(6)] == [401] * 5 + [429]
        token = await set_anew(browser, bus, keys, password)
    assert (await verify(browser, token, code=app.code()))[0] == 429


async def test_of_who_is_removed_no_secret_stays(
    gateway: Service, owner: Browser, browsers: NewBrowser, bus: BusProbe, keys: Keys
) -> None:
    invited = {"email": "boaz@grace.example", "firstName": "Boaz", "lastName": "Miller", "role": "sender"}
    status, boaz = await owner.call("POST", "/api/admin/users", invited)
    assert status == 201
    token = (await mail_of(bus, keys, "invitation"))["token"]
    joined = {"token": token, "firstName": "Boaz", "lastName": "Miller", "password": PASSWORD}
    browser = browsers()
    assert (await browser.call("POST", "/api/auth/invitations/accept", joined, csrf=False))[0] == 200
    await browser.log_in("boaz@grace.example")
    await turn_on(browser)
    assert (await owner.call("DELETE", f"/api/admin/users/{boaz['id']}"))[0] == 204
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        assert await tx.fetch_value(COUNT_FACTORS) == 0


async def test_a_program_has_no_second_factor(owner: Browser, browsers: NewBrowser) -> None:
    made = (await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": "admin"}))[1]
    headers = {"Authorization": f"Bearer {made['key']}"}
    for browser in (browsers(), owner):
        status, answer = await browser.call("POST", "/api/admin/mfa/enable", csrf=False, headers=headers)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.asvs("v5.0.0-6.5.2")
async def test_nothing_that_opens_an_account_is_stored_in_plain(
    gateway: Service, owner: Browser, browsers: NewBrowser
) -> None:
    _, begun = await enable(owner)
    code = App(begun["secret"]).code()
    _, answer = await owner.call("POST", "/api/admin/mfa/confirm", {"code": code})
    browser = browsers()
    token = await password_step(browser)
    await verify(browser, token, recoveryCode=answer["recoveryCodes"][0])
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        stored = str(await tx.fetch_value(STORED))
    assert owner.admin_id in stored
    for secret in (begun["secret"], *answer["recoveryCodes"], token, "ruth@grace.example"):
        assert secret not in stored
        assert secret.replace("-", "") not in stored


@pytest.fixture
async def administrator(
    gateway: Service, database_urls: DatabaseUrls, servers: TestServers
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """An administrator's connection to the gateway's database."""
    name = (await database_urls("gateway")).rpartition("/")[2].partition("?")[0]
    connection = await asyncpg.connect(servers.database_url(name))
    yield connection
    await connection.close()


async def test_secrets_are_made_anew_when_keys_are_rotated(
    administrator: "asyncpg.Connection[asyncpg.Record]",
    owner: Browser,
    browsers: NewBrowser,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, _ = await turn_on(owner)
    both = f"new:{base64.b64encode(bytes(32)).decode()},{KEY_SETTINGS['encryption_keys']}"
    cipher = Cipher(Keyring.parse(both, "KEYS"))
    tables = {each.name: each for each in await list_tables(administrator, ["gateway"])}
    assert (await reencrypt(administrator, tables["totp_factors"], cipher)).changed == 1
    stored = await administrator.fetchrow("SELECT church_id, totp_secret_ciphertext FROM gateway.totp_factors")
    assert stored is not None
    assert cipher.is_current(stored["totp_secret_ciphertext"])
    newest = Keys.parse(**{**KEY_SETTINGS, "encryption_keys": both})
    secret = newest.decrypt(stored["totp_secret_ciphertext"], stored["church_id"], "totp_secret")
    assert App(secret).code() == app.code()


REFUSED = [
    endpoint
    for endpoint in ENDPOINTS
    if endpoint.access == "principal" and endpoint.name not in {"auth.me", "mfa.enable", "mfa.confirm"}
]


async def refused(browser: Browser, url: str) -> set[str]:
    """Ask every route for anything; answers the codes of those that the second factor is not needed for."""
    found = {}
    for endpoint in REFUSED:
        path = endpoint.url(**dict.fromkeys(endpoint.parameters, new_id()))
        answer = await browser.call(endpoint.method, path, url=url)
        body = answer[1] if isinstance(answer[1], dict) else {}
        found[endpoint.name] = (answer[0], body.get("error", {}).get("code"))
    return {name for name, answer in found.items() if answer != (403, "MFA_REQUIRED")}


@pytest.mark.asvs("v5.0.0-6.3.3")
async def test_a_church_that_requires_it_is_closed_to_people_without_it(
    gateway: Service, owner: Browser, bus: BusProbe
) -> None:
    made = (await owner.call("POST", "/api/admin/api-keys", {"name": "Site", "role": "viewer"}))[1]
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await tx.execute(REQUIRE, True)

    async def is_asked() -> bool:
        return (await owner.call("GET", "/api/admin/api-keys"))[0] == 403

    await wait_until(is_asked, seconds=1.5)
    assert await refused(owner, gateway.url) == set()
    assert len(REFUSED) > 50
    program = {"Authorization": f"Bearer {made['key']}"}
    path = f"/api/churches/{owner.church_id}/settings"
    assert (await owner.call("GET", path, headers=program))[0] == 200  # a program has none
    assert await is_in(owner)
    app, _ = await turn_on(owner)
    assert (await owner.call("GET", path))[0] == 200
    # Off again: the account is where it began, and can be turned on again.
    assert (await owner.call("POST", "/api/admin/mfa/disable", {"password": PASSWORD, "code": app.code()}))[0] == 204
    assert (await owner.call("GET", path))[0] == 403
    await turn_on(owner)
    assert (await owner.call("GET", path))[0] == 200


@pytest.mark.asvs("v5.0.0-6.3.3")
async def test_a_platform_that_requires_it_is_closed_to_people_without_it(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser
) -> None:
    strict = await start_gateway(require_mfa=True)
    assert await refused(owner, strict.url) == set()
    browser = browsers(strict.url)
    assert (await browser.register(email="eve@other.example", church="Other"))[0] == 201
    path = f"/api/churches/{browser.church_id}/settings"
    assert (await browser.call("GET", path))[0] == 403
    await turn_on(browser)
    assert (await browser.call("GET", path))[0] == 200
    assert (await browser.call("POST", "/api/auth/logout"))[0] == 204
