"""The door over real HTTP: who may in, what is refused and how, and what every answer carries."""

import asyncio
import gzip
import json
import time
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from koinonia import metrics
from koinonia.db import statement
from koinonia.errors import KoinoniaError, NotFound
from koinonia.ids import new_id
from koinonia.security.identity import HEADER
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.web_world import CREATE, RAW, Notes
from koinonia.web import Handler, Probe, Raw, Server, build_app, signed_identity

DIVIDE = statement("test.divide", "SELECT 1 / $1::int")
PING = statement("test.ping", "SELECT 1")
HOST = b"Host: x\r\n"


async def error_of(response: aiohttp.ClientResponse) -> Any:
    body = await response.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"code", "message", "details", "requestId"}
    assert body["error"]["requestId"] == response.headers["X-Request-Id"]
    return body["error"]


async def test_a_note_is_made_and_read(notes: Notes) -> None:
    made = await notes.call("POST", "/notes", json={"text": "hello"})
    assert made.status == 201
    note = await made.json()
    read = await notes.call("GET", f"/notes/{note['id']}", role="viewer")
    assert (read.status, await read.json()) == (200, note)


async def test_another_churchs_note_is_unknown(notes: Notes) -> None:
    note = await (await notes.call("POST", "/notes", json={"text": "hello"})).json()
    notes.church_id = new_id()
    answers = [await notes.call("GET", f"/notes/{name}") for name in (note["id"], uuid4(), "7", "%7b7}")]
    errors = [(answer.status, {**(await error_of(answer)), "requestId": ""}) for answer in answers]
    assert errors[0][0] == 404
    assert all(error == errors[0] for error in errors)


@pytest.mark.parametrize("header", [None, "", "a.b", "rubbish", "x" * 10_000])
async def test_without_the_gateways_word_nobody_comes_in(notes: Notes, header: str | None) -> None:
    headers = {} if header is None else {HEADER: header}
    async with notes.session.post(notes.url + "/notes", json={"text": "x"}, headers=headers) as response:
        # aiohttp itself refuses a header line over 8 KiB.
        assert response.status in ({400, 401} if header and len(header) > 8000 else {401})


async def test_an_identity_holds_for_its_method_path_and_time(notes: Notes) -> None:
    path = f"/notes/{uuid4()}"
    for identity in (
        notes.identity("DELETE", path),
        notes.identity("GET", f"/notes/{uuid4()}"),
        notes.identity("GET", path, seconds=-1),
    ):
        async with notes.session.get(notes.url + path, headers={HEADER: identity}) as response:
            assert (response.status, (await error_of(response))["code"]) == (401, "AUTH_ERROR")


async def test_a_role_that_may_not_is_refused(notes: Notes) -> None:
    for role in ("sender", "viewer"):
        response = await notes.call("POST", "/notes", role=role, json={"text": "x"})
        assert (response.status, (await error_of(response))["code"]) == (403, "FORBIDDEN")
    assert await notes.count() == 0


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b'{"text": "\\u0000"}', "text"),
        (b'{"text": "\\ud800"}', "text"),
        (b'{"text": 5}', "text"),
        (b'{"text": "a", "text": "b"}', "body"),
        (b'{"text": ' + b"[" * 100 + b"]" * 100 + b"}", "text"),
        (b"[" * 4000, "body"),
        (b"9" * 4000, "body"),
        (b'{"text": "\xff"}', "body"),
        (b'{"texts": "x"}', "texts"),
    ],
)
async def test_a_rubbish_body_is_answered_400_with_its_field(notes: Notes, raw: bytes, field: str) -> None:
    response = await notes.call("POST", "/notes", data=raw, headers={"Content-Type": "application/json"})
    error = await error_of(response)
    assert (response.status, error["code"]) == (400, "VALIDATION_ERROR")
    assert field in {detail["field"] for detail in error["details"]}


async def test_a_value_that_only_the_database_refuses_is_answered_400(notes: Notes) -> None:
    response = await notes.call("POST", "/notes", json={"text": "x" * 101})
    assert (response.status, (await error_of(response))["code"]) == (400, "VALIDATION_ERROR")


