"""Bytes that no client sends: refused in the platform's own words, in bounded time and memory, never half believed."""

import asyncio
import gzip
import secrets
import socket
import struct
import zlib
from collections import Counter
from contextlib import suppress

import msgspec
import pytest

from koinonia.security.identity import HEADER as IDENTITY
from koinonia.testing.fixtures import wait_until

from .church import Church, people
from .platform import Platform
from .raw import MEBIBYTE, PATIENCE_SECONDS, Reply, connect, flat_memory, open_files_of, replies, speak
from .verdict import failed_requests, requests_with, still_works

JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GROUP = b'{"name": "Choir"}'
CHUNKS = b"11\r\n" + GROUP + b"\r\n0\r\n\r\n"

# Heads that are no HTTP, or another thing to another reader.
BROKEN_LINES = {
    "an unknown method": b"FROB /api/groups HTTP/1.1",
    "a small method": b"get /api/groups HTTP/1.1",
    "HTTP/1.2": b"GET /api/groups HTTP/1.2",
    "HTTP/3.0": b"GET /api/groups HTTP/3.0",
    "HTTP/2's preface": b"PRI * HTTP/2.0",
    "a host as target": b"GET elsewhere.example:80 HTTP/1.1",
    "an unclosed address": b"GET http://[/api/groups HTTP/1.1",
    "an impossible port": b"GET http://x:99999999/api/groups HTTP/1.1",
    "no target": b"GET  HTTP/1.1",
    "a relative target": b"GET api/groups HTTP/1.1",
    "only a query": b"GET ? HTTP/1.1",
    "NUL in the path": b"GET /api/groups\x00 HTTP/1.1",
    "bytes in the path": b"GET /api/gr\xffups HTTP/1.1",
    "bytes in the query": b"GET /api/members?search=\xff HTTP/1.1",
    "a space in the path": b"GET /api/ groups HTTP/1.1",
    "a long line": b"GET /api/groups?" + b"a" * 100_000 + b" HTTP/1.1",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "every byte": bytes(range(256)),
}
BROKEN_HEADERS = {
    "NUL in a value": b"X-A: a\x00b",
    "CR in a value": b"X-A: a\rX-B: b",
    "LF after a value": b"X-A: a\nX-B: b",
    "a folded value": b"X-A: a\r\n b",
    "a control in a value": b"X-A: \x0b",
    "a space after a name": b"X-A : a",
    "a name alone": b"X-A",
    "no name": b": a",
    "bytes in a name": b"X-\xe9: a",
    "a control in a name": b"X-\x01: a",
    "a second Host": b"Host: y",
    "many headers": b"\r\n".join(b"X-%d: a" % number for number in range(200)),
    "a long header": b"X-A: " + b"a" * 100_000,
    "an endless header": b"X-A: " + b"a" * 3 * MEBIBYTE,
    "two lengths": b"Content-Length: 0\r\nContent-Length: 17",
    "the same length twice": b"Content-Length: 0\r\nContent-Length: 0",
    "a list of lengths": b"Content-Length: 0, 0",
    "a length with a sign": b"Content-Length: +0",
    "a length below nothing": b"Content-Length: -1",
    "a length with a space": b"Content-Length: 1 7",
    "a length in hex": b"Content-Length: 0x11",
    "an empty length": b"Content-Length: ",
    "a length in Arabic digits": b"Content-Length: \xd9\xa1",
    "a length beyond counting": b"Content-Length: " + b"9" * 5000,
    "a length of 70 bits": b"Content-Length: " + str(2**70).encode(),
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "almost chunked": b"Transfer-Encoding: xchunked",
    "chunked in quotes": b'Transfer-Encoding: "chunked"',
    "chunked, then not": b"Transfer-Encoding: chunked, identity",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked, then another": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "chunked after a control": b"Transfer-Encoding: \x0bchunked",
    "chunked after a spaced name": b"Transfer-Encoding : chunked",
    "chunks of nothing": b"Transfer-Encoding: ",
}
BROKEN_CHUNKS = {
    "a size that is no number": b"zz\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size with 0x": b"0x11\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size with a sign": b"+11\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size below nothing": b"-11\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size with a dash below": b"1_1\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "an empty size": b"\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size beyond counting": b"f" * 40 + b"\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a size that is too small": b"10\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "lines that end in LF": b"11\n" + GROUP + b"\n0\n\n",
    "LF in an extension": b"11;a\n=b\r\n" + GROUP + b"\r\n0\r\n\r\n",
    "a length after it": b"11\r\n" + GROUP + b"\r\n0\r\nContent-Length: 3\r\n\r\n",
    "too much after it": b"11\r\n"
    + GROUP
    + b"\r\n0\r\n"
    + b"".join(b"X-%d: a\r\n" % number for number in range(20_000))
    + b"\r\n",
}
DISTRUSTED = {
    "User-Agent": b"\xff\xfe",
    "Accept": b"\xe9",
    "Content-Type": b"application/json\xe9",
    "Idempotency-Key": b"a\xe9",
    "X-Request-Id": b"a\xe9",
    "X-CSRF-Token": b"\xe9",
    "Cookie": b"accessToken=\xe9",
    "traceparent": b"\xe9",
    "X-Forwarded-For": b"\xe9",
    "Expect": b"the-unexpected",
    "Transfer-Encoding": b"gzip, chunked",
}
LIMITS = {
    b"/api/groups": MEBIBYTE,
    b"/api/members/import": 16 * MEBIBYTE,
    b"/api/webhooks/telnyx/status": MEBIBYTE // 4,
}


