"""The door over real HTTP: who may in, what is refused and how, and what every answer carries."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from koinonia import metrics, telemetry
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog
from koinonia.errors import KoinoniaError, NotFound, RateLimited
from koinonia.ids import new_id
from koinonia.security.identity import HEADER
from koinonia.security.keys import Keys
from koinonia.testing.fixtures import wait_until
from koinonia.testing.web_world import CREATE, RAW, Notes
from koinonia.web import (
    EXTRA_HEADERS,
    Handler,
    Probe,
    Raw,
    Server,
    build_app,
    build_operators_app,
    deadlines,
    read_body,
    signed_identity,
)
from koinonia.web.database_figures import look_up

DIVIDE = statement("test.divide", "SELECT 1 / $1::int")
PING = statement("test.ping", "SELECT 1")
SLEEP = statement("test.health_sleep", "SELECT pg_sleep(0.2)")
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


@pytest.mark.asvs("v5.0.0-8.4.1")
async def test_another_churchs_note_is_unknown(notes: Notes) -> None:
    note = await (await notes.call("POST", "/notes", json={"text": "hello"})).json()
    notes.church_id = new_id()
    answers = [await notes.call("GET", f"/notes/{name}") for name in (note["id"], uuid4(), "7", "%7b7}")]
    errors = [(answer.status, {**(await error_of(answer)), "requestId": ""}) for answer in answers]
    assert errors[0][0] == 404
    assert all(error == errors[0] for error in errors)


@pytest.mark.parametrize("header", [None, "", "a.b", "rubbish", "x" * 10_000])
@pytest.mark.asvs("v5.0.0-8.3.3")
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


@pytest.mark.asvs("v5.0.0-2.3.3")
async def test_work_whose_deadline_is_over_is_refused_and_what_it_did_taken_back(notes: Notes) -> None:
    async def last() -> None:
        await asyncio.sleep(5)

    notes.trouble = last
    for left in ("0", "100"):
        response = await notes.call("POST", "/notes", json={"text": "x"}, headers={deadlines.HEADER: left})
        assert (response.status, (await response.json())["error"]["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
        assert response.headers["Retry-After"] == "2"
    notes.trouble = None
    assert await notes.count() == 0
    for left in ("30000", "soon", "-1", "9" * 400):
        response = await notes.call("POST", "/notes", json={"text": "x"}, headers={deadlines.HEADER: left})
        assert response.status == 201


async def test_a_request_whose_deadline_is_over_asks_nothing_of_the_database(
    notes: Notes, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    with count_statements() as counted:
        assert (await notes.call("GET", f"/notes/{uuid4()}", headers={deadlines.HEADER: "0"})).status == 503
    assert counted.count == 0


@pytest.mark.parametrize("identity", [{}, {HEADER: "not signed by us"}])
async def test_a_deadline_is_believed_from_services_of_ours_alone(notes: Notes, identity: dict[str, str]) -> None:
    headers = {deadlines.HEADER: "0", **identity}
    async with notes.session.get(f"{notes.url}/notes/{uuid4()}", headers=headers) as response:
        assert (response.status, (await error_of(response))["code"]) == (401, "AUTH_ERROR")


async def test_health_says_how_the_service_is(notes: Notes) -> None:
    health = await (await notes.call("GET", "/health")).json()
    assert health["status"] == "ok"
    assert {"database", "uptime", "environment"} <= health["checks"].keys()
    assert isinstance(health["responseTime"], float)
    for path in ("/health/detailed", "/health/database", "/ready", "/alive"):
        assert (await notes.call("GET", path)).status == 200


async def test_the_databases_health_has_figures(notes: Notes) -> None:
    async with notes.database.tenant(notes.church_id) as tx:
        await tx.fetch_value(SLEEP)
    for _ in range(30):
        note = await (await notes.call("POST", "/notes", json={"text": "x"})).json()
        assert (await notes.call("DELETE", f"/notes/{note['id']}")).status == 204
    async with notes.database.tenant(notes.church_id):  # a session that does nothing in its transaction
        found = await (await notes.call("GET", "/health/database")).json()
    assert (found["check"]["status"], found["pool"]["limit"]) == ("ok", 4)
    slow = {each["statement"]: each for each in found["slowStatements"]}["test.health_sleep"]
    assert (slow["calls"], slow["longestMs"] >= 200, slow["meanMs"]) == (1, True, slow["longestMs"])
    connections = found["figures"]["connections"]
    assert connections["limit"] > connections["everybody"] >= connections["own"] >= 2
    assert connections["ownActive"] >= 1  # who asks
    assert connections["ownIdleInTransaction"] >= 1
    assert 0 < found["figures"]["cacheHitRatio"] <= 1

    async def bloated() -> bool:  # the server's statistics lag a second behind
        tables = {each.table: each for each in (await look_up(notes.database, timeout_seconds=5)).bloat}
        return "notes" in tables and tables["notes"].dead_rows >= 30 and 0 < tables["notes"].dead_share <= 1

    await wait_until(bloated)


async def test_without_a_database_its_health_is_down(notes: Notes) -> None:
    stopped = await Database.open("postgresql://nobody@127.0.0.1:1/nothing", "messaging", acquire_timeout_seconds=0.2)
    server = await Server.start(build_operators_app(Probe(service="test", database=stopped)), "127.0.0.1", 0)
    async with notes.session.get(f"http://127.0.0.1:{server.port}/health/database") as response:
        found = await response.json()
    assert (response.status, found["check"]["status"], found["figures"]) == (503, "down", None)
    await server.stop(0.2)
    await stopped.close()


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


class Express:
    """What a raw handler answers to, the short way or the long one, on a server of its own."""

    def __init__(self, *, express: bool) -> None:
        self.correlation: list[str | None] = []
        self._raw = Raw(self.answer, express=express)

    async def answer(self, request: web.Request, _caller: object) -> web.StreamResponse:
        self.correlation.append(telemetry.correlation_id())
        body = await read_body(request, RAW.body_limit)
        if body == b"missing":
            raise NotFound
        if body == b"slow down":
            request[EXTRA_HEADERS]["RateLimit"] = "x"
            raise RateLimited(retry_after_seconds=7)
        if body == b"broken":
            raise RuntimeError("a secret")
        return web.Response(body=body, content_type="application/octet-stream")

    async def start(self) -> Server:
        async def nobody(*_: object) -> None:
            return None

        app = build_app({RAW: self._raw}, identify=nobody, probe=Probe(service="x"), https=True)
        return await Server.start(app, "127.0.0.1", 0)


async def test_the_short_way_answers_as_the_long_one_does_but_logs_failures_only() -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1000):
            yield b"x" * 1000
            await asyncio.sleep(0)

    async def ask(session: aiohttp.ClientSession, server: Server, **how: Any) -> tuple[int, dict[str, str], bytes]:
        method, path = how.pop("method", "POST"), how.pop("path", "/raw")
        url = f"http://127.0.0.1:{server.port}{path}"
        async with session.request(
            method, url, headers={"X-Request-Id": "asked", **how.pop("headers", {})}, **how
        ) as a:
            return a.status, {name: value for name, value in a.headers.items() if name != "Date"}, await a.read()

    async def story(*, express: bool) -> tuple[list[tuple[int, dict[str, str], bytes]], list[Any], list[str | None]]:
        own = Express(express=express)
        server = await own.start()
        with capture_logs() as logs:
            async with aiohttp.ClientSession() as session:
                told = [
                    await ask(session, server, data=b"hello"),
                    await ask(session, server, data=b""),
                    await ask(session, server, data=pieces(3000)),
                    await ask(session, server, data=b"hello", path="/raw?d=token"),
                    await ask(session, server, data=b"missing"),
                    await ask(session, server, data=b"slow down"),
                    await ask(session, server, data=b"broken"),
                    await ask(session, server, data=b"x" * 5000),
                    await ask(session, server, data=pieces(6000)),
                    await ask(session, server, data=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"}),
                    await ask(session, server, method="GET"),
                    await ask(session, server, data=b"hello", path="/raw/"),
                    await ask(session, server, data=b"hello", headers={"Expect": "the-unexpected"}),
                ]
        await server.stop(0.2)
        return told, [each["status"] for each in entries(logs, "request_served")], own.correlation

    (short, short_logged, correlated), (long, long_logged, _) = [await story(express=way) for way in (True, False)]
    assert short == long
    statuses = [status for status, _, _ in long]
    assert statuses == [200, 200, 200, 200, 404, 429, 500, 413, 413, 400, 405, 404, 400]
    assert long_logged == statuses[:-1]  # the last is refused before any way
    assert short_logged == [status for status in statuses[:-1] if status != 200]
    assert set(correlated) == {"asked"}
    assert short[5][1]["RateLimit"] == "x"


async def test_while_traces_are_exported_the_short_way_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "is_tracing", lambda: True)
    server = await Express(express=True).start()
    with capture_logs() as logs:
        async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{server.port}/raw") as answer:
            assert answer.status == 200
    await server.stop(0.2)
    assert len(entries(logs, "request_served")) == 1


async def test_a_stopping_server_waits_for_who_is_on_the_short_way_and_tells_it_to_leave() -> None:
    async with AsyncExitStack() as stack:
        server = await Express(express=True).start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        stack.callback(writer.close)
        writer.write(b"POST /raw HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhel")
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(server.stop(5.0, idle_seconds=0.0))
        await asyncio.sleep(0.1)
        writer.write(b"lo")
        answer = await reader.read()
        await stopping
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
    assert answer.endswith(b"hello")


async def test_a_body_in_chunks_that_comes_whole_is_bounded_like_any_other() -> None:
    server = await Express(express=True).start()
    for size, status in ((RAW.body_limit, b"200"), (RAW.body_limit + 1, b"413")):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"POST /raw HTTP/1.1\r\n" + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")
        assert (await reader.read())[9:12] == status
        writer.close()
    await server.stop(0.2)