async def test_a_body_over_the_limit_is_answered_413(notes: Notes) -> None:
    async def chunks() -> Any:
        for _ in range(5):
            yield b"x" * 1000

    for path in ("/notes", "/raw"):
        for data in (b"x" * 5000, b"x" * 1_000_000, chunks()):
            response = await notes.call("POST", path, data=data, headers={"Content-Type": "application/json"})
            assert (response.status, (await error_of(response))["code"]) == (413, "PAYLOAD_TOO_LARGE")
            assert (await notes.call("GET", "/alive")).status == 200


async def test_a_body_that_does_not_arrive_is_given_up(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinonia.web.bodies.PATIENCE_SECONDS", 0.1)
    answer = await spoken(notes, b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer
    assert b"Did not arrive in time" in answer


async def test_a_body_that_comes_drop_by_drop_is_given_up(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinonia.web.bodies.PATIENCE_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
    writer.write(b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 5)
    dripping.cancel()
    writer.close()
    assert b"Did not arrive in time" in answer


@pytest.mark.parametrize(
    ("head", "rest"),
    [(b"Content-Length: 100\r\n", b"{"), (b"Transfer-Encoding: chunked\r\n", b"zz\r\n")],
)
async def test_a_body_that_breaks_off_is_the_senders_fault(notes: Notes, head: bytes, rest: bytes) -> None:
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
        writer.write(b"POST /raw HTTP/1.1\r\n" + HOST + head + b"Expect: 100-continue\r\n\r\n")
        await reader.readuntil(b"Continue\r\n\r\n")  # it is being read
        writer.write(rest)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await wait_until(lambda: entries(logs, "request_served"), what="the end of the request")
    assert [entry["status"] for entry in entries(logs, "request_served")] == [400]
    assert not {entry["event"] for entry in logs} & {"request_failed", "dependency_unavailable"}


async def test_a_peer_that_reads_nothing_is_cut_off(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koinonia.web.connections.STALL_SECONDS", 0.2)
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port, limit=1024)
        request = b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 3000\r\n\r\n" + b"x" * 3000
        writer.write(request * 4000)
        await wait_until(lambda: entries(logs, "peer_reads_nothing"), what="the end of patience")
        with pytest.raises(ConnectionError):
            while await asyncio.wait_for(reader.read(65536), 5):
                pass
        writer.close()
    assert (await notes.call("GET", "/alive")).status == 200


def entries(logs: Any, event: str) -> list[Any]:
    return [entry for entry in logs if entry["event"] == event]


async def spoken(notes: Notes, raw: bytes) -> bytes:
    """All that is answered to these bytes, until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"POST /raw HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /alive HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
        b"GET /alive HTTP/1.1\r\n" + HOST + b"X-Request-Id: a\x00b\r\n\r\n",
        b"GET /alive HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET /alive\r\n" + HOST + b"\r\n",
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01\x02\x00rubbish\r\n\r\n",
    ],
)
async def test_broken_http_is_refused_as_anything_else_is(notes: Notes, raw: bytes) -> None:
    with capture_logs() as logs:
        head, _, body = (await spoken(notes, raw)).partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.split(b" ")[1] == b"400"
    assert (error["code"], [detail["field"] for detail in error["details"]]) == ("VALIDATION_ERROR", ["request"])
    assert f"X-Request-Id: {error['requestId']}".encode() in head
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("request_refused", "info")]


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (b"User-Agent: \xe9", "User-Agent"),
        (b"Idempotency-Key: a\xe9", "Idempotency-Key"),
        (b"Expect: the-unexpected", "Expect"),
        (b"Expect: \xe9", "Expect"),
        (b"Transfer-Encoding: gzip, chunked", "Transfer-Encoding"),
        (b"Transfer-Encoding: identity, chunked", "Transfer-Encoding"),
    ],
)
async def test_a_header_that_can_be_read_in_two_ways_is_refused_by_name(
    notes: Notes, header: bytes, field: str
) -> None:
    raw = b"POST /raw HTTP/1.1\r\n" + HOST + b"X-Request-Id: abc\r\n" + header + b"\r\n\r\n"
    head, _, body = (await spoken(notes, raw)).partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.split(b" ")[1] == b"400"
    assert [detail["field"] for detail in error["details"]] == [field]
    assert (error["requestId"], b"X-Request-Id: abc" in head) == ("abc", True)


async def test_chunks_are_not_taken_from_the_http_that_does_not_know_them(notes: Notes) -> None:
    raw = b"POST /raw HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    answer = await spoken(notes, raw)
    assert b" 400 " in answer
    assert b"Transfer-Encoding" in answer


@pytest.mark.parametrize("path", ["/notes/%ff", "/notes/%ed%a0%80", "/%ff", "/notes/%2e%2e%2f", "/notes/" + "x" * 5000])
async def test_a_rubbish_path_is_unknown(notes: Notes, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
    identity = notes.identity("GET", unquote(path, errors="surrogateescape").encode(errors="replace").decode())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{HEADER}: {identity}\r\n\r\n".encode())
    status = (await asyncio.wait_for(reader.readline(), 5)).split(b" ")
    writer.close()
    await writer.wait_closed()
    assert status[1] in {b"400", b"401", b"404"}


async def test_a_compressed_body_is_refused(notes: Notes) -> None:
    bomb = gzip.compress(b" " * 10_000_000)[:3000]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = await notes.call("POST", "/notes", data=bomb, headers=headers)
    assert response.status == 400


async def test_unknown_paths_and_methods_are_answered_in_the_same_shape(notes: Notes) -> None:
    unknown = await notes.call("GET", "/nothing")
    assert (unknown.status, (await error_of(unknown))["code"]) == (404, "NOT_FOUND")
    wrong = await notes.call("PATCH", "/notes")
    assert (wrong.status, (await error_of(wrong))["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "POST"


async def test_a_bug_shows_no_trace(notes: Notes) -> None:
    async def fail() -> None:
        raise RuntimeError("the secret of the house")

    notes.trouble = fail
    with capture_logs() as logs:
        response = await notes.call("POST", "/notes", json={"text": "x"})
    assert (response.status, (await error_of(response))["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in await response.text()
    assert "request_failed" in {entry["event"] for entry in logs}
    assert await notes.count() == 0


@pytest.mark.parametrize(
    ("error", "told"), [(KoinoniaError("half done"), ["request_failed"]), (NotFound("not that one"), [])]
)
async def test_an_error_of_ours_is_logged_with_its_trace_and_one_of_the_clients_is_not(
    notes: Notes, error: KoinoniaError, told: list[str]
) -> None:
    async def fail() -> None:
        raise error

    notes.trouble = fail
    with capture_logs() as logs:
        response = await notes.call("POST", "/notes", json={"text": "x"})
    assert response.status == error.status
    failures = [entry for entry in logs if entry["event"] != "request_served"]
    assert [entry["event"] for entry in failures] == told
    for entry in failures:
        assert (entry["error"], entry["message"], entry["exc_info"]) == ("KoinoniaError", "half done", error)


async def test_a_pool_that_is_exhausted_is_answered_503_with_a_time_to_wait(notes: Notes) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(notes.database.tenant(notes.church_id))
        with capture_logs() as logs:
            response = await notes.call("GET", f"/notes/{uuid4()}")
    assert (response.status, (await error_of(response))["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) >= 1
    (told,) = (entry for entry in logs if entry["event"] == "dependency_unavailable")
    assert (told["log_level"], told["error"]) == ("warning", "DependencyUnavailable")
    assert "became free" in told["message"]
    assert "exc_info" not in told


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", True),
        ("a b", False),
        ("x" * 129, False),
        ("", False),
        ("13125550142", False),
        ("to-312-555-0142", False),
    ],
)
async def test_a_sane_request_id_is_kept(notes: Notes, given: str, kept: bool) -> None:
    response = await notes.call("GET", "/alive", headers={"X-Request-Id": given})
    assert (response.headers["X-Request-Id"] == given) is kept
    assert response.headers["X-Request-Id"]


async def test_every_answer_carries_the_security_headers(notes: Notes) -> None:
    for path in ("/alive", "/nothing", f"/notes/{uuid4()}", "/metrics"):
        headers = (await notes.call("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_answers_over_a_kibibyte_are_compressed_when_asked(notes: Notes) -> None:
    raw = json.dumps({"x": "y" * 2000}).encode()
    for accepted, compressed in (("gzip, br", True), ("identity", False), ("gzip;q=0", False)):
        response = await notes.call("GET", "/metrics", headers={"Accept-Encoding": accepted})
        assert (response.headers.get("Content-Encoding") == "gzip") is compressed
        assert response.headers["Vary"] == "Accept-Encoding"
    small = await notes.call("GET", "/alive", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers
    assert (await notes.call("POST", "/raw", data=raw)).status == 200


async def test_a_request_is_logged_with_its_statements(notes: Notes) -> None:
    with capture_logs() as logs:
        await notes.call("POST", "/notes", json={"text": "Anna +13125550142"})
    line = next(entry for entry in logs if entry["event"] == "request_served")
    assert (line["route"], line["status"], line["statements"]) == ("/notes", 201, 1)
    assert line["database_milliseconds"] > 0
    assert line["church_id"] == str(notes.church_id)
    assert "Anna" not in str(logs)
    assert "5550142" not in str(logs)


async def test_a_statement_per_row_is_warned_of(notes: Notes) -> None:
    async def loop() -> None:
        async with notes.database.tenant(notes.church_id) as tx:
            for _ in range(11):
                await tx.fetch_value(PING)

    notes.trouble = loop
    with capture_logs() as logs:
        await notes.call("POST", "/notes", json={"text": "x"})
    warning = next(entry for entry in logs if entry["event"] == "statement_repeated")
    assert (warning["statement"], warning["count"]) == ("test.ping", 11)


class Recorded(list[float]):
    """Takes the place of a histogram."""

    def record(self, seconds: float, _labels: object) -> None:
        self.append(seconds)


async def test_a_stream_counts_until_it_begins_however_long_it_is_watched(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, until_begun = Recorded(), 0.0
    monkeypatch.setattr(metrics, "request_seconds", recorded)

    async def stream(request: web.Request, _caller: object) -> web.StreamResponse:
        nonlocal until_begun
        entered = time.perf_counter()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        until_begun = time.perf_counter() - started
        while time.perf_counter() - entered <= until_begun:  # noqa: ASYNC110 - time itself is waited for
            await asyncio.sleep(0)
        return response

    app = build_app({RAW: Raw(stream)}, identify=signed_identity(keys), probe=Probe(service="notes"))
    server = await Server.start(app, "127.0.0.1", 0)
    started = time.perf_counter()
    async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{server.port}/raw") as response:
        await response.read()
    await server.stop()
    (seconds,) = recorded
    assert 0 < seconds < until_begun


async def test_a_handler_may_have_a_time_limit_of_its_own(notes: Notes, keys: Keys) -> None:
    async def linger() -> None:
        await asyncio.Event().wait()

    notes.trouble = linger
    handler = Handler(notes.create, rebuild=notes.view, timeout_seconds=0.1)
    app = build_app(
        {CREATE: handler},
        identify=signed_identity(keys),
        probe=Probe(service="notes", database=notes.database),
        database=notes.database,
    )
    server = await Server.start(app, "127.0.0.1", 0)
    notes.url = f"http://127.0.0.1:{server.port}"
    async with asyncio.timeout(5):  # the database's own limit is ten
        response = await notes.call("POST", "/notes", json={"text": "x"})
    await server.stop()
    assert (response.status, (await error_of(response))["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
    assert await notes.count() == 0


async def test_health_says_how_the_service_is(notes: Notes) -> None:
    health = await (await notes.call("GET", "/health")).json()
    assert health["status"] == "ok"
    assert {"database", "uptime", "environment"} <= health["checks"].keys()
    assert isinstance(health["responseTime"], float)
    for path in ("/health/detailed", "/health/database", "/ready", "/alive"):
        assert (await notes.call("GET", path)).status == 200
    database = await (await notes.call("GET", "/health/database")).json()
    assert (database["check"]["status"], database["pool"]["limit"]) == ("ok", 4)


async def test_a_slow_request_is_finished_while_the_server_drains(notes: Notes) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        began.set()
        await go.wait()

    notes.trouble = hold
    request = asyncio.create_task(notes.call("POST", "/notes", json={"text": "x"}))
    await began.wait()
    stopping = asyncio.create_task(notes.server.stop(10))
    await asyncio.sleep(0)
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as stranger:
            await stranger.get(notes.url + "/alive")
    go.set()
    response = await request
    assert (response.status, response.headers["Connection"]) == (201, "close")
    await stopping
