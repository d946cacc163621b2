"""Keys out of keys: HKDF-SHA256, so that a key of one purpose tells nothing of another's.

Source: RFC 5869.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(secret: bytes, purpose: str, context: bytes = b"") -> bytes:
    """The 32-byte key of a purpose, and of a context within it such as one church."""
    info = b"koinonia/v1/" + purpose.encode("ascii") + b"\x00" + context
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
