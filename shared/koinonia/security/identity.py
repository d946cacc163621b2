"""Who a forwarded request comes from: the gateway signs it, the service that owns the path verifies it.

The header is base64url of the identity in JSON, a dot, base64url of its signature. It holds for one method and path and
for some seconds, so that one seen elsewhere opens nothing else.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from koinonia import clock
from koinonia.errors import AuthenticationFailed
from koinonia.security import base64url
from koinonia.security.keys import Keys

HEADER = "X-Koinonia-Identity"

Role = Literal["owner", "admin", "sender", "viewer"]
PrincipalKind = Literal["session", "api_key"]

_PURPOSE = "identity"
_LONGEST = 4096


class Identity(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A caller whom the gateway has authenticated, for one request."""

    church_id: UUID
    principal_id: UUID  # the admin of a session, or the API key
    principal_kind: PrincipalKind
    role: Role
    mfa_verified: bool
    address: str  # where the caller came from, for the audit log
    request_id: str
    expires_at: datetime
    method: str
    path: str  # without the query, as the service sees it
    test: bool = False  # by a test key: what it sends, the simulated carrier answers
    own_phone_index: bytes | None = None  # of the phone that a person has confirmed as theirs, where the route wants it
    own_phone_ciphertext: bytes | None = None

    def shows_tests(self, wanted: bool | None) -> bool:
        """Whether a list has tests or the rest: as wanted, else as the caller is."""
        return self.test if wanted is None else wanted


def sign_identity(keys: Keys, identity: Identity) -> str:
    """The header's value for one forwarded request."""
    payload = msgspec.json.encode(identity)
    return f"{base64url.encode(payload)}.{base64url.encode(keys.sign(_PURPOSE, payload))}"


def verify_identity(keys: Keys, header: str, *, method: str, path: str) -> Identity:
    """The identity of a request.

    Raises:
        AuthenticationFailed: we did not sign it, it has expired, or it was signed for another method or path.
    """
    identity = _read(keys, header)
    if identity.expires_at <= clock.now() or (identity.method, identity.path) != (method, path):
        raise AuthenticationFailed
    return identity


def _read(keys: Keys, header: str) -> Identity:
    payload, signature = (base64url.decode(part) for part in header[:_LONGEST].partition(".")[::2])
    if payload is None or signature is None or not keys.verify(_PURPOSE, payload, signature):
        raise AuthenticationFailed
    try:
        return msgspec.json.decode(payload, type=Identity)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Ours, yet of another version: a service older than its gateway.
        raise AuthenticationFailed from error
