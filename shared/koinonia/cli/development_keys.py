"""Keys and passwords for development, made once per state directory."""

import base64
import os
import secrets
from pathlib import Path

from nacl.signing import SigningKey

from koinonia.db.roles import SERVICES

_HEADER = (
    "# Made by `koinonia up` for development. Without these, what lies encrypted in the database cannot be read.\n"
)


def ensure(path: Path) -> dict[str, str]:
    """Read the keys, made now if there are none; variable → value."""
    if not path.exists():
        lines = [f"{name}={value}\n" for name, value in _make().items()]
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines([_HEADER, *lines])
        draft.rename(path)
    entries = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in entries}


def _make() -> dict[str, str]:
    seed = secrets.token_bytes(32)
    return {
        "KOINONIA_ENCRYPTION_KEYS": f"development-1:{_key()}",
        "KOINONIA_TOKEN_KEYS": f"development-1:{_key()}",
        "KOINONIA_BLIND_INDEX_KEY": _key(),
        "KOINONIA_TELNYX_API_KEY": f"KEY{secrets.token_hex(24)}",
        "KOINONIA_TELNYX_PUBLIC_KEY": base64.b64encode(bytes(SigningKey(seed).verify_key)).decode(),
        "KOINONIA_SIMULATOR_SIGNING_SEED": base64.b64encode(seed).decode(),
        **{f"KOINONIA_{service.upper()}_PASSWORD": secrets.token_urlsafe(24) for service in SERVICES},
    }


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
