"""Identifiers: UUIDs of version 7, whose order is the order of their making.

Source: RFC 9562, section 5.7.
"""

import hmac
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

_RANDOM_BITS = 74
_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_LAST_MILLISECOND = 2**48 - 1


def new_id() -> UUID:
    """A new id that is greater than those this process made before."""
    return uuid7()


def derived_id(at: datetime, *parts: bytes) -> UUID:
    """The id that belongs to ``parts`` at ``at``: made twice, anywhere, it is the same.

    Its time is ``at`` (to the millisecond), its other 74 bits an HMAC-SHA256 of the parts under the first of them.
    """
    key, *rest = parts
    message = b"".join(len(part).to_bytes(4, "big") + part for part in rest)
    digest = int.from_bytes(hmac.digest(key, message, "sha256")[:10], "big") >> (80 - _RANDOM_BITS)
    return _with_bits(_milliseconds(at), digest)


def id_floor(at: datetime) -> UUID:
    """The smallest id of the millisecond of ``at``."""
    return _with_bits(_milliseconds(at), 0)


def id_ceiling(at: datetime) -> UUID:
    """The greatest id of the millisecond of ``at``."""
    return _with_bits(_milliseconds(at), 2**_RANDOM_BITS - 1)


def id_time(identifier: UUID) -> datetime:
    """When the id was made, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def _milliseconds(at: datetime) -> int:
    # Integers all the way: a float of seconds cannot hold every millisecond exactly.
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _with_bits(milliseconds: int, bits: int) -> UUID:
    if not 0 <= milliseconds <= _LAST_MILLISECOND:
        raise ValueError("the time does not fit into an id")
    high, low = bits >> 62, bits & (2**62 - 1)
    return UUID(int=(milliseconds << 80) | _VERSION_AND_VARIANT | (high << 64) | low)
