"""Keys and passwords that nobody had to think of: for development, once per state directory, and for containers."""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from nacl.signing import SigningKey

from koinonia.db.roles import SERVICES
from koinonia.security.keys import Keys

_HEADER = (
    "# Made by `koinonia up` for development. Without these, what lies encrypted in the database cannot be read.\n"
)
_DATA_KEYS = ("KOINONIA_ENCRYPTION_KEYS", "KOINONIA_TOKEN_KEYS", "KOINONIA_BLIND_INDEX_KEY")


def ensure(path: Path) -> dict[str, str]:
    """Read the keys, made now if there are none; variable → value."""
    if not path.exists():
        lines = [f"{name}={value}\n" for name, value in _make().items()]
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines([_HEADER, *lines])
        draft.rename(path)
    return read(path)


def read(path: Path) -> dict[str, str]:
    """The keys of a state directory; none where it has none."""
    if not path.exists():
        return {}
    entries = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in entries}


def parse(keys: Mapping[str, str]) -> Keys:
    """The keys in these variables.

    Raises:
        KeyringInvalid: one does not hold keys.
    """
    return Keys.parse(
        encryption_keys=keys["KOINONIA_ENCRYPTION_KEYS"],
        token_keys=keys["KOINONIA_TOKEN_KEYS"],
        blind_index_key=keys["KOINONIA_BLIND_INDEX_KEY"],
    )


def for_containers(kept: Mapping[str, str]) -> dict[str, str]:
    """New secrets for docker-compose.yml, the simulated carrier's under names that leave the real one's to be set.

    Keys that are ``kept`` go on: `koinonia up` reads the same ``.env`` file, and has data under them.
    """
    made = _make(key_id="1") | {name: kept[name] for name in _DATA_KEYS if name in kept}
    named = {name.replace("_TELNYX_", "_SIMULATOR_"): value for name, value in made.items()}
    return named | {name: secrets.token_urlsafe(24) for name in ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD")}


def _make(key_id: str = "development-1") -> dict[str, str]:
    seed = secrets.token_bytes(32)
    return {
        "KOINONIA_ENCRYPTION_KEYS": f"{key_id}:{_key()}",
        "KOINONIA_TOKEN_KEYS": f"{key_id}:{_key()}",
        "KOINONIA_BLIND_INDEX_KEY": _key(),
        "KOINONIA_TELNYX_API_KEY": f"KEY{secrets.token_hex(24)}",
        "KOINONIA_TELNYX_PUBLIC_KEY": base64.b64encode(bytes(SigningKey(seed).verify_key)).decode(),
        "KOINONIA_SIMULATOR_SIGNING_SEED": base64.b64encode(seed).decode(),
        **{f"KOINONIA_{service.upper()}_PASSWORD": secrets.token_urlsafe(24) for service in SERVICES},
    }


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
