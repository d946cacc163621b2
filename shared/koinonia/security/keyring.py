"""Keys as operators write them: ``id:base64,id:base64``, newest first. The newest makes, every listed one reads."""

import base64
import binascii
import re
from collections.abc import Iterator

KEY_BYTES = 32

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


class KeyringInvalid(ValueError):
    """A setting does not hold keys. The message names the setting and what is wrong, never a key."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class Key:
    """A key and its id; its ``repr`` shows the id alone."""

    __slots__ = ("id", "secret")

    def __init__(self, id: str, secret: bytes) -> None:
        self.id = id
        self.secret = secret

    def __repr__(self) -> str:
        return f"Key({self.id!r})"


class Keyring:
    """The keys of one setting, newest first; at least one."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys
        self._by_id = {key.id: key for key in keys}

    @classmethod
    def parse(cls, text: str, setting: str) -> "Keyring":
        """Read ``id:base64,id:base64``; each key has 32 bytes.

        Raises:
            KeyringInvalid: it cannot be read so.
        """
        entries = enumerate(text.split(","), 1)
        keys = tuple(_parse_entry(entry.strip(), position, setting) for position, entry in entries)
        ids = [key.id for key in keys]
        if len(set(ids)) < len(ids):
            raise KeyringInvalid(setting, "two keys have the same id")
        return cls(keys)

    @property
    def newest(self) -> Key:
        """The key that new things are made with."""
        return self._keys[0]

    def find(self, key_id: str) -> Key | None:
        """The key of that id, if it is listed."""
        return self._by_id.get(key_id)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._by_id)})"


def parse_key(text: str, setting: str) -> bytes:
    """Read one key of 32 bytes in base64.

    Raises:
        KeyringInvalid: it cannot be read so.
    """
    return _parse_secret(text.strip(), setting, "the key")


def _parse_entry(entry: str, position: int, setting: str) -> Key:
    key_id, colon, secret = entry.partition(":")
    if not colon:
        raise KeyringInvalid(setting, f"key {position} is not of the form id:base64")
    # What stands before the colon may be a key pasted in the wrong place, so it is not shown.
    if not _ID.fullmatch(key_id):
        raise KeyringInvalid(setting, f"the id of key {position} is not 1 to 32 letters, digits or '_.-'")
    return Key(key_id, _parse_secret(secret, setting, f"key {position}"))


def _parse_secret(text: str, setting: str, which: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # From None: the cause's message may show a part of the text.
        raise KeyringInvalid(setting, f"{which} is not base64") from None
    if len(secret) != KEY_BYTES:
        raise KeyringInvalid(setting, f"{which} has {len(secret)} bytes, not {KEY_BYTES}")
    return secret
