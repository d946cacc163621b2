"""Getting missing servers from the distribution's packages: for root on Debian or Ubuntu, and after saying so."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from koinonia.servers import programs
from koinonia.servers.programs import Kind
from koinonia.servers.unavailable import ServersUnavailable

_PACKAGES: dict[Kind, tuple[str, ...]] = {
    "postgres": ("postgresql",),
    "rabbitmq": ("rabbitmq-server",),
    "redis": ("redis-server",),
}
_POLICY = Path("/usr/sbin/policy-rc.d")
_LOCK = Path("/run/koinonia-install.lock")
_PATIENCE = "DPkg::Lock::Timeout=300"  # a machine just started may be installing its updates


def packages(kinds: Collection[Kind]) -> list[str]:
    """Return the distribution's names of these servers' packages."""
    return [package for kind in kinds for package in _PACKAGES[kind]]


def can_install() -> bool:
    """Tell whether this process may install packages here: root, on Debian, Ubuntu or one like them."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def install(kinds: Collection[Kind]) -> None:
    """Install these servers' packages without starting any service. Whoever asks meanwhile waits, and finds them there.

    Raises:
        ServersUnavailable: the package manager failed; its last lines follow.
    """
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [kind for kind in kinds if not programs.is_installed(kind)]
        if missing:
            _install(packages(missing))


def _install(names: Sequence[str]) -> None:
    sys.stderr.write(f"koinonia: installing {', '.join(names)} with apt-get (nothing is started as a service)\n")
    sys.stderr.flush()
    with _services_stay_stopped():
        _apt_get("update", "-q")
        _apt_get("install", "-q", "-y", "--no-install-recommends", "-o", _PATIENCE, *names)


@contextmanager
def _services_stay_stopped() -> Iterator[None]:
    """Packages start their service when installed; Debian's policy hook keeps them from it."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt_get(*arguments: str) -> None:
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    ended = subprocess.run(
        ["/usr/bin/apt-get", *arguments], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL, check=False, start_new_session=True,  # Ctrl-C would leave packages half installed
    )  # fmt: skip
    if ended.returncode != 0:
        tail = "\n".join(ended.stdout.splitlines()[-10:])
        raise ServersUnavailable(f"apt-get {arguments[0]} failed; its output ends:\n{tail}")