class Speaker:
    """Says things to the gateway with a church's key, and keeps a second request ready to be smuggled behind any."""

    def __init__(self, church: Church, key: str) -> None:
        self.church = church
        self.url = church.platform.url
        self.credentials = f"Host: x\r\nAuthorization: Bearer {key}\r\n".encode()
        self.host = self.credentials + b"Connection: close\r\n"
        self._smuggled = 0

    def smuggled(self) -> bytes:
        """A request that would be served, and be found in a log, if anybody took it for one."""
        self._smuggled += 1
        name = f"X-Request-Id: smuggled-{self._smuggled}\r\n".encode()
        return b"GET /api/groups HTTP/1.1\r\n" + self.credentials + name + b"\r\n"

    def post(self, headers: bytes, body: bytes, path: bytes = b"/api/groups") -> bytes:
        return b"POST " + path + b" HTTP/1.1\r\n" + self.host + JSON + headers + b"\r\n" + body

    def get(self, headers: bytes = b"", path: bytes = b"/api/groups") -> bytes:
        return b"GET " + path + b" HTTP/1.1\r\n" + self.host + headers + b"\r\n"

    async def say(self, raw: bytes) -> list[Reply]:
        return await speak(self.url, raw)

    async def ask(self, raw: bytes) -> Reply:
        """For what has one answer."""
        (reply,) = await self.say(raw)
        return reply


@pytest.fixture
async def speaker(church: Church) -> Speaker:
    return Speaker(church, await church.api_key())


def is_refusal(reply: Reply, *fields: str) -> bool:
    """Whether it is the contract's answer to an invalid request, naming these, and tells nothing of what was sent."""
    error = reply.error
    return (
        reply.status == 400
        and error["code"] == "VALIDATION_ERROR"
        and error["requestId"] == reply.headers["x-request-id"]
        and reply.headers["content-type"] == "application/json"
        and (reply.fields == list(fields) or not fields)
        and b"Bearer" not in reply.body
    )


