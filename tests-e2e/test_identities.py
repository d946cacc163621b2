"""Nobody becomes another church: by headers, by a key or cookies of two churches, or past the gateway."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest

from koinonia import clock
from koinonia.api import ENDPOINTS
from koinonia.cli import development_keys
from koinonia.db.roles import SERVICES
from koinonia.security import Keys
from koinonia.security.identity import HEADER, Identity, sign_identity

from .caller import Answer, Caller
from .church import PASSWORD, Church
from .estates import Belongings

NewChurch = Callable[[], Awaitable[Church]]

BEHIND = [service for service in SERVICES if service != "gateway"]


def keys_of(church: Church) -> Keys:
    return development_keys.parse(development_keys.read(church.platform.state.keys))


def identity(church_id: UUID, method: str, path: str, *, expires_at: datetime | None = None) -> Identity:
    """What the gateway would say of an owner of this church."""
    return Identity(
        church_id=church_id,
        principal_id=uuid4(),
        principal_kind="session",
        role="owner",
        mfa_verified=True,
        address="127.0.0.1",
        request_id="forged",
        expires_at=expires_at or clock.now() + timedelta(seconds=30),
        method=method,
        path=path,
    )


def told(answer: Answer) -> tuple[int, Any]:
    """An answer's status and body, without the request's id."""
    body = answer.json()
    return answer.status, body if "error" not in body else {**body["error"], "requestId": None}


@pytest.mark.asvs("v5.0.0-4.1.3", "v5.0.0-8.4.1")
async def test_no_header_makes_a_caller_another_church(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    branch = (await anext(theirs.client.branches.list())).id
    path = f"/api/branches/{branch}"
    forged = sign_identity(keys_of(ours), identity(theirs.id, "GET", path))  # as good as the gateway's own
    headers = {
        HEADER: forged,
        "X-Church-Id": str(theirs.id),
        "X-Tenant-Id": str(theirs.id),
        "X-Koinonia-Church": str(theirs.id),
        "X-User-Id": theirs.email,
        "X-Forwarded-User": theirs.email,
        "X-Forwarded-Email": theirs.email,
        "X-Remote-User": theirs.email,
        "Remote-User": theirs.email,
        "X-Forwarded-For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1;host=koinonia.internal",
        "X-Original-URL": path,
        "X-Rewrite-URL": path,
        "X-HTTP-Method-Override": "DELETE",
        "From": theirs.email,
    }
    async with Caller(ours) as stranger, Caller(theirs) as owner:
        mine = (await stranger.send("GET", "/api/auth/me")).json()
        unknown = told(await stranger.send("GET", f"/api/branches/{uuid4()}"))
        assert unknown[0] == 404
        for name, value in [*headers.items(), ("all of them", "")]:
            sent = headers if name == "all of them" else {name: value}
            assert (name, told(await stranger.send("GET", path, headers=sent))) == (name, unknown)
            assert (name, (await stranger.send("GET", "/api/auth/me", headers=sent)).json()) == (name, mine)
        assert (await owner.send("GET", path)).status == 200
    async with aiohttp.ClientSession() as nobody, nobody.get(ours.platform.url + path, headers=headers) as answer:
        assert answer.status == 401


@pytest.mark.asvs("v5.0.0-8.4.1")
async def test_a_key_opens_its_own_church_whatever_cookies_come_with_it(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    their_key, our_branch = await theirs.api_key(), (await anext(ours.client.branches.list())).id
    their_branch = (await anext(theirs.client.branches.list())).id
    bearer = {"Authorization": f"Bearer {their_key}"}
    async with Caller(ours) as caller:
        assert (await caller.send("GET", f"/api/branches/{our_branch}")).status == 200
        unknown = told(await caller.send("GET", f"/api/branches/{uuid4()}", headers=bearer))
        assert unknown[0] == 404
        assert told(await caller.send("GET", f"/api/branches/{our_branch}", headers=bearer)) == unknown
        assert told(await caller.send("DELETE", f"/api/branches/{our_branch}", headers=bearer)) == unknown
        assert (await caller.send("GET", f"/api/branches/{their_branch}", headers=bearer)).status == 200
        me = (await caller.send("GET", "/api/auth/me", headers=bearer)).json()
        assert (me["church"]["id"], me["admin"]) == (str(theirs.id), None)
        for wrong in (their_key[:-1] + ("0" if their_key[-1] != "0" else "1"), their_key[:-3], "", str(theirs.id)):
            answer = await caller.send(
                "GET", f"/api/branches/{our_branch}", headers={"Authorization": f"Bearer {wrong}"}
            )
            assert (answer.status, answer.code) == (401, "AUTH_ERROR")


@pytest.mark.asvs("v5.0.0-8.4.1")
async def test_cookies_and_tokens_of_two_churches_make_no_third(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    url = ours.platform.url
    us, them = await cookies_of(ours), await cookies_of(theirs)

    async def call(method: str, path: str, cookies: Mapping[str, str], csrf: str = "") -> Answer:
        body = {"name": "Choir"} if path == "/api/groups" else None
        async with (
            aiohttp.ClientSession(cookies=dict(cookies), cookie_jar=aiohttp.CookieJar(unsafe=True)) as session,
            session.request(method, url + path, json=body, headers={"X-CSRF-Token": csrf}) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.read())

    access, refresh = {"accessToken": us["accessToken"]}, {"refreshToken": us["refreshToken"]}
    mixed = {**access, "refreshToken": them["refreshToken"]}
    unknown = told(await call("POST", "/api/groups", access, "x" * len(them["csrf"])))
    assert unknown[0] == 403
    assert told(await call("POST", "/api/groups", access, them["csrf"])) == unknown
    assert told(await call("POST", "/api/groups", mixed, them["csrf"])) == unknown
    assert (await call("POST", "/api/groups", mixed, us["csrf"])).status == 201

    # A refresh and a logout are of the session whose token they need the CSRF token of.
    assert told(await call("POST", "/api/auth/refresh", mixed, us["csrf"])) == unknown
    assert told(await call("POST", "/api/auth/refresh", refresh, them["csrf"])) == unknown
    assert told(await call("POST", "/api/auth/logout", mixed, them["csrf"])) == unknown
    assert told(await call("POST", "/api/auth/logout", {"refreshToken": them["refreshToken"]}, us["csrf"])) == unknown
    renewed = await call("POST", "/api/auth/refresh", mixed, them["csrf"])
    assert (renewed.status, renewed.json()["church"]["id"]) == (200, str(theirs.id))
    for cookies, church in ((us, ours), (them, theirs)):
        me = await call("GET", "/api/auth/me", {"accessToken": cookies["accessToken"]})
        assert (me.status, me.json()["church"]["id"]) == (200, str(church.id))


async def cookies_of(church: Church) -> dict[str, str]:
    """The cookies of a new session, and its CSRF token."""
    jar = aiohttp.CookieJar(unsafe=True)
    credentials = {"email": church.email, "password": PASSWORD}
    async with aiohttp.ClientSession(church.platform.url, cookie_jar=jar) as session:
        async with session.post("/api/auth/login", json=credentials) as answer:
            assert answer.status == 200
            cookies = {name: morsel.value for name, morsel in answer.cookies.items()}
        async with session.get("/api/csrf-token") as answer:
            return {**cookies, "csrf": (await answer.json())["csrfToken"]}


async def test_their_login_with_a_wrong_password_is_as_that_of_nobody(new_church: NewChurch) -> None:
    theirs = await new_church()
    async with aiohttp.ClientSession(theirs.platform.url) as session:
        answers = []
        for email in (theirs.email, f"nobody.{uuid4().hex[:12]}@church.example"):
            credentials = {"email": email, "password": "a long sentence that is wrong"}
            async with session.post("/api/auth/login", json=credentials) as answer:
                answers.append(told(Answer(answer.status, answer.headers, await answer.read())))
                assert "Set-Cookie" not in answer.headers
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


async def test_a_webhook_that_the_carrier_has_not_signed_changes_nothing_of_theirs(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    await theirs.add(1)
    sent = await theirs.send("Hello.")
    await theirs.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    (text,) = await theirs.texts()
    belongings = Belongings(theirs)
    (before,) = await belongings.settled([theirs])
    numbers = ((theirs.number, text.id, text.token), ("+13125550100", str(uuid4()), "0" * len(text.token or "")))
    async with Caller(ours) as stranger:
        for path in ("/api/webhooks/telnyx/status", "/api/webhooks/telnyx/mms"):
            answers = []
            for number, carrier_id, token in numbers:
                body = msgspec.json.encode(
                    {
                        "data": {
                            "event_type": "message.received",
                            "id": str(uuid4()),
                            "payload": {
                                "id": carrier_id,
                                "to": [{"phone_number": number}],
                                "from": {"phone_number": text.recipient},
                                "text": "STOP",
                                "webhook_url": f"{theirs.platform.url}{path}?token={token}",
                            },
                        }
                    }
                )
                answers.append(told(await stranger.send("POST", f"{path}?token={token}", body)))
            assert answers[0] == answers[1]
            assert (path, answers[0][0]) == (path, 401)
    (after,) = await belongings.settled([theirs])
    assert after == before


@pytest.mark.parametrize("service", BEHIND)
@pytest.mark.asvs("v5.0.0-6.3.4", "v5.0.0-8.3.1")
async def test_no_service_behind_the_gateway_answers_without_its_word(service: str, new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    processes = ours.platform.state.read_processes()
    # delivery, or messaging-1; a delivery-worker has none of these routes.
    url = next(process.url for name, process in processes.items() if name.rstrip("-0123456789") == service)
    keys, strange_keys = keys_of(ours), keys_of_nobody()
    owned = [endpoint for endpoint in ENDPOINTS if endpoint.owner == service]
    faults = []
    tried = 0
    async with aiohttp.ClientSession(url) as session:
        for endpoint in owned:
            path, method = endpoint.url(**dict.fromkeys(endpoint.parameters, uuid4())), endpoint.method
            good = identity(ours.id, method, path)
            payload, _, signature = sign_identity(keys, good).partition(".")
            other_payload = sign_identity(keys, identity(theirs.id, method, path)).partition(".")[0]
            past = clock.now() - timedelta(seconds=1)
            refused = {
                "no identity": None,
                "an empty one": "",
                "one of another's keys": sign_identity(strange_keys, good),
                "one without its signature": payload,
                "another church under this signature": f"{other_payload}.{signature}",
                "one that has expired": sign_identity(keys, identity(ours.id, method, path, expires_at=past)),
                "one for another method": sign_identity(keys, identity(ours.id, "PUT", path)),
                "one for another path": sign_identity(keys, identity(ours.id, method, f"{path}/more")),
            }
            for what, value in refused.items():
                headers = {HEADER: value} if value is not None else {}
                others = {
                    "X-Church-Id": str(theirs.id),
                    "Authorization": f"Bearer {theirs.id}",
                    "Cookie": "accessToken=x",
                }
                async with session.request(method, path, headers=others | headers, json={}) as answer:
                    tried += 1
                    if answer.status != 401 or (await answer.json())["error"]["code"] != "AUTH_ERROR":
                        faults.append(f"{method} {path} with {what}: {answer.status}")
            async with session.request(method, path, headers={HEADER: sign_identity(keys, good)}, json={}) as answer:
                if answer.status == 401:
                    faults.append(f"{method} {path} with a good one: {answer.status}")
    assert faults == []
    assert tried


def keys_of_nobody() -> Keys:
    one = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    return Keys.parse(encryption_keys=f"k:{one}", token_keys=f"development-1:{one}", blind_index_key=one)


async def test_messagings_stream_for_the_gateway_is_the_named_churchs_own(new_church: NewChurch) -> None:
    theirs, ours = await new_church(), await new_church()
    await theirs.add(1)
    sent = await theirs.send("Hello.")
    await theirs.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    keys = keys_of(ours)
    answers = {}
    async with aiohttp.ClientSession(ours.platform.process("messaging-1").url) as session:
        for what, church, message in (
            ("theirs", ours, sent.id),
            ("nobody's", ours, uuid4()),
            ("its own", theirs, sent.id),
            ("no church's", None, sent.id),
        ):
            path = f"/internal/messages/{message}/progress"
            word = {HEADER: sign_identity(keys, identity(church.id, "GET", path))} if church is not None else {}
            async with session.get(path, headers=word) as answer:
                answers[what] = answer.status
    assert answers == {"theirs": 404, "nobody's": 404, "its own": 200, "no church's": 401}
