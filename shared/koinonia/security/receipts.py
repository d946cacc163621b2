"""Tokens in webhook URLs, by which a receipt finds its recipient even where the carrier's id was never learned.

A token is base64url of: length of the key id | key id | recipient id (16 bytes) | HMAC-SHA256 cut to 16 bytes. It holds
no phone, is the same each time for the same key, and goes on being read while its key is listed.
"""

import hmac
from uuid import UUID

from koinonia.security import base64url
from koinonia.security.keys import Keys

_PURPOSE = "receipt"
_ID_BYTES = 16
_MAC_BYTES = 16


def receipt_token(keys: Keys, recipient_id: UUID, key_id: str | None = None) -> str:
    """The token of a recipient, under the newest token key or the one named.

    A repeated request must be the same byte for byte, so the row keeps the key id of its first attempt.

    Raises:
        LookupError: the named key is not listed any more.
    """
    chosen = key_id or keys.token_key_id
    key = keys.token_key(_PURPOSE, chosen)
    if key is None:
        raise LookupError(f"the token key {chosen} is not listed any more")
    signed = bytes((len(chosen),)) + chosen.encode("ascii") + recipient_id.bytes
    return base64url.encode(signed + _mac(key, signed))


def read_receipt_token(keys: Keys, token: str) -> UUID | None:
    """The recipient of a token that we made; None for any other text."""
    data = base64url.decode(token) or b"\x00"
    signed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if len(signed) != 1 + data[0] + _ID_BYTES:
        return None
    key = keys.token_key(_PURPOSE, signed[1:-_ID_BYTES].decode("latin-1"))
    if key is None or not hmac.compare_digest(_mac(key, signed), mac):
        return None
    return UUID(bytes=signed[-_ID_BYTES:])


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:_MAC_BYTES]