@pytest.mark.asvs("v5.0.0-4.2.1")
async def test_what_is_no_http_is_refused_and_nothing_behind_it_is_served(speaker: Speaker) -> None:
    host, second = speaker.host, speaker.smuggled
    said = {name: line + b"\r\n" + host + b"\r\n" + second() for name, line in BROKEN_LINES.items()}
    said |= {name: speaker.post(line + b"\r\n", b"0\r\n\r\n" + second()) for name, line in BROKEN_HEADERS.items()}
    said |= {name: speaker.post(CHUNKED, chunks + second()) for name, chunks in BROKEN_CHUNKS.items()}
    whole = speaker.get() + second()
    said |= {
        "no Host": b"GET /api/groups HTTP/1.1\r\n" + host.partition(b"\r\n")[2] + b"\r\n" + second(),
        "lines that end in LF": whole.replace(b"\r\n", b"\n"),
        "lines that end in CR": whole.replace(b"\r\n", b"\r"),
        "HTTP/0.9": b"GET /api/groups\r\n" + b"X-Request-Id: smuggled-0\r\n" + host + b"\r\n",
        "more after the last": speaker.get(b"Content-Length: 5\r\n") + second(),
        "chunks in HTTP/1.0": speaker.post(CHUNKED, CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0") + second(),
        "another coding of chunks": speaker.post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS) + second(),
    }
    async with flat_memory(speaker.church.platform, mebibytes=48):
        answers = await asyncio.gather(*(speaker.say(raw) for raw in said.values()))
    wrong = {name: found for name, found in zip(said, answers, strict=True) if not (found and is_refusal(found[0]))}
    assert wrong == {}
    assert {name: found for name, found in zip(said, answers, strict=True) if len(found) > 1} == {}
    await nothing_was_smuggled(speaker)
    await still_works(speaker.church)


async def nothing_was_smuggled(speaker: Speaker) -> None:
    """No log knows one; that a log knows of a request is shown by one that was really sent, twice on a connection."""
    name = f"seen-{secrets.token_hex(4)}"
    first = b"GET /api/groups HTTP/1.1\r\n" + speaker.credentials + f"X-Request-Id: {name}-1\r\n\r\n".encode()
    both = first + speaker.get(f"X-Request-Id: {name}-2\r\n".encode())
    assert [reply.status for reply in await speaker.say(both)] == [200, 200]
    platform = speaker.church.platform

    def are_seen() -> bool:
        return sorted(requests_with(platform, name)) == [f"{name}-1"] * 2 + [f"{name}-2"] * 2

    await wait_until(are_seen, what="gateway's and messaging's word on both")
    assert list(requests_with(platform, "smuggled-")) == []
    assert failed_requests(platform) == []


@pytest.mark.asvs("v5.0.0-4.2.1")
async def test_a_request_inside_a_body_stays_a_body(speaker: Speaker) -> None:
    inner = speaker.smuggled()
    length = f"Content-Length: {len(inner)}\r\n".encode()
    paths = [b"/api/groups", b"/api/members/import", b"/api/webhooks/telnyx/status", b"/api/nothing", b"/alive"]
    told = [await speaker.ask(speaker.post(length, inner, path)) for path in paths]
    assert [reply.status for reply in told] == [400, 400, 401, 404, 405]
    assert (await speaker.ask(speaker.get(length) + inner)).status == 200
    for protocol in (b"h2c", b"websocket"):
        head = b"GET /api/groups HTTP/1.1\r\n" + speaker.credentials + b"Upgrade: " + protocol
        upgrade = head + b"\r\nConnection: Upgrade, close\r\n" + length + b"\r\n" + inner
        assert (await speaker.ask(upgrade)).status == 200  # nothing is upgraded
    for name in ("CONNECT 127.0.0.1:1", "OPTIONS *", "TRACE /api/groups", "PROPFIND /api/groups"):
        reply = await speaker.ask(f"{name} HTTP/1.1\r\n".encode() + speaker.host + length + b"\r\n" + inner)
        assert (name, reply.status in {404, 405}, reply.error["requestId"]) == (
            name,
            True,
            reply.headers["x-request-id"],
        )
    await nothing_was_smuggled(speaker)


async def test_a_header_that_is_not_to_be_trusted_is_refused_by_name(speaker: Speaker) -> None:
    for name, value in DISTRUSTED.items():
        reply = await speaker.ask(speaker.get(name.encode() + b": " + value + b"\r\n"))
        assert is_refusal(reply, name), f"{name}: {reply}"
    login = b"POST /api/auth/register HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\r\n" + JSON
    assert is_refusal(await speaker.ask(login + b"Content-Length: 2\r\n\r\n{}"), "User-Agent")
    assert failed_requests(speaker.church.platform) == []


