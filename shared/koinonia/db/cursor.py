"""Keyset cursors: where the next page of a list begins, as opaque text.

A cursor names its list, so that one list's cannot be used for another; what it holds are sort keys of the last row,
which row-level security guards like any other value.
"""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from koinonia.errors import ValidationFailed

T = TypeVar("T")


def encode_cursor(listing: str, keys: tuple[Any, ...]) -> str:
    """The cursor after a row with these sort keys (ids, times, numbers, texts)."""
    return base64.urlsafe_b64encode(msgspec.json.encode([listing, *keys])).rstrip(b"=").decode()


def decode_cursor(listing: str, cursor: str, shape: type[T]) -> T:
    """The sort keys in a cursor of this list, as ``shape``: a tuple type such as ``tuple[datetime, UUID]``.

    Raises:
        ValidationFailed: it is no cursor of this list.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        name, *keys = msgspec.json.decode(raw, type=list[Any])
        if name != listing:
            raise ValueError(listing)
        return msgspec.convert(keys, shape)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError):
        raise ValidationFailed.field("cursor", "is no cursor of this list") from None
