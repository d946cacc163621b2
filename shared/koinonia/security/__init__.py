"""What keeps people's data private and requests honest: keys and what is made with them, tokens, passwords, redaction.

Nothing here does I/O, and no error or ``repr`` holds a key, a number or an address.
"""

from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.identity import Identity, Role, sign_identity, verify_identity
from koinonia.security.keyring import KeyringInvalid
from koinonia.security.keys import Keys, Kind
from koinonia.security.receipts import read_receipt_token, receipt_token

__all__ = [
    "CiphertextInvalid",
    "Identity",
    "KeyringInvalid",
    "Keys",
    "Kind",
    "Role",
    "read_receipt_token",
    "receipt_token",
    "sign_identity",
    "verify_identity",
]
