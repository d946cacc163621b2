"""Recovery codes: what lets somebody in whose authenticator app is lost, each of them once.

A code has 120 random bits, so that its SHA-256 can be stored: guessing is hopeless, with the table too.

Source: OWASP ASVS 5.0, 6.5.2 and 6.5.3.
"""

import base64
import hashlib
import re
import secrets

COUNT = 8

_BYTES = 15
_GROUP = 6
_SEPARATORS = re.compile(r"[\s-]+")


def make() -> list[str]:
    """Eight new codes, in groups of letters and digits that are not taken for one another."""
    return [_make_one() for _ in range(COUNT)]


def digest(code: str) -> bytes:
    """What a code is stored and found by, however it was typed: its letters may be small, its groups joined."""
    plain = _SEPARATORS.sub("", code).upper()
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def _make_one() -> str:
    text = base64.b32encode(secrets.token_bytes(_BYTES)).decode()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))
