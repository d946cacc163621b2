"""Base64url without padding, strict: of each byte string there is exactly one text, and nothing else decodes."""

import base64
import binascii


def encode(data: bytes) -> str:
    """The text of ``data``."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes | None:
    """The bytes of a text that ``encode`` made; None for any other text."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    # Python drops characters that are not base64, and bits that the last one has too many.
    return data if encode(data) == text else None
