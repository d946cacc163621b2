"""A piece of a file that waits for its import: some rows as one text, small, and the same again when it is read."""

import zlib
from base64 import b85decode, b85encode
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from koinonia_messaging.domain.rows import Cells, Row

PIECE_ROWS = 1000

_ROWS = list[tuple[int, int | None, Any, str]]


def packed(rows: Sequence[Row]) -> str:
    """Rows as a text. Compressed first: what is encrypted next is not compressible any more."""
    plain = [
        (number, raw.line, raw.values, raw.reason) if isinstance(raw, Cells) else (number, None, raw, "")
        for number, raw in rows
    ]
    return b85encode(zlib.compress(msgspec.json.encode(plain), 1)).decode()


def unpacked(piece: str) -> Iterator[Row]:
    """The rows that were packed."""
    for number, line, values, reason in msgspec.json.decode(zlib.decompress(b85decode(piece)), type=_ROWS):
        yield number, values if line is None else Cells(line, values, reason)
