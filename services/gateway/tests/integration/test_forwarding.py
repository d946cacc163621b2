"""Forwarding over real HTTP to services that answer, misbehave, or are not there."""

import asyncio
import gzip
import io
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from koinonia.api.endpoint import MEBIBYTE
from koinonia.api.members import IMPORT
from koinonia.errors import AuthenticationFailed
from koinonia.security import Keys, verify_identity
from koinonia.security.identity import HEADER
from koinonia.servers.ports import free_ports
from koinonia_gateway import forwarding

from .conftest import Behind, Browser, StartGateway, echo


@pytest.mark.asvs("v5.0.0-8.3.3")
async def test_the_owner_learns_who_calls_and_nothing_else_of_the_client(
    owner: Browser, behind: Behind, keys: Keys
) -> None:
    sent = {"Idempotency-Key": "k1", "X-Request-Id": "abc-1", HEADER: "forged", "X-Evil": "1"}
    status, seen = await owner.call("POST", "/api/groups?x=a%20b", {"name": "Choir"}, headers=sent)
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert (status, seen["method"], seen["path"], seen["size"]) == (200, "POST", "/api/groups?x=a%20b", 17)
    identity = verify_identity(keys, headers[HEADER.lower()], method="POST", path="/api/groups")
    assert (str(identity.church_id), str(identity.principal_id)) == (owner.church_id, owner.admin_id)
    assert (identity.role, identity.request_id, identity.address) == ("owner", "abc-1", "127.0.0.1")
    assert (headers["idempotency-key"], headers["x-request-id"]) == ("k1", "abc-1")
    assert not headers.keys() & {"cookie", "authorization", "x-csrf-token", "x-evil"}
    with pytest.raises(AuthenticationFailed):
        verify_identity(keys, headers[HEADER.lower()], method="DELETE", path="/api/groups")


async def test_the_trace_goes_on_behind_the_gateway(owner: Browser) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    _, seen = await owner.call("GET", "/api/groups", headers={"traceparent": parent})
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["traceparent"].split("-")[1] == parent.split("-")[1]


async def test_an_answers_own_headers_come_back_and_the_hops_do_not(owner: Browser) -> None:
    status, _ = await owner.call("GET", "/api/groups", headers={"X-Request-Id": "abc-2"})
    assert (status, owner.headers["X-Own"], owner.headers.getall("X-Request-Id")) == (200, "kept", ["abc-2"])
    assert "X-Hop" not in owner.headers
    assert len(owner.headers.getall("Date")) == 1


async def test_nothing_is_forwarded_for_a_stranger(browsers: Any, behind: Behind) -> None:
    status, answer = await browsers().call("GET", "/api/groups")
    assert (status, answer["error"]["code"], behind.seen) == (401, "AUTH_ERROR", [])


async def test_an_error_of_the_owner_comes_back_as_it_is(owner: Browser, behind: Behind) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "CONFLICT"}}, status=409, headers={"Retry-After": "3"})

    behind.act = refuse
    assert await owner.call("GET", "/api/groups") == (409, {"error": {"code": "CONFLICT"}})
    assert owner.headers["Retry-After"] == "3"


async def test_a_large_or_compressed_answer_passes_through(owner: Browser, behind: Behind) -> None:
    body = b"x" * 700_000

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(body), 100_000):
            await response.write(body[start : start + 100_000])
        return response

    async def compressed(request: web.Request) -> web.StreamResponse:
        assert "gzip" in request.headers["Accept-Encoding"]
        return web.Response(body=gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})

    behind.act = stream
    assert await owner.call("GET", "/api/groups") == (200, body)
    behind.act = compressed
    assert (await owner.call("GET", "/api/groups"))[1] == b'{"a": 1}'


async def test_an_answer_that_breaks_off_does_not_look_whole(owner: Browser, behind: Behind) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        await cut(request)
        return response

    behind.act = break_off
    with pytest.raises(aiohttp.ClientPayloadError):
        await owner.call("GET", "/api/groups")
    behind.act = echo
    assert (await owner.call("GET", "/api/groups"))[0] == 200


