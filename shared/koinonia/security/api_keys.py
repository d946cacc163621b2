"""API keys: ``koi_live_<public id>_<secret><checksum>``, shown once; of the secret only its SHA-256 is stored.

A test key begins with ``koi_test_``, and its secret is digested with its kind: to code that knows no kinds it is wrong.
The prefix lets secret scanners find a key that leaked, the checksum refuses typing errors without asking the database.
256 random bits need no slow hash.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import Literal

import msgspec

ApiKeyKind = Literal["live", "test"]

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PUBLIC_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 12, 43, 6  # 43 of 62 characters: 256 bits
_FORM = re.compile(
    rf"koi_(?P<kind>live|test)_(?P<public>[0-9A-Za-z]{{{_PUBLIC_LENGTH}}})"
    rf"_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}})(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is stored and compared; ``public_id`` is not secret and finds the row."""

    kind: ApiKeyKind
    public_id: str
    secret_digest: bytes  # SHA-256


def make(kind: ApiKeyKind = "live") -> tuple[str, ApiKey]:
    """A new key: its text, to be shown once, and what is stored."""
    secret = _random(_SECRET_LENGTH)
    key = ApiKey(kind, _random(_PUBLIC_LENGTH), _digest(kind, secret))
    start = f"koi_{kind}_{key.public_id}_{secret}"
    return start + _checksum(start), key


def parse(text: str) -> ApiKey | None:
    """The key that a caller presents; None when it is not one, or mistyped."""
    form = _FORM.fullmatch(text)
    if form is None or _checksum(text[:-_CHECKSUM_LENGTH]) != form["checksum"]:
        return None
    kind: ApiKeyKind = "live" if form["kind"] == "live" else "test"
    return ApiKey(kind, form["public"], _digest(kind, form["secret"]))


def matches(presented: ApiKey, stored_digest: bytes) -> bool:
    """Whether the presented secret is the stored one, in constant time."""
    return hmac.compare_digest(presented.secret_digest, stored_digest)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _digest(kind: ApiKeyKind, secret: str) -> bytes:
    digested = secret if kind == "live" else f"{kind}:{secret}"
    return hashlib.sha256(digested.encode("ascii")).digest()


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode("ascii")), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits
