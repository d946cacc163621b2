"""What a browser is told by the gateway's headers, and who else's pages may call."""

from typing import Any

import pytest

from .conftest import PASSWORD, Behind, Browser, NewBrowser, Service, StartGateway

APP = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}


@pytest.fixture
async def open_door(start_gateway: StartGateway) -> Service:
    return await start_gateway(cors_origins=f"{APP}, https://www.example")


def allowed(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("access-control-")}


@pytest.mark.asvs("v5.0.0-3.4.2")
async def test_a_page_of_a_named_origin_may_call_and_read(
    open_door: Service, owner: Browser, browsers: NewBrowser
) -> None:
    headers, url = {"Origin": APP, "Sec-Fetch-Site": "same-site"}, open_door.url
    status, body = await owner.call(
        "OPTIONS", "/api/groups", headers={**headers, **PREFLIGHT}, csrf=False, url=open_door.url
    )
    told = allowed(owner.headers)
    assert (status, body) == (204, b"")
    assert (told["Access-Control-Allow-Origin"], told["Access-Control-Allow-Credentials"]) == (APP, "true")
    assert told["Access-Control-Allow-Methods"] == "GET, POST, PATCH, DELETE"
    sent = told["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"content-type", "x-csrf-token", "idempotency-key", "last-event-id"} <= set(sent)
    assert "authorization" not in sent
    assert "*" not in "".join(told.values())
    status, _ = await owner.call("POST", "/api/groups", {"name": "Choir"}, headers=headers, url=url)
    assert (status, owner.headers["Access-Control-Allow-Origin"]) == (200, APP)
    assert {"X-Request-Id", "RateLimit", "Retry-After"} <= set(
        owner.headers["Access-Control-Expose-Headers"].split(", ")
    )
    login = {"email": "ruth@grace.example", "password": PASSWORD}
    visitor = browsers(url)
    assert (await visitor.call("POST", "/api/auth/login", login, headers=headers))[0] == 200
    assert (await visitor.call("GET", "/api/nothing", headers=headers))[0] == 404
    assert visitor.headers["Access-Control-Allow-Origin"] == APP
    assert (await owner.call("POST", "/api/groups", {"name": "x"}, csrf=False, headers=headers, url=open_door.url))[
        0
    ] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "http://app.example", "null"])
@pytest.mark.asvs("v5.0.0-3.4.2", "v5.0.0-3.5.1")
async def test_others_are_told_nothing_and_change_nothing(
    open_door: Service, owner: Browser, behind: Behind, origin: str
) -> None:
    headers = {"Origin": origin}
    asked = await owner.call("OPTIONS", "/api/groups", headers={**headers, **PREFLIGHT}, csrf=False, url=open_door.url)
    assert (asked[0], allowed(owner.headers)) == (405, {})
    assert (await owner.call("GET", "/api/groups", headers=headers, url=open_door.url))[0] == 200
    assert (allowed(owner.headers), owner.headers["Vary"]) == ({}, "Origin")
    seen = len(behind.seen)
    assert (await owner.call("POST", "/api/groups", {"name": "x"}, headers=headers, url=open_door.url))[0] == 403
    assert len(behind.seen) == seen


@pytest.mark.asvs("v5.0.0-3.4.2")
async def test_without_the_setting_no_origin_is_named(owner: Browser) -> None:
    asked = await owner.call("OPTIONS", "/api/groups", headers={"Origin": APP, **PREFLIGHT}, csrf=False)
    assert (asked[0], allowed(owner.headers)) == (405, {})
    await owner.call("GET", "/api/groups", headers={"Origin": APP})
    assert allowed(owner.headers) == {}


@pytest.mark.asvs("v5.0.0-3.4.1", "v5.0.0-3.4.3", "v5.0.0-3.4.4", "v5.0.0-3.4.5", "v5.0.0-3.4.6")
async def test_every_answer_is_guarded(start_gateway: StartGateway, owner: Browser) -> None:
    secure = await start_gateway(public_url="https://api.example")
    calls = [
        ("GET", "/api/groups"),
        ("GET", "/api/auth/me"),
        ("GET", "/nothing"),
        ("POST", "/api/webhooks/telnyx/status"),
    ]
    for method, path in calls:
        await owner.call(method, path, csrf=False, url=secure.url)
        headers = owner.headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains", path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
        assert (headers["Cross-Origin-Opener-Policy"], headers["Referrer-Policy"]) == ("same-origin", "no-referrer")
        assert headers["Cache-Control"] == "no-store"
        assert headers.getall("Server") == ["koinonia"]
    await owner.call("GET", "/api/groups")
    assert "Strict-Transport-Security" not in owner.headers


async def test_answers_over_a_kibibyte_come_compressed_when_asked(owner: Browser, behind: Behind) -> None:
    for path in ("/api/openapi.json", f"/api/groups?x={'y' * 1500}"):
        for accepted, coding in (("gzip", "gzip"), ("identity", None)):
            status, _ = await owner.call("GET", path, headers={"Accept-Encoding": accepted})
            assert (status, owner.headers.get("Content-Encoding")) == (200, coding)
            assert "Accept-Encoding" in owner.headers["Vary"]
    await owner.call("GET", "/api/auth/me", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in owner.headers