@pytest.mark.asvs("v5.0.0-4.1.3")
async def test_who_calls_is_never_what_a_header_says(speaker: Speaker) -> None:
    identity = IDENTITY.encode()
    nobody = b"GET /api/groups HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for value in (b"x", b"eyJhbGciOiJub25lIn0.e30.", b"a.b.c"):
        assert (await speaker.ask(nobody + identity + b": " + value + b"\r\n\r\n")).status == 401
        assert (await speaker.ask(speaker.get(identity + b": " + value + b"\r\n"))).status == 200
    hops = (
        b"Connection: Authorization, " + identity + b"\r\nProxy-Authorization: x\r\nTE: trailers\r\nKeep-Alive: 5\r\n"
    )
    assert (await speaker.ask(speaker.get(hops))).status == 200
    for target in (b"http://elsewhere.example/api/groups", b"http://127.0.0.1:1/api/groups", b"/api/groups#x"):
        assert (await speaker.ask(speaker.get(path=target))).status == 200
    for hidden in (b"/api/members/..%2f..%2fmetrics", b"/api/..%2fmetrics", b"/api/../metrics", b"//x/api/groups"):
        assert (hidden, (await speaker.ask(speaker.get(path=hidden))).status) == (hidden, 404)
    for odd in (b"/api%2fgroups", b"/api/groups%00", b"/api/groups/%00", b"/api/members/%ff", b"/metrics"):
        assert (odd, (await speaker.ask(speaker.get(path=odd))).status) == (odd, 404)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a.b:c-1_D", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("é", False), ("", False)],
)
async def test_a_request_id_is_kept_when_it_is_sane(speaker: Speaker, sent: str, kept: bool) -> None:
    reply = await speaker.ask(speaker.get(f"X-Request-Id: {sent}\r\n".encode()))
    given = reply.headers["x-request-id"]
    assert (given == sent) is kept
    assert given.isascii()
    assert 0 < len(given) <= 128
    assert all(character.isalnum() or character in "._:-" for character in given)


async def test_a_body_beyond_its_limit_or_compressed_is_refused_in_flat_memory(speaker: Speaker) -> None:
    said = {f"{path!r} {what}": raw for path in LIMITS for what, raw in too_much(speaker, path).items()}
    said |= {f"{path!r} {what}": raw for path in LIMITS for what, raw in bombs(speaker, path).items()}
    async with flat_memory(speaker.church.platform, mebibytes=128):
        answers = dict(zip(said, await asyncio.gather(*(speaker.ask(raw) for raw in said.values())), strict=True))
        for raw in bombs(speaker, b"/api/nothing").values():
            assert (await speaker.ask(raw)).status == 404
    too_large = {what for what, reply in answers.items() if reply.status == 413}
    assert too_large == {what for what in said if "bytes" in what}
    packed = {what for what, reply in answers.items() if reply.status == 400 and is_refusal(reply, "Content-Encoding")}
    assert packed == {what for what in said if "packed" in what}
    assert failed_requests(speaker.church.platform) == []


