"""Signatures under the token keys: each purpose signs with a key of its own, derived from each listed one."""

import hmac
from functools import lru_cache

from koinonia.security.derivation import derive
from koinonia.security.keyring import Keyring

SIGNATURE_BYTES = 32


class Signer:
    """Signs under the newest token key and verifies under every listed one."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._derived = lru_cache(maxsize=256)(derive)

    @property
    def newest_key_id(self) -> str:
        """The id of the key that signs."""
        return self._keyring.newest.id

    def key(self, purpose: str, key_id: str) -> bytes | None:
        """The key of a purpose under one token key; None when that is not listed."""
        key = self._keyring.find(key_id)
        return None if key is None else self._derived(key.secret, "token/" + purpose)

    def sign(self, purpose: str, data: bytes) -> bytes:
        """The signature of ``data``, 32 bytes."""
        return hmac.digest(self._derived(self._keyring.newest.secret, "token/" + purpose), data, "sha256")

    def verify(self, purpose: str, data: bytes, signature: bytes) -> bool:
        """Whether any listed key made the signature; the time does not tell which, or how much of it is right."""
        found = False
        for key in self._keyring:
            expected = hmac.digest(self._derived(key.secret, "token/" + purpose), data, "sha256")
            found |= hmac.compare_digest(expected, signature)
        return found
