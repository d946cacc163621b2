"""Finds people's phones and addresses in a heap of bytes, in whatever form they were left there.

It looks for what any form of them must contain (the area code, the address's domain), which is fast over hundreds of
megabytes, and judges what stands around that.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import unquote_to_bytes

_GAP = rb"(?:[-.\s()/]|%2[089dDfF]|\\u00[23][0-9a-fA-F]){0,4}"
_HEX = frozenset(b"0123456789abcdefABCDEF")
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_WINDOW = 240  # bytes to each side of what was found in hex or base64
_HEX_BYTES = tuple(bytes((each,)) for each in _HEX)
_COUNTRY = re.compile(rb"(?:(?<![0-9a-f])(?<!\d\.)|\+|%2b|u002b|x2b|00|011)1" + _GAP + rb"\Z")
_PIECE = re.compile(rb"[0-9a-f]\Z|\d\.\Z")
_LEADS = (b"%2b", b"%20", b"%28", b"u002b", b"x2b")  # a sign whose code ends in what might be a digit of hex
_AT = (b"@", b"%40", b"u0040", b"x40")
_BYTEA = re.compile(rb"\\x((?:[0-9a-f]{2}){8,})")
_ESCAPED = re.compile(rb"\\u00([0-9a-fA-F]{2})")


class Search:
    """Knows whose phones (E.164, American) and whose addresses' domains to look for."""

    def __init__(self, phones: Iterable[str], domains: Iterable[str]) -> None:
        self._phones = {phone[2:].encode() for phone in phones}
        self._domains = [domain.lower().encode() for domain in domains]
        areas = sorted({phone[:3] for phone in self._phones})
        self._patterns = [
            re.compile(rb"%s%s([2-9]\d\d)%s(\d{4})(?!\d)" % (area, _GAP, _GAP), re.ASCII) for area in areas
        ]
        ends = {b"." + domain.rpartition(b".")[2] for domain in self._domains}
        marks = [*areas, *ends, *(end.upper() for end in ends)]
        self._wide_marks = [_wide(mark)[:-1] for mark in marks]
        marks += self._wide_marks
        self._hex_marks = [mark.hex().encode() for mark in marks]
        self._base64_marks = [found for mark in marks for found in _in_base64(mark)]

    def finds(self, content: bytes, depth: int = 3) -> str | None:
        """In which form it was found first, without the finding itself; None: nothing."""
        lowered = content.lower()
        if self._has_phone(content):
            return "a phone"
        if self._has_address(lowered):
            return "an address"
        if depth == 0:
            return None
        for form, inner in self._inside(content, lowered):
            if inner != content and (found := self.finds(inner, depth - 1)):
                return f"{found} in {form}"
        return None

    def _has_phone(self, content: bytes) -> bool:
        for pattern in self._patterns:
            for match in pattern.finditer(content):
                digits = match[0][:3] + match[1] + match[2]
                if digits in self._phones and _stands_alone(content, match.start(), match.end()):
                    return True
        return False

    def _has_address(self, lowered: bytes) -> bool:
        return any(
            lowered[max(0, start - 6) : start].endswith(_AT)
            for domain in self._domains
            for start in _positions(lowered, domain)
        )

    def _inside(self, content: bytes, lowered: bytes) -> Iterator[tuple[str, bytes]]:
        """What lies in it under another form, wherever that might be one of them."""
        if any(mark in content for mark in self._wide_marks):
            yield "UTF-16", content.translate(None, b"\0")
        yield from _unescaped(content)
        if b"\\x" in content:
            yield "bytea's hex", b"\n".join(bytes.fromhex(run.decode()) for run in _BYTEA.findall(content))
        for mark in self._hex_marks:
            for start in _positions(lowered, mark):
                yield "hex", bytes.fromhex(_run(lowered, start, 2, _HEX).decode())
        for offset, mark in self._base64_marks:
            for start in _positions(content, mark):
                yield "base64", _from_base64(_run(content, start - offset, 4, _BASE64))
        yield from _compressed(content)


def _unescaped(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What escapes stand for."""
    if b"\\000" in content:
        yield "bytea's escapes", content.replace(b"\\000", b"")
    if b"\\u003" in content:
        yield "JSON's escapes", _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), content)
    if b"%33%3" in content:
        yield "a URL", unquote_to_bytes(content)


def _compressed(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What gzip or deflate have made small, as it is or in base64."""
    for start in _positions(content, b"\x1f\x8b\x08"):
        yield "gzip", _inflated(content[start : start + 1_000_000])
    for mark in (b"H4sI", b"eJ"):
        for start in _positions(content, mark):
            if start == 0 or content[start - 1] not in _BASE64:
                end = start
                while end < len(content) and content[end] in _BASE64:
                    end += 1
                yield "base64 of what is compressed", _inflated(_from_base64(content[start:end]))


def _stands_alone(content: bytes, start: int, end: int) -> bool:
    """Whether it is no piece of a longer figure or of hex, as ids and ciphertexts are written."""
    before = content[max(0, start - 16) : start].lower()
    if _COUNTRY.search(before) or before.endswith(_LEADS):
        return True
    return not (_PIECE.search(before) or content[end : end + 1].lower() in _HEX_BYTES)


def _wide(text: bytes) -> bytes:
    return b"".join(bytes((each, 0)) for each in text)


def _in_base64(mark: bytes) -> Iterator[tuple[int, bytes]]:
    """The characters that base64 has for it wherever it begins, and how far into a group of four they begin."""
    for shift in range(3):
        first = -(-shift * 8 // 6)
        whole = (shift + len(mark)) * 8 // 6
        yield first, base64.b64encode(b"\0" * shift + mark)[first:whole]


def _positions(content: bytes, mark: bytes) -> Iterator[int]:
    start = content.find(mark)
    while start >= 0:
        yield start
        start = content.find(mark, start + 1)


def _run(content: bytes, start: int, step: int, alphabet: frozenset[int]) -> bytes:
    """The run of an encoding around a place where one of its groups begins, cut to a window."""
    first, last = start, start
    while first >= step and start - first < _WINDOW and alphabet.issuperset(content[first - step : first]):
        first -= step
    while last < len(content) and last - start < _WINDOW and content[last] in alphabet:
        last += 1
    return content[max(0, first) : last - (last - first) % step if step == 2 else last]


def _from_base64(text: bytes) -> bytes:
    with suppress(binascii.Error):
        return base64.b64decode(
            text[: len(text) - (len(text) % 4 == 1)] + b"==", altchars=b"-_" if _is_url(text) else None
        )
    return b""


def _is_url(text: bytes) -> bool:
    return b"-" in text or b"_" in text


def _inflated(content: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj(47).decompress(content, 10_000_000)
    return b""
