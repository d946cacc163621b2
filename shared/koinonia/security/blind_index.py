"""Blind indexes: what a phone or an e-mail is looked up by where only its ciphertext is stored.

HMAC-SHA256 over ``kind|normalised value``, cut to 16 bytes, under a key derived for each church: equal numbers in two
churches have unrelated indexes, and without the key nobody can try all numbers. Admins log in before their church is
known, so their e-mails have one more index, the platform's.
"""

import hmac
import re
import unicodedata
from functools import lru_cache
from uuid import UUID

from koinonia.security.derivation import derive

INDEX_BYTES = 16

_CHURCHES_KEPT = 20_000  # derived keys in memory: deriving one costs more than the index itself
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class BlindIndex:
    """Indexes under the keys that come from one master key."""

    def __init__(self, master_key: bytes) -> None:
        self._login_key = derive(master_key, "blind-index/login")
        self._church_key = lru_cache(maxsize=_CHURCHES_KEPT)(
            lambda church_id: derive(master_key, "blind-index/church", church_id.bytes)
        )

    def index(self, value: str, church_id: UUID, kind: str) -> bytes:
        """The index of a church's value; a phone must be in E.164, or the same number would have two.

        Raises:
            ValueError: the phone is not in E.164.
        """
        return _digest(self._church_key(church_id), kind, normalise(value, kind))

    def login_index(self, email: str) -> bytes:
        """The index of an admin's e-mail over the whole platform."""
        return _digest(self._login_key, "email", normalise(email, "email"))


def normalise(value: str, kind: str) -> str:
    """The one form of a value that is indexed; an e-mail's is without case and spaces around it."""
    if kind == "phone":
        if not _E164.fullmatch(value):
            raise ValueError("a phone is indexed in E.164 only")
        return value
    if kind == "email":
        return unicodedata.normalize("NFC", value.strip().casefold())
    return value


def _digest(key: bytes, kind: str, value: str) -> bytes:
    return hmac.digest(key, f"{kind}|{value}".encode(), "sha256")[:INDEX_BYTES]
