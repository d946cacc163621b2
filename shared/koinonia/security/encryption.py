"""Field encryption: AES-256-GCM under a key that the ciphertext names.

A ciphertext is: version (1 byte) | length of the key id (1) | key id | nonce (12) | encrypted value and tag. The church
and the kind are its associated data: moved to another church, or taken for another kind, it does not open. A service
can hand it on.

Random nonces bear 2³² values under one key (NIST SP 800-38D, 8.3); rotate long before, with ``koinonia keys rotate``.
"""

import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from koinonia.errors import KoinoniaError
from koinonia.security.keyring import Keyring

_VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16


class CiphertextInvalid(KoinoniaError):
    """A stored value cannot be decrypted."""


class Cipher:
    """Encrypts under the newest key and decrypts under any listed one."""

    def __init__(self, keyring: Keyring) -> None:
        # One object per key for good: making it anew doubles the cost of a value.
        self._ciphers = {key.id.encode("ascii"): AESGCM(key.secret) for key in keyring}
        self.newest_key_id = keyring.newest.id
        newest = self.newest_key_id.encode("ascii")
        self._newest = self._ciphers[newest]
        self.newest_header = bytes((_VERSION, len(newest))) + newest

    def encrypt(self, value: str, church_id: UUID, kind: str) -> bytes:
        """The ciphertext of a church's value; twice the same value gives two ciphertexts."""
        nonce = os.urandom(_NONCE_BYTES)
        return (
            self.newest_header + nonce + self._newest.encrypt(nonce, value.encode(), _associated_data(church_id, kind))
        )

    def decrypt(self, ciphertext: bytes, church_id: UUID, kind: str) -> str:
        """The value again.

        Raises:
            CiphertextInvalid: it was altered, belongs to another church or kind, or its key is not listed.
        """
        key_id, start = _read_header(ciphertext)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise CiphertextInvalid
        nonce, sealed = ciphertext[start : start + _NONCE_BYTES], ciphertext[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, _associated_data(church_id, kind)).decode()
        except InvalidTag as error:
            raise CiphertextInvalid from error

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether it was made under the newest key, so that a rotation can leave it alone."""
        return ciphertext.startswith(self.newest_header)


def key_id_of(ciphertext: bytes) -> str:
    """The id of the key that a ciphertext was made under.

    Raises:
        CiphertextInvalid: it is no ciphertext.
    """
    try:
        return _read_header(ciphertext)[0].decode("ascii")
    except UnicodeDecodeError as error:
        raise CiphertextInvalid from error


def _associated_data(church_id: UUID, kind: str) -> bytes:
    return church_id.bytes + kind.encode("ascii")


def _read_header(ciphertext: bytes) -> tuple[bytes, int]:
    """The key id, and where the nonce begins."""
    if len(ciphertext) < 2 or ciphertext[0] != _VERSION:
        raise CiphertextInvalid
    start = 2 + ciphertext[1]
    if len(ciphertext) < start + _NONCE_BYTES + _TAG_BYTES:
        raise CiphertextInvalid
    return bytes(ciphertext[2:start]), start
