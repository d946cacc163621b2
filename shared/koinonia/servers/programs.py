"""Where the servers' programs are on this machine."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

Kind = Literal["postgres", "rabbitmq", "redis"]

_RABBITMQ_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")


def postgres_directory() -> Path | None:
    """Return the folder that holds ``initdb`` and ``postgres`` (Debian keeps it off the PATH), the newest one first."""
    candidates = [
        _pg_config_directory(),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True),
    ]
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    for directory in candidates:
        if directory and (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    return None


def rabbitmq_script() -> Path | None:
    """Return the real start script. The one on the PATH of a Debian machine is a wrapper that changes user."""
    for candidate in (*_RABBITMQ_SCRIPTS, shutil.which("rabbitmq-server")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    return None


def is_installed(kind: Kind) -> bool:
    """Tell whether a private instance of this server could be started."""
    match kind:
        case "postgres":
            return postgres_directory() is not None
        case "rabbitmq":
            return rabbitmq_script() is not None and shutil.which("epmd") is not None
        case "redis":
            return shutil.which("redis-server") is not None


def _pg_config_directory() -> Path | None:
    program = shutil.which("pg_config")
    if program is None:
        return None
    answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _version(directory: Path) -> float:
    try:
        return float(directory.parent.name)
    except ValueError:
        return 0.0
