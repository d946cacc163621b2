import base64
from uuid import UUID

import pytest

from koinonia.security import Keys


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


def make_keys(encryption: str = "a", tokens: str = "a") -> Keys:
    """Keys whose ids are the letters, newest first; a letter's key is always the same."""
    return Keys.parse(
        encryption_keys=",".join(f"{letter}:{key(ord(letter))}" for letter in encryption),
        token_keys=",".join(f"{letter}:{key(ord(letter) + 1)}" for letter in tokens),
        blind_index_key=key(7),
    )


@pytest.fixture
def keys() -> Keys:
    return make_keys()


@pytest.fixture
def church_id() -> UUID:
    return UUID("01980000-0000-7000-8000-000000000001")
