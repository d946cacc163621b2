"""Admins over real HTTP and tables: invited, joined, given another role, removed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import EmailRequested
from koinonia.events.gateway import AdminChanged
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway import admins as cases
from koinonia_gateway.store import admins as store

from .conftest import PASSWORD, Answer, Browser, NewBrowser, Service, StartGateway
from .test_churches import key_of
from .test_mfa import COUNT_FACTORS, turn_on

USERS, ACCEPT = "/api/admin/users", "/api/auth/invitations/accept"
BOAZ = {"email": "boaz@grace.example", "firstName": "Boaz", "lastName": "Miller", "role": "sender"}
NAME = {"firstName": "Bo", "lastName": "Mill"}

COUNT = statement("test.count_admins", "SELECT count(*) FROM admins WHERE status <> 'removed'")
REMOVED = statement(
    "test.removed", "SELECT login_index, email_ciphertext, password_hash FROM admins WHERE status = 'removed'"
)
STORED = statement(
    "test.stored",
    """
    SELECT admins::text || coalesce(string_agg(invitations::text, ''), '') || coalesce(string_agg(outbox::text, ''), '')
    FROM admins
    LEFT JOIN invitations ON admin_id = admins.id
    LEFT JOIN outbox ON true
    GROUP BY admins.id
    """,
)

Invite = Callable[..., Awaitable[tuple[str, str]]]
Joined = Callable[..., Awaitable[Browser]]


class Mail:
    """What would be sent to somebody, read with the church's key."""

    def __init__(self, bus: BusProbe, keys: Keys) -> None:
        self._bus = bus
        self._keys = keys

    async def next(self) -> dict[str, Any]:
        event = await self._bus.next(EmailRequested)
        church_id, data = event.church_id, event.data
        assert church_id is not None
        fields = self._keys.decrypt(data.fields_ciphertext, church_id, "fields")
        address = self._keys.decrypt(data.email_ciphertext, church_id, "email")
        assert data.template == "invitation"
        return {"address": address, "expires_at": data.expires_at, **msgspec.json.decode(fields)}

    async def count(self) -> int:
        return len(await self._bus.all(EmailRequested))


@pytest.fixture
def mail(bus: BusProbe, keys: Keys) -> Mail:
    return Mail(bus, keys)


@pytest.fixture
def invite(owner: Browser, mail: Mail) -> Invite:
    """``await invite("sender")``: the id of who is invited, and the token of the e-mail."""

    async def send(role: str = "sender", email: str = BOAZ["email"], browser: Browser | None = None) -> tuple[str, str]:
        status, answer = await (browser or owner).call("POST", USERS, {**BOAZ, "email": email, "role": role})
        assert (status, answer["status"], answer["role"]) == (201, "invited", role)
        return answer["id"], (await mail.next())["token"]

    return send


@pytest.fixture
def joined(invite: Invite, browsers: NewBrowser) -> Joined:
    """``await joined("viewer")``: the browser of an admin who was invited, has accepted and logged in."""

    async def join(role: str = "sender", email: str = BOAZ["email"], url: str | None = None) -> Browser:
        admin_id, token = await invite(role, email)
        browser = browsers(url)
        assert (await accept(browser, token))[0] == 200
        status, session = await browser.log_in(email)
        assert (status, session["admin"]["id"], session["admin"]["role"]) == (200, admin_id, role)
        browser.admin_id, browser.church_id = admin_id, session["church"]["id"]
        return browser

    return join


async def accept(browser: Browser, token: str, password: str = PASSWORD) -> Answer:
    return await browser.call("POST", ACCEPT, {**NAME, "token": token, "password": password}, csrf=False)


async def roles_of(browser: Browser) -> dict[str, str]:
    """Who works for the church, as what."""
    status, answer = await browser.call("GET", USERS)
    assert status == 200
    return {each["id"]: each["role"] for each in answer["data"]}


async def act(bus: BusProbe, action: str, outcome: str = "success") -> ActionRecorded:
    """The next such line of the audit log; it has somebody's address."""
    event = await bus.next(ActionRecorded, lambda act: (act.action, act.outcome) == (action, outcome))
    assert event.data.address == "127.0.0.1"
    return event.data


