"""Forgotten and changed passwords over real HTTP, with the mail that carries a token read off the bus."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.errors import Conflict
from koinonia.events import Envelope, encode
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import EmailRequested
from koinonia.security import tokens
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway import accounts, passwords
from koinonia_gateway.audit import Actor
from koinonia_gateway.http.passwords import FORGOT_SECONDS
from koinonia_gateway.store import passwords as store

from .conftest import PASSWORD, Browser, NewBrowser, Service, StartGateway

RUTH = "ruth@grace.example"
NEW = "eleven grey geese fly by night"
OTHER = "thirteen old owls read at noon"
FETCH_RESETS = statement("test.fetch_resets", "SELECT password_resets::text FROM password_resets")
ACTOR = Actor(kind="anonymous", id=None, address="192.0.2.7", request_id="test")


@dataclass
class Mail:
    """What an admin was sent."""

    event: Envelope[EmailRequested]
    to: str
    fields: dict[str, str]


ReadMail = Callable[[str], Awaitable[Mail]]


@pytest.fixture
async def mail(bus: BusProbe, keys: Keys) -> ReadMail:
    """``await mail("password-reset")``: the next one, opened."""

    async def read(template: str) -> Mail:
        event = await bus.next(EmailRequested, lambda wish: wish.template == template)
        assert event.church_id is not None
        fields = keys.decrypt(event.data.fields_ciphertext, event.church_id, "fields")
        return Mail(
            event,
            to=keys.decrypt(event.data.email_ciphertext, event.church_id, "email"),
            fields=msgspec.json.decode(fields, type=dict[str, str]),
        )

    return read


@pytest.fixture
async def visitor(browsers: NewBrowser) -> Browser:
    """Somebody who is not logged in."""
    return browsers()


async def forget(browser: Browser, email: str = RUTH) -> Any:
    return await browser.call("POST", "/api/auth/password/forgot", {"email": email}, csrf=False)


async def reset(browser: Browser, token: str, password: str = NEW) -> Any:
    body = {"token": token, "password": password}
    return await browser.call("POST", "/api/auth/password/reset", body, csrf=False)


async def change(browser: Browser, current: str = PASSWORD, new: str = NEW) -> Any:
    return await browser.call("POST", "/api/auth/password/change", {"currentPassword": current, "newPassword": new})


async def token_of(browser: Browser, mail: ReadMail) -> str:
    """A new token for Ruth."""
    assert (await forget(browser))[0] == 204
    return (await mail("password-reset")).fields["token"]


def named(answer: Any) -> tuple[int, list[str]]:
    status, body = answer
    return status, [detail["field"] for detail in body["error"]["details"]]


async def is_logged_out(browser: Browser) -> bool:
    return (await browser.call("GET", "/api/auth/me"))[0] == 401


@pytest.mark.asvs("v5.0.0-6.3.7", "v5.0.0-6.4.3", "v5.0.0-7.4.3")
async def test_a_forgotten_password_is_set_anew_by_mail_and_all_sessions_end(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, mail: ReadMail, bus: BusProbe
) -> None:
    visitor, elsewhere = browsers(), browsers((await start_gateway()).url)
    await elsewhere.set(**owner.cookies())
    assert not await is_logged_out(elsewhere)
    assert await forget(visitor, " Ruth@Grace.example ".strip()) == (204, b"")
    sent = await mail("password-reset")
    assert (sent.to, sent.fields["name"], sent.fields["church"], sent.fields["valid_for"]) == (
        RUTH,
        "Ruth",
        "Grace Chapel",
        "30 minutes",
    )
    asked = await bus.next(ActionRecorded, lambda act: act.action == "password.reset_requested")
    assert (str(asked.church_id), asked.data.outcome, asked.data.address) == (owner.church_id, "success", "127.0.0.1")

    assert await reset(visitor, sent.fields["token"]) == (204, b"")
    assert visitor.cookies() == {}  # a second factor is still to be shown
    assert await is_logged_out(owner)
    await wait_until(lambda: is_logged_out(elsewhere), seconds=1.5)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401
    assert (await visitor.log_in())[0] == 401
    assert (await visitor.log_in(password=NEW))[0] == 200
    assert (await mail("password-changed")).to == RUTH
    done = await bus.next(ActionRecorded, lambda act: act.action == "password.reset")
    assert (str(done.data.actor_id), done.data.outcome, done.data.address) == (owner.admin_id, "success", "127.0.0.1")


async def test_who_asks_for_an_account_that_is_none_gets_the_same_answer_no_sooner_and_no_mail(
    owner: Browser, visitor: Browser, mail: ReadMail, bus: BusProbe
) -> None:
    answers, seconds = [], []
    for email in ("nobody@grace.example", RUTH):
        began = time.monotonic()
        answers.append((*await forget(visitor, email), sorted(visitor.headers)))
        seconds.append(time.monotonic() - began)
    assert answers[0] == answers[1]
    assert min(seconds) >= FORGOT_SECONDS
    noted = await bus.next(ActionRecorded, lambda act: act.action == "password.reset_requested")
    assert (noted.church_id, noted.data.outcome, noted.data.target_id) == (None, "failure", None)
    await mail("password-reset")
    assert await bus.all(EmailRequested) == []


async def test_neither_token_nor_address_is_readable_in_an_event_or_a_table(
    gateway: Service, owner: Browser, visitor: Browser, mail: ReadMail
) -> None:
    assert (await forget(visitor))[0] == 204
    sent = await mail("password-reset")
    async with gateway.parts.database.across_churches() as tx:
        stored = str(await tx.fetch_value(FETCH_RESETS))
    digest = tokens.digest_opaque(sent.fields["token"])
    assert digest.hex() in stored
    for text in (stored, encode(sent.event).decode()):
        assert sent.fields["token"] not in text
        assert RUTH not in text


@pytest.mark.asvs("v5.0.0-2.3.4", "v5.0.0-6.4.3")
async def test_a_token_is_good_once_also_when_it_is_shown_twice_at_once(
    owner: Browser, browsers: NewBrowser, visitor: Browser, mail: ReadMail, bus: BusProbe
) -> None:
    token = await token_of(visitor, mail)
    answers = await asyncio.gather(*(reset(browsers(), token, password) for password in (NEW, OTHER)))
    assert sorted(status for status, _ in answers) == [204, 400]
    lost = next(answer for answer in answers if answer[0] == 400)
    assert named(lost) == (400, ["token"])
    assert named(await reset(visitor, token)) == (400, ["token"])
    failed = await bus.next(ActionRecorded, lambda act: (act.action, act.outcome) == ("password.reset", "failure"))
    assert (failed.church_id, failed.data.address) == (None, "127.0.0.1")


async def test_every_token_dies_with_the_password_it_was_for(owner: Browser, visitor: Browser, mail: ReadMail) -> None:
    first, second = await token_of(visitor, mail), await token_of(visitor, mail)
    assert (await reset(visitor, first))[0] == 204  # asking again does not kill what was mailed before
    assert named(await reset(visitor, second)) == (400, ["token"])
    third = await token_of(visitor, mail)
    assert (await owner.log_in(password=NEW))[0] == 200
    assert (await change(owner, NEW, OTHER))[0] == 204
    assert named(await reset(visitor, third)) == (400, ["token"])


@pytest.mark.asvs("v5.0.0-6.4.3")
async def test_a_token_lives_half_an_hour(gateway: Service, owner: Browser, visitor: Browser, mail: ReadMail) -> None:
    first, second = await token_of(visitor, mail), await token_of(visitor, mail)
    for minutes, token, status in ((31, first, 400), (29, second, 204)):
        with clock.shifted(minutes * 60):
            assert (await reset(visitor, token))[0] == status
    for minutes, count in ((29, 0), (31, 2)):
        with clock.shifted(minutes * 60):
            async with gateway.parts.database.across_churches() as tx:
                assert await store.delete_expired_resets(tx, clock.now(), 10) == count


async def test_a_new_hash_of_the_same_password_leaves_a_token_good(
    start_gateway: StartGateway, owner: Browser, visitor: Browser, browsers: NewBrowser, mail: ReadMail
) -> None:
    dearer = await start_gateway(password_passes=2)
    token = await token_of(visitor, mail)
    assert (await browsers(dearer.url).log_in())[0] == 200
    assert (await reset(visitor, token))[0] == 204


@pytest.mark.asvs("v5.0.0-2.3.3")
async def test_a_gateway_that_dies_before_the_commit_has_used_no_token_up(
    gateway: Service, keys: Keys, owner: Browser, visitor: Browser, mail: ReadMail
) -> None:
    token = await token_of(visitor, mail)
    with suppress(KeyboardInterrupt):
        async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
            assert await passwords.reset(tx, keys, tokens.digest_opaque(token), "a hash", ACTOR) is not None
            raise KeyboardInterrupt
    assert not await is_logged_out(owner)
    assert (await reset(visitor, token))[0] == 204


@pytest.mark.parametrize("password", ["manchesterunited", "gracechapel is fine", "ruth@grace.example!"])
@pytest.mark.asvs("v5.0.0-6.2.4", "v5.0.0-6.2.11", "v5.0.0-6.2.12")
async def test_a_password_that_is_easily_guessed_is_refused_and_named(
    owner: Browser, visitor: Browser, mail: ReadMail, password: str
) -> None:
    token = await token_of(visitor, mail)
    assert named(await reset(visitor, token, password)) == (400, ["password"])
    assert named(await change(owner, new=password)) == (400, ["newPassword"])
    assert (await reset(visitor, token))[0] == 204


async def test_whoever_asks_for_mails_again_and_again_fills_no_mailbox_and_keeps_nobody_from_a_new_password(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, mail: ReadMail, bus: BusProbe
) -> None:
    limited = await start_gateway(rate_limit_auth="2/1h", trusted_proxies="127.0.0.0/8")
    browser = browsers(limited.url)

    async def ask(email: str, number: int) -> Any:
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        path, body = "/api/auth/password/forgot", {"email": email}
        began = time.monotonic()
        answer = await browser.call("POST", path, body, csrf=False, headers=headers)
        assert time.monotonic() - began >= FORGOT_SECONDS
        return (*answer, sorted(browser.headers))

    now = clock.now().timestamp()
    with clock.shifted(900 - now % 900):  # a window's beginning
        answers = [await ask(email, number) for email in (RUTH, "nobody@grace.example") for number in range(4)]
        assert answers == [answers[0]] * 8
        assert answers[0][0] == 204
        first, second = await mail("password-reset"), await mail("password-reset")
        assert await bus.all(EmailRequested) == []
    with clock.shifted(2 * 900 - now % 900 - 60):
        assert (await reset(browser, second.fields["token"], "short"))[0] == 400
        await ask(RUTH, 9)
        assert await bus.all(EmailRequested) == []
    with clock.shifted(2 * 900 - now % 900 + 1):
        await ask(RUTH, 9)
        await mail("password-reset")
        assert (await reset(browser, first.fields["token"]))[0] == 204


@pytest.mark.asvs("v5.0.0-6.2.2", "v5.0.0-6.3.7", "v5.0.0-7.4.3")
async def test_a_changed_password_ends_all_other_sessions_and_is_told_by_mail(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser, mail: ReadMail, bus: BusProbe
) -> None:
    other = browsers((await start_gateway()).url)
    await other.log_in()
    assert await change(owner) == (204, b"")
    assert not await is_logged_out(owner)
    assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
    await wait_until(lambda: is_logged_out(other), seconds=1.5)
    assert (await other.call("POST", "/api/auth/refresh"))[0] == 401
    assert [(await other.log_in(password=each))[0] for each in (PASSWORD, NEW)] == [401, 200]
    assert (await mail("password-changed")).fields == {"name": "Ruth", "church": "Grace Chapel"}
    act = await bus.next(ActionRecorded, lambda act: act.action == "password.changed")
    assert (str(act.data.actor_id), act.data.address, act.data.details) == (
        owner.admin_id,
        "127.0.0.1",
        {"sessions": "1"},
    )


@pytest.mark.asvs("v5.0.0-6.2.3", "v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_a_change_wants_the_current_password_and_counts_the_tries(
    start_gateway: StartGateway, owner: Browser, bus: BusProbe
) -> None:
    owner.url = (await start_gateway(rate_limit_auth="2/15m")).url
    assert named(await change(owner, current=OTHER)) == (400, ["currentPassword"])
    failed = await bus.next(ActionRecorded, lambda act: act.action == "password.confirmed")
    assert (str(failed.data.actor_id), failed.data.outcome) == (owner.admin_id, "failure")
    assert (await change(owner, new=OTHER))[0] == 204  # which clears the count
    assert [(await change(owner))[0] for _ in range(3)] == [400, 400, 429]
    with clock.shifted(901):
        assert await is_logged_out(owner)  # its access token is over, not its session
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 200
        assert (await change(owner, current=OTHER))[0] == 204


@pytest.mark.usefixtures("window")
async def test_wrong_passwords_in_a_stolen_session_leave_the_owner_its_tries(
    start_gateway: StartGateway, owner: Browser, browsers: NewBrowser
) -> None:
    owner.url = (await start_gateway(rate_limit_auth="2/15m")).url
    thief = browsers(owner.url)
    assert (await thief.log_in())[0] == 200
    assert [(await change(thief, current=OTHER))[0] for _ in range(3)] == [400, 400, 429]
    assert (await change(owner))[0] == 204


async def test_of_two_changes_at_once_one_holds(owner: Browser, browsers: NewBrowser) -> None:
    answers = await asyncio.gather(change(owner, new=NEW), change(owner, new=OTHER))
    statuses = [status for status, _ in answers]
    assert sorted(statuses) in ([204, 400], [204, 409])
    logins = [(await browsers().log_in(password=each))[0] for each in (NEW, OTHER)]
    assert logins == [200 if status == 204 else 401 for status in statuses]


async def test_a_change_of_a_password_that_is_another_by_now_changes_nothing(
    gateway: Service, keys: Keys, owner: Browser
) -> None:
    admin_id, session_id = UUID(owner.admin_id), UUID(int=1)
    assert (await change(owner))[0] == 204
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        with pytest.raises(Conflict):
            await passwords.change(tx, keys, admin_id, 1, "a hash", session_id=session_id, actor=ACTOR)
    assert not await is_logged_out(owner)


async def test_a_login_by_the_old_password_that_comes_late_opens_nothing(
    gateway: Service, keys: Keys, owner: Browser
) -> None:
    """The two ways it may go: the password changes before the login's transaction, or while that is open."""
    database, admin_id = gateway.parts.database, UUID(owner.admin_id)
    async with database.tenant(UUID(owner.church_id)) as tx:
        opened = await accounts.log_in(tx, keys, admin_id, password_version=1, new_password_hash=None, actor=ACTOR)
        changing = asyncio.create_task(change(owner))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(changing)
    assert (await changing)[0] == 204
    assert isinstance(opened, accounts.Opened)
    thief = {"Cookie": f"accessToken={tokens.issue(keys, opened.access)}"}
    owner.session.cookie_jar.clear()
    assert (await owner.call("GET", "/api/auth/me", headers=thief))[0] == 401
    async with database.tenant(UUID(owner.church_id)) as tx:
        late = await accounts.log_in(tx, keys, admin_id, password_version=1, new_password_hash=None, actor=ACTOR)
    assert late is None


async def test_a_program_has_no_password(owner: Browser, visitor: Browser) -> None:
    _, made = await owner.call("POST", "/api/admin/api-keys", {"name": "Website", "role": "admin"})
    headers = {"Authorization": f"Bearer {made['key']}"}
    body = {"currentPassword": PASSWORD, "newPassword": NEW}
    answers = [
        await visitor.call("POST", "/api/auth/password/change", body, csrf=False, headers=headers),
        await visitor.call("GET", "/api/auth/sessions", headers=headers),
        await visitor.call("DELETE", "/api/auth/sessions", {"password": PASSWORD}, csrf=False, headers=headers),
    ]
    assert [(status, answer["error"]["code"]) for status, answer in answers] == [(403, "FORBIDDEN")] * 3


@pytest.mark.asvs("v5.0.0-3.5.1")
async def test_another_sites_page_changes_no_password(owner: Browser) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": NEW}
    status, answer = await owner.call("POST", "/api/auth/password/change", body, csrf=False)
    assert (status, answer["error"]["code"]) == (403, "CSRF_ERROR")
    headers = {"Origin": "https://evil.example"}
    assert (await owner.call("POST", "/api/auth/password/forgot", {"email": RUTH}, headers=headers))[0] == 403