async def test_bodies_beyond_the_limit_are_refused_before_the_owner_sees_them(owner: Browser, behind: Behind) -> None:
    _, token = await owner.call("GET", "/api/csrf-token")
    headers = {"X-CSRF-Token": token["csrfToken"], "Content-Type": "application/json"}

    async def pieces(size: int) -> Any:
        for _ in range(size // 65536):
            yield b" " * 65536

    async with owner.session.post(
        owner.url + "/api/groups", data=io.BytesIO(b"x" * 1_100_000), headers=headers
    ) as response:
        assert response.status == 413
    try:
        async with owner.session.post(owner.url + "/api/groups", data=pieces(1_200_000), headers=headers) as response:
            assert response.status == 413
    except aiohttp.ClientConnectionError:
        pass  # the door was closed while the client was still sending
    assert behind.seen == []
    async with owner.session.post(owner.url + "/api/members/import", data=pieces(3_000_000), headers=headers) as answer:
        assert (answer.status, (await answer.json())["size"]) == (200, 3_000_000 // 65536 * 65536)


async def test_a_body_that_grows_beyond_the_limit_while_it_passes_through_is_413(
    owner: Browser, behind: Behind
) -> None:
    _, token = await owner.call("GET", "/api/csrf-token")
    headers = {"X-CSRF-Token": token["csrfToken"], "Content-Type": "application/json"}
    whole = asyncio.Event()

    async def take(request: web.Request) -> web.StreamResponse:
        answer = await echo(request)
        whole.set()
        return answer

    async def pieces() -> Any:
        for _ in range(IMPORT.body_limit // MEBIBYTE):
            yield b" " * MEBIBYTE
        yield b" "

    behind.act = take
    async with owner.session.post(owner.url + IMPORT.path, data=pieces(), headers=headers) as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert not whole.is_set()
    behind.act = echo
    assert (await owner.call("POST", "/api/groups", {"name": "Choir"}))[0] == 200


async def test_a_dead_replica_is_passed_over_and_none_at_all_is_503(
    start_gateway: StartGateway, owner: Browser, behind: Behind
) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    half = await start_gateway(messaging_url=f"{dead},{behind.url}", delivery_url=dead)
    for _ in range(4):
        assert (await owner.call("POST", "/api/groups", {"name": "x"}, url=half.url))[0] == 200
    status, answer = await owner.call("GET", "/api/numbers", url=half.url)
    assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert "Retry-After" in owner.headers
    assert len(behind.seen) == 4


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize(("method", "calls"), [("GET", 2), ("POST", 1), ("DELETE", 1)])
async def test_only_what_has_no_effect_is_tried_again(owner: Browser, behind: Behind, method: str, calls: int) -> None:
    path = "/api/groups" if method != "DELETE" else f"/api/groups/{owner.church_id}"
    assert (await owner.call("GET", "/api/groups"))[0] == 200  # a connection to be used again
    behind.seen.clear()
    behind.act = cut
    status, answer = await owner.call(method, path, {"name": "x"} if method == "POST" else None)
    assert (status, answer["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert len(behind.seen) == calls


async def test_a_read_that_fails_once_is_served(owner: Browser, behind: Behind) -> None:
    async def once(request: web.Request) -> web.StreamResponse:
        behind.act = echo
        return await cut(request)

    behind.act = once
    assert (await owner.call("GET", "/api/groups"))[0] == 200


async def test_an_owner_that_says_nothing_is_503(
    start_gateway: StartGateway, owner: Browser, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "DEADLINE_SECONDS", 0.3)
    impatient = await start_gateway()
    silence = asyncio.Event()

    async def wait(_request: web.Request) -> web.StreamResponse:
        await silence.wait()
        return web.Response()

    behind.act = wait
    assert (await owner.call("GET", "/api/groups", url=impatient.url))[0] == 503
    assert len(behind.seen) == 1
    silence.set()
