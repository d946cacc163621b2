"""Tokens of browser sessions: short access tokens, opaque tokens that are stored as a hash, and CSRF tokens.

An access token is a JWT under HS256 and nothing else, with the id of its token key; it says which session it belongs
to, and the session's row says whether that still holds. Source: RFC 8725; OWASP ASVS 5.0, 9.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import jwt
import msgspec

from koinonia import clock
from koinonia.errors import AuthenticationFailed
from koinonia.security import base64url
from koinonia.security.identity import Role
from koinonia.security.keys import Keys

TokenType = Literal["access", "mfa"]
"""``mfa`` proves the password alone: good for the second factor, and for nothing that wants ``access``."""

ISSUER = "koinonia"
AUDIENCE = "koinonia-gateway"

_ALGORITHM = "HS256"
_REQUIRED = ["iss", "aud", "iat", "nbf", "exp", "typ", "sub", "sid", "church", "role", "mfa"]
_LONGEST = 2048
_RANDOM_BYTES = 32
_CSRF_PURPOSE = "csrf"
_CSRF_NONCE_BYTES = 16


class SessionToken(msgspec.Struct, frozen=True, kw_only=True):
    """What an access or MFA token says."""

    type: TokenType
    admin_id: UUID
    session_id: UUID
    church_id: UUID
    role: Role
    mfa_verified: bool
    expires_at: datetime


class OpaqueToken(msgspec.Struct, frozen=True):
    """A random token: its text, given to its owner once, and the SHA-256 that is stored."""

    text: str
    digest: bytes


class _Claims(msgspec.Struct, frozen=True):
    typ: TokenType
    sub: UUID
    sid: UUID
    church: UUID
    role: Role
    mfa: bool
    nbf: int
    exp: int


def issue(keys: Keys, token: SessionToken) -> str:
    """The JWT of a session, good from now until ``expires_at``, both in whole seconds."""
    now = int(clock.now().timestamp())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": int(token.expires_at.timestamp()),
        "typ": token.type,
        "sub": str(token.admin_id),
        "sid": str(token.session_id),
        "church": str(token.church_id),
        "role": token.role,
        "mfa": token.mfa_verified,
    }
    key_id = keys.token_key_id
    return jwt.encode(claims, _key(keys, token.type, key_id), _ALGORITHM, headers={"kid": key_id})


def read(keys: Keys, text: str, type: TokenType = "access") -> SessionToken:
    """What a token says, if we issued it as that type and it has not expired.

    Raises:
        AuthenticationFailed: anything else.
    """
    claims = _verified(keys, text, type)
    now = clock.now()
    expires_at = datetime.fromtimestamp(claims.exp, now.tzinfo)
    # A second of grace for the beginning alone: another gateway's clock may be a little ahead.
    begins_at = datetime.fromtimestamp(claims.nbf, now.tzinfo) - timedelta(seconds=1)
    if claims.typ != type or not begins_at <= now < expires_at:
        raise AuthenticationFailed
    return SessionToken(
        type=claims.typ,
        admin_id=claims.sub,
        session_id=claims.sid,
        church_id=claims.church,
        role=claims.role,
        mfa_verified=claims.mfa,
        expires_at=expires_at,
    )


def _verified(keys: Keys, text: str, type: TokenType) -> _Claims:
    if len(text) > _LONGEST or not text.isascii():
        raise AuthenticationFailed
    try:
        key_id = jwt.get_unverified_header(text).get("kid")
        claims = jwt.decode(
            text,
            _key(keys, type, key_id if isinstance(key_id, str) else ""),
            algorithms=[_ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Times are compared with the platform's clock, by the caller.
            options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return msgspec.convert(claims, _Claims)
    except (jwt.PyJWTError, msgspec.ValidationError) as error:
        raise AuthenticationFailed from error


def _key(keys: Keys, type: TokenType, key_id: str) -> bytes:
    key = keys.token_key(f"session/{type}", key_id)
    if key is None:
        raise AuthenticationFailed
    return key


def make_opaque() -> OpaqueToken:
    """A new token of 256 random bits, for refresh, invitations, resets and confirmations."""
    text = base64url.encode(secrets.token_bytes(_RANDOM_BYTES))
    return OpaqueToken(text, digest_opaque(text))


def digest_opaque(text: str) -> bytes:
    """What a presented token is looked up by: the SHA-256 of its text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def make_csrf(keys: Keys, session_id: UUID) -> str:
    """A CSRF token of a session: a random part and its signature together with the session's id."""
    nonce = secrets.token_bytes(_CSRF_NONCE_BYTES)
    return base64url.encode(nonce + keys.sign(_CSRF_PURPOSE, session_id.bytes + nonce))


def verify_csrf(keys: Keys, text: str, session_id: UUID) -> bool:
    """Whether the token was made for this session."""
    data = base64url.decode(text[:_LONGEST])
    if data is None:
        return False
    nonce, signature = data[:_CSRF_NONCE_BYTES], data[_CSRF_NONCE_BYTES:]
    return keys.verify(_CSRF_PURPOSE, session_id.bytes + nonce, signature)
