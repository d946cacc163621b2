"""Passwords as PostgreSQL keeps them, so that none is sent, logged or counted in plain text.

Source: RFC 5803; PostgreSQL's documentation of pg_authid.rolpassword.
"""

import hashlib
import hmac
import secrets
from base64 import b64encode

_ITERATIONS = 4096


def verifier(password: str) -> str:
    """Return what ``ALTER ROLE … PASSWORD`` takes in place of the password, which must be ASCII."""
    password.encode("ascii")  # others would need normalising first (SASLprep)
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server = _hmac(salted, b"Server Key")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _text(value: bytes) -> str:
    return b64encode(value).decode()