def too_much(speaker: Speaker, path: bytes) -> dict[str, bytes]:
    """Bodies of a byte more than a path takes: announced, sent, and sent in chunks of unknown number."""
    size = LIMITS[path] + 1
    chunks = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    return {
        "announced bytes": speaker.post(f"Content-Length: {2**62}\r\n".encode(), b"{", path),
        "bytes": speaker.post(f"Content-Length: {size}\r\n".encode(), b" " * size, path),
        "bytes in chunks": speaker.post(CHUNKED, chunks * (LIMITS[path] // 0x8000) + b"1\r\n \r\n0\r\n\r\n", path),
    }


def bombs(speaker: Speaker, path: bytes) -> dict[str, bytes]:
    """A hundred and more mebibytes of spaces, in a body that is small enough for every path."""
    packer = zlib.compressobj(9)
    spaces = b" " * MEBIBYTE
    bodies = {
        b"deflate": b"".join(packer.compress(spaces) for _ in range(200)) + packer.flush(),
        b"gzip": gzip.compress(spaces) * 200,
        b"br": b"\x0b" * 1000,
    }
    return {
        f"packed by {coding.decode()}": speaker.post(
            b"Content-Encoding: %s\r\nContent-Length: %d\r\n" % (coding, len(body)), body, path
        )
        for coding, body in bodies.items()
    }


@pytest.mark.timeout(240)
async def test_peers_that_take_their_time_hold_up_nobody_and_are_cut_off(speaker: Speaker) -> None:
    platform = speaker.church.platform
    gateway = platform.door
    length = b"Content-Length: 1000\r\n"
    slow = {
        b"": 50,
        b"\r\n": 50,
        b"GET /api/groups HTTP/1.1\r\nX-A: ": 200,
        speaker.post(length, b"", b"/api/webhooks/telnyx/mms"): 50,
        speaker.post(length, b""): 50,
        # One for each connection that the gateway keeps to a service for short requests, and some that wait for one.
        speaker.post(length, b"", b"/api/members/import"): 240,
    }
    deaf = 20
    before = open_files_of(gateway)
    async with flat_memory(platform, mebibytes=96), asyncio.TaskGroup() as peers:
        dripping = [peers.create_task(drip(speaker.url, start)) for start, count in slow.items() for _ in range(count)]
        unread = [await connect(speaker.url, limit=1024) for _ in range(deaf)]
        for _, writer in unread:
            writer.write(b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        served = [*slow.values(), deaf]
        await wait_until(lambda: open_files_of(gateway) >= sum(served), seconds=30, what="all connections")
        rows = msgspec.json.encode({"members": [person.row() for person in people(1)]})
        imported = speaker.post(b"Content-Length: %d\r\n" % len(rows), rows, b"/api/members/import")
        for quick in (speaker.get(), speaker.get(path=b"/ready"), imported):
            assert (await speaker.ask(quick)).status == 200
        # It was not their end that let these through.
        assert sum(peer.done() for peer in dripping) == 0
    await wait_until(lambda: open_files_of(gateway) < before + 20, seconds=90, what="the end of all slow connections")
    for _, writer in unread:
        writer.close()
    assert failed_requests(platform) == []
    await still_works(speaker.church)


async def drip(url: str, start: bytes) -> None:
    """Begin like this and go on at a byte a second, until it is refused or closed."""
    reader, writer = await connect(url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(start)
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        heard = await reader.read(65536)
                        break
                writer.write(b"x" if start.strip() else start)
    except ConnectionError:
        return
    finally:
        writer.close()
    assert not heard or is_refusal(next(replies(heard)))


async def test_peers_that_vanish_leave_nothing_behind(speaker: Speaker) -> None:
    platform = speaker.church.platform
    gateway = platform.door
    before, served = open_files_of(gateway), statuses(platform)
    length, wait = b"Content-Length: 1000\r\n", b"Expect: 100-continue\r\n"
    bodies = [speaker.post(length + wait, b"{", path) for path in LIMITS]
    bodies += [speaker.post(CHUNKED + wait, b"3e8\r\n{", path) for path in LIMITS]
    heads = [b"GET /api/gro", speaker.get()[:-2], speaker.get(), speaker.get(path=b"/api/openapi.json")]
    async with flat_memory(platform, mebibytes=48):
        for _ in range(20):
            for start, (reader, writer) in [(start, await connect(speaker.url)) for start in bodies + heads]:
                writer.write(start)
                if wait in start:
                    await reader.readuntil(b"100 Continue")  # the body is being read
                plug = writer.get_extra_info("socket")
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye
                writer.transport.abort()
        await wait_until(lambda: open_files_of(gateway) < before + 20, seconds=30, what="the end of all connections")
    await wait_until(lambda: (statuses(platform) - served)[400] >= 20 * len(bodies), what="the last word on each body")
    assert max(statuses(platform) - served) < 500
    assert failed_requests(platform) == []
    await still_works(speaker.church)


def statuses(platform: Platform) -> Counter[int]:
    """How often the gateways have answered what."""
    return Counter(int(str(entry["status"])) for entry in platform.entries("gateway", "request_served"))


async def test_a_thousand_requests_in_one_breath_are_answered_in_turn(speaker: Speaker) -> None:
    names = [f"breath-{number}" for number in range(1000)]
    one = b"GET /api/csrf-token HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n\r\n"
    said = b"".join(one % name.encode() for name in names)
    async with flat_memory(speaker.church.platform, mebibytes=48):
        found = await speaker.say(said + speaker.get(b"X-Request-Id: last\r\n"))
    assert [(reply.status, reply.headers["x-request-id"]) for reply in found] == [
        (200, name) for name in (*names, "last")
    ]
