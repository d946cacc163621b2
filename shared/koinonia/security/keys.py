"""The keys of a process, and everything that is done with them."""

from typing import Literal
from uuid import UUID

import msgspec

from koinonia.security.blind_index import BlindIndex
from koinonia.security.encryption import Cipher
from koinonia.security.keyring import Keyring, parse_key
from koinonia.security.signing import Signer

Kind = Literal["phone", "email", "totp_secret", "fields", "rows"]
"""What a ciphertext or an index holds; it cannot be taken for another."""


class Keys(msgspec.Struct, frozen=True, eq=False):
    """All keys of a process, made once from its settings; its ``repr`` shows none."""

    _cipher: Cipher
    _signer: Signer
    _blind_index: BlindIndex

    @classmethod
    def parse(cls, *, encryption_keys: str, token_keys: str, blind_index_key: str) -> "Keys":
        """Read the three settings.

        Raises:
            KeyringInvalid: one of them does not hold keys; it is named, no key is shown.
        """
        return cls(
            Cipher(Keyring.parse(encryption_keys, "KOINONIA_ENCRYPTION_KEYS")),
            Signer(Keyring.parse(token_keys, "KOINONIA_TOKEN_KEYS")),
            BlindIndex(parse_key(blind_index_key, "KOINONIA_BLIND_INDEX_KEY")),
        )

    def encrypt(self, value: str, church_id: UUID, kind: Kind) -> bytes:
        """The ciphertext of a church's value under the newest key."""
        return self._cipher.encrypt(value, church_id, kind)

    def decrypt(self, ciphertext: bytes, church_id: UUID, kind: Kind) -> str:
        """The value of a ciphertext made under any listed key.

        Raises:
            CiphertextInvalid: it was altered, belongs to another church or kind, or its key is not listed.
        """
        return self._cipher.decrypt(ciphertext, church_id, kind)

    @property
    def encryption_key_id(self) -> str:
        """The id of the newest encryption key."""
        return self._cipher.newest_key_id

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether the newest key made it."""
        return self._cipher.is_current(ciphertext)

    def index(self, value: str, church_id: UUID, kind: Kind) -> bytes:
        """The blind index, 16 bytes, of a church's value; a phone must be in E.164."""
        return self._blind_index.index(value, church_id, kind)

    def login_index(self, email: str) -> bytes:
        """The blind index, 16 bytes, of an admin's e-mail over the whole platform."""
        return self._blind_index.login_index(email)

    @property
    def token_key_id(self) -> str:
        """The id of the newest token key."""
        return self._signer.newest_key_id

    def token_key(self, purpose: str, key_id: str) -> bytes | None:
        """The token key of one purpose and id, for formats that name their key; None when it is not listed."""
        return self._signer.key(purpose, key_id)

    def sign(self, purpose: str, data: bytes) -> bytes:
        """The signature of ``data``, 32 bytes, under the newest token key."""
        return self._signer.sign(purpose, data)

    def verify(self, purpose: str, data: bytes, signature: bytes) -> bool:
        """Whether any listed token key made the signature for this purpose."""
        return self._signer.verify(purpose, data, signature)

    def __repr__(self) -> str:
        return "Keys(…)"