async def test_who_is_invited_gets_an_e_mail_and_joins_with_its_token(
    owner: Browser, browsers: NewBrowser, bus: BusProbe, mail: Mail
) -> None:
    status, invited = await owner.call("POST", USERS, BOAZ)
    sent = await mail.next()
    assert (status, invited["status"], invited["invitationExpiresAt"] is not None) == (201, "invited", True)
    assert (sent["address"], sent["name"], sent["church"], sent["inviter"], sent["valid_for"]) == (
        BOAZ["email"],
        "Boaz",
        "Grace Chapel",
        "Ruth Miller",
        "7 days",
    )
    recorded = await act(bus, "admin.invited")
    assert (str(recorded.actor_id), str(recorded.target_id)) == (owner.admin_id, invited["id"])
    assert recorded.details == {"role": "sender"}
    changed = await bus.next(AdminChanged, lambda admin: str(admin.admin_id) == invited["id"])
    assert (changed.data.version, changed.data.role, changed.data.status) == (1, "sender", "invited")

    boaz = browsers()
    assert (await boaz.log_in(BOAZ["email"]))[0] == 401
    status, joined = await accept(boaz, sent["token"])
    assert (status, joined["status"], joined["firstName"], joined["invitationExpiresAt"]) == (200, "active", "Bo", None)
    recorded = await act(bus, "admin.joined")
    assert (recorded.actor_kind, str(recorded.actor_id)) == ("session", invited["id"])
    changed = await bus.next(AdminChanged, lambda admin: str(admin.admin_id) == invited["id"])
    assert (changed.data.version, changed.data.role, changed.data.status) == (2, "sender", "active")
    assert (await boaz.log_in(BOAZ["email"]))[0] == 200
    _, listed = await owner.call("GET", USERS)
    assert [(each["email"], each["role"], each["status"]) for each in listed["data"]] == [
        (BOAZ["email"], "sender", "active"),
        ("ruth@grace.example", "owner", "active"),
    ]


