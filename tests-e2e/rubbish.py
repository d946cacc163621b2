"""Rubbish for a route, made from its place on the API page: wrong types, broken JSON, sizes, encodings, ids."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from .page import Route

MEBIBYTE = 1024 * 1024
JSON = "application/json"

WRONG_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    " ",
    "\u0000",
    "a\u202eb\ufeff",
    "x" * 5000,
    "'; DROP TABLE members; --",
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999+14:00",
    str(uuid4()),
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    ["x"] * 20_000,
)
BROKEN_BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"0",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"{" * 10_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"a": 1, "a": 2}',
    b'{"a": "\\ud800"}',
    b'{"\\u0000": 1}',
    b'{"a": 1} {"b": 2}',
    b"\x00" * 100,
)
CONTENT_TYPES = (
    "",
    "text/plain",
    "text/csv",
    "application/xml",
    f"{JSON}; charset=utf-16",
    "multipart/form-data",
    "\xff",
)
WRONG_IDS = (
    "0",
    "-1",
    "not-a-uuid",
    "0" * 36,
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "%00",
    "%ff%fe",
    "..%2f..%2fetc%2fpasswd",
    "x" * 6000,
    "%F0%9F%92%A9",
    "{0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10}",
)
WRONG_QUERIES = (
    "",
    "0",
    "-1",
    "101",
    "1e9",
    "9" * 400,
    "null",
    "%00",
    "%ff",
    "true",
    "[]",
    "x" * 3000,
    "'--",
    "%25%5f",
)
CURSORS = tuple(
    base64.urlsafe_b64encode(content).decode().rstrip("=")
    for content in (
        b"",
        b"null",
        b"{}",
        b"[]",
        b"[1,2,3]",
        b'["x"]',
        b'["a", ["b"]]',
        b'["members.list", "0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10"]',
        b"\xff\xff",
        b"[" * 1000,
    )
)


@dataclass(frozen=True)
class Rubbish:
    """One request that no good program would send."""

    what: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def rubbish_for(route: Route, ids: dict[str, str]) -> Iterator[Rubbish]:
    """What to send to a route; ``ids`` are good ones, where the church has such a thing."""
    good = route.url(**{name: ids.get(name, str(uuid4())) for name in route.ids})
    body = json.dumps(route.example).encode() if route.example is not None else None
    yield from _bad_paths(route, ids, body)
    yield from _bad_queries(route, good)
    if route.method != "GET":
        yield from _bad_headers(route, good, body)
    if route.content_types:
        yield from _bad_bodies(route, good)
    else:
        yield Rubbish("a body that nobody asked for", good, b'{"a": 1}')


def _bad_paths(route: Route, ids: dict[str, str], body: bytes | None) -> Iterator[Rubbish]:
    for name in route.ids:
        for wrong in (*WRONG_IDS, str(uuid4())):
            others = {other: ids.get(other, str(uuid4())) for other in route.ids}
            yield Rubbish(f"{name} {wrong[:40]}", route.url(**{**others, name: wrong}), body)


def _bad_queries(route: Route, path: str) -> Iterator[Rubbish]:
    yield Rubbish("an unknown parameter", f"{path}?whatIsThis=1")
    for name in route.query:
        for value in (*WRONG_QUERIES, *(CURSORS if name == "cursor" else ())):
            yield Rubbish(f"{name}={value[:40]}", f"{path}?{name}={value if '%' in value else quote(value)}")
        yield Rubbish(f"{name} twice", f"{path}?{name}=1&{name}=2")


def _bad_headers(route: Route, path: str, body: bytes | None) -> Iterator[Rubbish]:
    for content_type in CONTENT_TYPES if body else ():
        yield Rubbish(f"content type {content_type!r}", path, body, {"Content-Type": content_type})
    yield Rubbish("compressed", path, body or b"{}", {"Content-Encoding": "gzip"})
    yield Rubbish("another site", path, body, {"Origin": "https://elsewhere.example"})
    yield Rubbish("no CSRF token", path, body, {"X-CSRF-Token": "x"})
    for key in ("", " ", "k" * 300, "\xe4") if route.is_idempotent else ():
        yield Rubbish(f"idempotency key {key[:5]!r}", path, body, {"Idempotency-Key": key})


def _bad_bodies(route: Route, path: str) -> Iterator[Rubbish]:
    for content in BROKEN_BODIES:
        yield Rubbish(f"body {content[:20]!r}", path, content)
    yield Rubbish("too much", path, b'"' + b"x" * (2 * MEBIBYTE if "import" not in path else 17 * MEBIBYTE) + b'"')
    if "text/csv" in route.content_types:
        yield from _bad_tables(path)
    example = route.example or {}
    for name in route.fields:
        for value in WRONG_VALUES:
            yield Rubbish(f"{name}: {str(value)[:20]}", path, json.dumps({**example, name: value}).encode())
    for name in example:
        yield Rubbish(f"no {name}", path, json.dumps({key: example[key] for key in example if key != name}).encode())
    yield Rubbish("an unknown field", path, json.dumps({**example, "whatIsThis": 1}).encode())


def _bad_tables(path: str) -> Iterator[Rubbish]:
    for content in (
        b"",
        b"\n\n\n",
        b"firstName",
        b"firstName,phone\n",
        b"what,is,this\n1,2,3\n",
        b"firstName,firstName,phone\nA,B,C\n",
        b'firstName,phone\n"A,+13125550142\n',
        b"firstName,phone\n" + b"A" * 200_000 + b",1\n",
        b"firstName,phone\nA\x00B,+13125550142\n",
        b"firstName,phone\n" + b",,,,,,\n" * 1000,
        b"\xff\xfef\x00i\x00",
    ):
        yield Rubbish(f"table {content[:20]!r}", path, content, {"Content-Type": "text/csv"})