@pytest.mark.asvs("v5.0.0-2.3.4", "v5.0.0-6.4.1")
async def test_a_token_is_good_once_also_when_shown_twice_at_once(
    gateway: Service, start_gateway: StartGateway, invite: Invite, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = await start_gateway()
    _, token = await invite()
    shown = await asyncio.gather(*(accept(browsers(url), token) for url in (gateway.url, other.url) * 4))
    assert sorted(status for status, _ in shown) == [200] + [401] * 7
    status, answer = await accept(browsers(), token)
    assert (status, answer["error"]["code"]) == (401, "AUTH_ERROR")
    assert len([each for each in await bus.all(ActionRecorded) if each.data.action == "admin.joined"]) >= 1


@pytest.mark.asvs("v5.0.0-6.4.1")
async def test_an_invitation_ends_after_seven_days(invite: Invite, browsers: NewBrowser, bus: BusProbe) -> None:
    _, token = await invite()
    with clock.shifted(7 * 86_400 + 1):
        status, expired = await accept(browsers(), token)
    unknown = await accept(browsers(), token + "x")
    assert (status, expired["error"]["message"]) == (401, unknown[1]["error"]["message"])
    assert (await act(bus, "admin.joined", "failure")).details == {"reason": "InvitationOver"}
    with clock.shifted(7 * 86_400 - 60):
        assert (await accept(browsers(), token))[0] == 200


async def test_who_did_not_come_in_time_can_be_invited_again(
    owner: Browser, invite: Invite, browsers: NewBrowser, bus: BusProbe
) -> None:
    first, old_token = await invite()
    with clock.shifted(7 * 86_400 - 60):
        assert (await owner.call("POST", "/api/auth/refresh"))[0] == 401  # a session of today is over by then
        await owner.log_in()
        assert (await owner.call("POST", USERS, BOAZ))[0] == 409
    with clock.shifted(7 * 86_400 + 1):
        second, token = await invite()
        assert await roles_of(owner) == {owner.admin_id: "owner", second: "sender"}
        changed = await bus.next(AdminChanged, lambda admin: admin.status == "removed")
        assert (str(changed.data.admin_id), changed.data.version) == (first, 2)
        act = await bus.next(ActionRecorded, lambda act: act.action == "admin.invitation_expired")
        assert (act.data.actor_kind, str(act.data.target_id)) == ("system", first)
        assert (await accept(browsers(), old_token))[0] == 401
        assert (await accept(browsers(), token))[0] == 200


async def test_a_gateway_takes_away_who_did_not_come_in_time(
    gateway: Service, start_gateway: StartGateway, owner: Browser, invite: Invite, bus: BusProbe
) -> None:
    first, _ = await invite()
    with clock.shifted(86_400):
        await owner.log_in()
        second, _ = await invite(email="naomi@grace.example")
    with clock.shifted(7 * 86_400 + 60):
        await start_gateway()
        changed = await bus.next(AdminChanged, lambda admin: admin.status == "removed")
    assert str(changed.data.admin_id) == first
    await owner.log_in()
    assert await roles_of(owner) == {owner.admin_id: "owner", second: "sender"}
    async with gateway.parts.database.across_churches() as tx:
        assert [tuple(row) for row in await tx.fetch(REMOVED)] == [(None, None, None)]
    assert await cases.end_expired_invitations(gateway.parts.database, 10) == 0


@pytest.mark.usefixtures("window")
async def test_nobody_is_invited_again_and_again_and_a_church_invites_no_crowd(
    start_gateway: StartGateway, browsers: NewBrowser, mail: Mail
) -> None:
    limited = await start_gateway(rate_limit_invitation="2/1d")
    ours, theirs = browsers(limited.url), browsers(limited.url)
    for browser, email in ((ours, "ruth@grace.example"), (theirs, "eve@other.example")):
        await browser.register(email=email)
        status, invited = await browser.call("POST", USERS, BOAZ)
        assert (status, (await mail.next())["address"]) == (201, BOAZ["email"])
        assert (await browser.call("DELETE", f"{USERS}/{invited['id']}"))[0] == 204
        assert (await browser.call("POST", USERS, {**BOAZ, "role": "nonsense"}))[0] == 400
        assert (await browser.call("POST", USERS, {**BOAZ, "email": email}))[0] == 409
    status, invited = await ours.call("POST", USERS, BOAZ)
    assert (status, (await mail.next())["address"]) == (201, BOAZ["email"])
    assert (await ours.call("DELETE", f"{USERS}/{invited['id']}"))[0] == 204
    for email in (BOAZ["email"], BOAZ["email"].upper()):
        status, answer = await ours.call("POST", USERS, {**BOAZ, "email": email})
        assert (status, answer["error"]["code"]) == (429, "RATE_LIMITED")
        assert 0 < int(ours.headers["Retry-After"]) <= 86_400
    others = [{**BOAZ, "email": f"boaz{number}@grace.example"} for number in range(39)]
    assert [(await ours.call("POST", USERS, each))[0] for each in others] == [201] * 38 + [429]
    for each in (others[-1], BOAZ):  # neither is closed to another church
        assert (await theirs.call("POST", USERS, each))[0] == 201
    assert await mail.count() == 40


@pytest.mark.usefixtures("window")
async def test_all_churches_together_invite_an_address_so_often_and_no_oftener(
    start_gateway: StartGateway, browsers: NewBrowser
) -> None:
    limited = await start_gateway(rate_limit_invitation="1/1d")
    statuses = []
    for number in range(21):
        browser = browsers(limited.url)
        assert (await browser.register(email=f"ruth{number}@grace.example"))[0] == 201
        statuses.append((await browser.call("POST", USERS, BOAZ))[0])
    assert statuses == [201] * 20 + [429]


async def test_a_withdrawn_invitation_is_over_and_another_can_be_sent(
    owner: Browser, invite: Invite, browsers: NewBrowser
) -> None:
    admin_id, token = await invite()
    assert (await owner.call("POST", USERS, {**BOAZ, "email": "BOAZ@grace.example"}))[0] == 409
    assert (await owner.call("DELETE", f"{USERS}/{admin_id}"))[0] == 204
    assert (await owner.call("DELETE", f"{USERS}/{admin_id}"))[0] == 404
    assert (await accept(browsers(), token))[0] == 401
    _, token = await invite()
    assert (await accept(browsers(), token))[0] == 200


@pytest.mark.asvs("v5.0.0-6.2.4", "v5.0.0-6.2.11")
async def test_a_bad_password_leaves_the_invitation_good(invite: Invite, browsers: NewBrowser) -> None:
    _, token = await invite()
    for password in ("gracechapel12", "passwordpassword"):
        status, answer = await accept(browsers(), token, password)
        assert (status, answer["error"]["details"][0]["field"]) == (400, "password")
    assert (await accept(browsers(), token))[0] == 200


async def test_of_a_token_and_of_who_is_invited_nothing_plain_is_stored_or_told(
    gateway: Service, owner: Browser, invite: Invite, bus: BusProbe, capsys: pytest.CaptureFixture[str]
) -> None:
    _, token = await invite()
    async with gateway.parts.database.across_churches() as tx:
        stored = " ".join(row[0] for row in await tx.fetch(STORED))
    told = " ".join(repr(each) for each in [*await bus.all(AdminChanged), *await bus.all(ActionRecorded)])
    captured = capsys.readouterr()
    for private in (token, token.encode().hex(), BOAZ["email"]):
        assert private not in stored + told + captured.out + captured.err


async def test_an_inviter_does_not_learn_that_somebody_logs_in_elsewhere(
    owner: Browser, browsers: NewBrowser, mail: Mail, invite: Invite
) -> None:
    elsewhere = browsers()
    await elsewhere.register(email="eve@other.example", church="Other Church")
    known_status, known = await owner.call("POST", USERS, {**BOAZ, "email": "eve@other.example"})
    token = (await mail.next())["token"]
    unknown_status, unknown = await owner.call("POST", USERS, {**BOAZ, "email": "eva@other.example"})
    await mail.next()
    for answer in (known, unknown):
        for name in ("id", "email", "createdAt", "invitationExpiresAt"):
            answer.pop(name)
    assert (known_status, known) == (unknown_status, unknown) == (201, known)

    status, answer = await accept(browsers(), token)
    assert (status, answer["error"]["code"]) == (409, "CONFLICT")
    assert (await elsewhere.log_in("eve@other.example"))[0] == 200
    status, listed = await owner.call("GET", USERS)
    assert {each["status"] for each in listed["data"] if each["email"].endswith("other.example")} == {"invited"}
    # Who was invited can found a church of their own: an invitation takes no e-mail.
    assert (await browsers().register(email="eva@other.example", church="Third"))[0] == 201


@pytest.mark.asvs("v5.0.0-8.2.2", "v5.0.0-8.4.1")
async def test_another_churchs_admins_are_not_there(owner: Browser, browsers: NewBrowser, invite: Invite) -> None:
    admin_id, _ = await invite()
    other = browsers()
    await other.register(email="eve@other.example")
    assert list(await roles_of(other)) == [other.admin_id]
    for theirs in (admin_id, owner.admin_id):
        assert (await other.call("PATCH", f"{USERS}/{theirs}", {"role": "viewer"}))[0] == 404
        assert (await other.call("DELETE", f"{USERS}/{theirs}"))[0] == 404
    assert await roles_of(owner) == {owner.admin_id: "owner", admin_id: "sender"}


async def test_another_role_holds_within_a_second_at_every_gateway(
    start_gateway: StartGateway, owner: Browser, joined: Joined, bus: BusProbe
) -> None:
    other = await start_gateway()
    boaz = await joined(url=other.url)
    groups = {"name": "Choir"}
    for role, expected in (("viewer", 403), ("admin", 200), ("sender", 403)):
        await boaz.call("POST", "/api/groups", groups)  # what it may is fresh in memory
        status, answer = await owner.call("PATCH", f"{USERS}/{boaz.admin_id}", {"role": role})
        assert (status, answer["role"]) == (200, role)

        async def holds(expected: int = expected) -> bool:
            return (await boaz.call("POST", "/api/groups", groups))[0] == expected

        await wait_until(holds, seconds=1.3)
        recorded = await act(bus, "admin.role_changed")
        assert (str(recorded.actor_id), str(recorded.target_id)) == (owner.admin_id, boaz.admin_id)
        assert recorded.details["after"] == role
        changed = await bus.next(AdminChanged, lambda admin, role=role: admin.role == role and admin.version > 2)  # type: ignore[misc]
        assert str(changed.data.admin_id) == boaz.admin_id
    before = len(await bus.all(AdminChanged))
    assert (await owner.call("PATCH", f"{USERS}/{boaz.admin_id}", {"role": "sender"}))[0] == 200
    assert len(await bus.all(AdminChanged)) == before


@pytest.mark.asvs("v5.0.0-7.4.2")
async def test_who_is_removed_is_out_at_once_and_everywhere_within_a_second(
    start_gateway: StartGateway, owner: Browser, joined: Joined, browsers: NewBrowser, bus: BusProbe
) -> None:
    other = await start_gateway()
    boaz, far = await joined("owner"), browsers(other.url)
    assert (await far.log_in(BOAZ["email"]))[0] == 200
    for browser in (boaz, far):
        assert (await browser.call("GET", "/api/auth/me"))[0] == 200
    assert (await owner.call("DELETE", f"{USERS}/{boaz.admin_id}"))[0] == 204
    assert (await boaz.call("GET", "/api/auth/me"))[0] == 401

    async def out() -> bool:
        return (await far.call("GET", "/api/auth/me"))[0] == 401

    await wait_until(out, seconds=1.3)
    for browser in (boaz, far):
        assert (await browser.call("POST", "/api/auth/refresh"))[0] == 401
        assert (await browser.log_in(BOAZ["email"]))[0] == 401
    assert (await act(bus, "admin.removed")).details == {"role": "owner"}
    await bus.next(AdminChanged, lambda admin: admin.status == "removed")
    assert list(await roles_of(owner)) == [owner.admin_id]
    async with other.parts.database.across_churches() as tx:
        assert [tuple(row) for row in await tx.fetch(REMOVED)] == [(None, None, None)]
    assert (await browsers().register(email=BOAZ["email"], church="His own"))[0] == 201


async def test_a_login_that_a_removal_overtakes_gives_no_password_back(
    gateway: Service, owner: Browser, joined: Joined
) -> None:
    boaz = await joined()
    assert (await owner.call("DELETE", f"{USERS}/{boaz.admin_id}"))[0] == 204
    async with gateway.parts.database.tenant(UUID(owner.church_id)) as tx:
        await store.update_password_hash(tx, UUID(boaz.admin_id), "a hash at today's cost")
        assert [tuple(row) for row in await tx.fetch(REMOVED)] == [(None, None, None)]


@pytest.mark.asvs("v5.0.0-8.2.3")
async def test_only_owners_touch_owners_and_each_refusal_is_recorded(
    owner: Browser, joined: Joined, bus: BusProbe, mail: Mail
) -> None:
    admin = await joined("admin")
    other = await joined("sender", "naomi@grace.example")
    tries: list[tuple[str, str, Any, str]] = [
        ("POST", USERS, {**BOAZ, "email": "new@grace.example", "role": "owner"}, "admin.invited"),
        ("PATCH", f"{USERS}/{owner.admin_id}", {"role": "viewer"}, "admin.role_changed"),
        ("PATCH", f"{USERS}/{admin.admin_id}", {"role": "owner"}, "admin.role_changed"),
        ("PATCH", f"{USERS}/{other.admin_id}", {"role": "owner"}, "admin.role_changed"),
        ("DELETE", f"{USERS}/{owner.admin_id}", None, "admin.removed"),
    ]
    before = await roles_of(owner)
    for method, path, body, action in tries:
        status, answer = await admin.call(method, path, body)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
        recorded = await act(bus, action, "failure")
        assert (str(recorded.actor_id), recorded.details["reason"]) == (admin.admin_id, "OnlyOwners")
    assert await roles_of(owner) == before
    assert await mail.count() == 0
    assert (await admin.call("PATCH", f"{USERS}/{other.admin_id}", {"role": "admin"}))[0] == 200
    assert (await admin.call("DELETE", f"{USERS}/{other.admin_id}"))[0] == 204


async def test_the_last_owner_stays(owner: Browser, joined: Joined, invite: Invite, bus: BusProbe) -> None:
    await invite("owner", "naomi@grace.example")  # has no login yet
    path = f"{USERS}/{owner.admin_id}"
    for method, body, action in (("PATCH", {"role": "admin"}, "admin.role_changed"), ("DELETE", None, "admin.removed")):
        status, answer = await owner.call(method, path, body)
        assert (status, answer["error"]["code"]) == (409, "CONFLICT")
        assert (await act(bus, action, "failure")).details["reason"] == "LastOwner"
    boaz = await joined("owner")
    assert (await owner.call("PATCH", path, {"role": "admin"}))[0] == 200
    assert (await boaz.call("DELETE", path))[0] == 204


async def test_of_two_owners_who_remove_one_another_at_once_one_stays(
    gateway: Service, start_gateway: StartGateway, owner: Browser, joined: Joined
) -> None:
    other = await start_gateway()
    for number in range(5):
        boaz = await joined("owner", f"boaz{number}@grace.example", other.url)
        pair = [(owner, boaz), (boaz, owner)]
        if number % 2:
            tries = [each.call("DELETE", f"{USERS}/{whom.admin_id}") for each, whom in pair]
        else:
            tries = [each.call("PATCH", f"{USERS}/{whom.admin_id}", {"role": "viewer"}) for each, whom in pair]
        statuses = [status for status, _ in await asyncio.gather(*tries)]
        done = [status for status in statuses if status < 300]
        assert len(done) == 1
        assert set(statuses) - set(done) <= {401, 403, 409}
        stays = owner if statuses[0] == done[0] else boaz
        roles = await roles_of(stays)
        assert [role for role in roles.values() if role == "owner"] == ["owner"]
        assert roles[stays.admin_id] == "owner"
        if stays is boaz:
            return  # the rest of the story needs the first owner


async def test_who_was_removed_a_moment_ago_acts_no_more(
    start_gateway: StartGateway, owner: Browser, joined: Joined
) -> None:
    other = await start_gateway()
    boaz = await joined("owner", url=other.url)
    assert (await boaz.call("GET", "/api/auth/me"))[0] == 200  # remembered there for a second
    assert (await owner.call("PATCH", f"{USERS}/{boaz.admin_id}", {"role": "viewer"}))[0] == 200
    assert (await boaz.call("DELETE", f"{USERS}/{owner.admin_id}"))[0] == 403
    assert (await owner.call("DELETE", f"{USERS}/{boaz.admin_id}"))[0] == 204
    assert (await boaz.call("DELETE", f"{USERS}/{owner.admin_id}"))[0] in (401, 403)


async def test_a_church_that_requires_the_second_factor_asks_each_admin_for_it_within_a_second(
    start_gateway: StartGateway, owner: Browser, joined: Joined
) -> None:
    other = await start_gateway()
    boaz = await joined("viewer", url=other.url)
    assert (await boaz.call("GET", "/api/groups"))[0] == 200
    await turn_on(owner)
    assert (await owner.call("PATCH", f"/api/churches/{owner.church_id}/settings", {"requireMfa": True}))[0] == 200

    async def is_asked() -> bool:
        status, answer = await boaz.call("GET", "/api/groups")
        return status == 403 and answer["error"]["code"] == "MFA_REQUIRED"

    await wait_until(is_asked, seconds=1.3)
    await turn_on(boaz)
    assert (await boaz.call("GET", "/api/groups"))[0] == 200
    assert (await owner.call("DELETE", f"{USERS}/{boaz.admin_id}"))[0] == 204
    async with other.parts.database.tenant(UUID(owner.church_id)) as tx:
        assert await tx.fetch_value(COUNT_FACTORS) == 1


async def test_an_api_key_manages_no_people(owner: Browser, browsers: NewBrowser, invite: Invite) -> None:
    admin_id, _ = await invite()
    _, headers = await key_of(owner, "admin")
    program = browsers()
    assert (await program.call("GET", USERS, headers=headers))[0] == 200
    for method, path, body in (
        ("POST", USERS, {**BOAZ, "email": "new@grace.example"}),
        ("PATCH", f"{USERS}/{admin_id}", {"role": "viewer"}),
        ("DELETE", f"{USERS}/{admin_id}", None),
    ):
        status, answer = await program.call(method, path, body, headers=headers, csrf=False)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")


async def test_the_same_invitation_sent_again_is_one(owner: Browser, mail: Mail, gateway: Service) -> None:
    headers = {"Idempotency-Key": "boaz"}
    first = await owner.call("POST", USERS, BOAZ, headers=headers)
    assert await owner.call("POST", USERS, BOAZ, headers=headers) == first
    assert owner.headers["Idempotent-Replayed"] == "true"
    await mail.next()
    assert await mail.count() == 0
    async with gateway.parts.database.across_churches() as tx:
        assert await tx.fetch_value(COUNT) == 2


async def test_admins_are_listed_in_pages(owner: Browser, invite: Invite) -> None:
    made = [(await invite(email=f"boaz{number}@grace.example"))[0] for number in range(3)]
    status, first = await owner.call("GET", f"{USERS}?limit=2")
    assert (status, [each["id"] for each in first["data"]], first["hasMore"]) == (200, made[:0:-1], True)
    _, second = await owner.call("GET", f"{USERS}?limit=2&cursor={first['nextCursor']}")
    assert ([each["id"] for each in second["data"]], second["hasMore"]) == ([made[0], owner.admin_id], False)


@pytest.mark.asvs("v5.0.0-6.3.1")
@pytest.mark.usefixtures("window")
async def test_tries_to_accept_are_limited_per_address(start_gateway: StartGateway, browsers: NewBrowser) -> None:
    limited = await start_gateway(rate_limit_auth="1/15m")
    statuses = [(await accept(browsers(limited.url), f"token{number}"))[0] for number in range(21)]
    assert statuses == [401] * 20 + [429]
