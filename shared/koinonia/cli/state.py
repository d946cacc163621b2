"""The directory of a running ``koinonia up``: its lock, ``processes.json``, logs and keys."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from koinonia.cli.main import CommandFailed
from koinonia.servers.child import private

DEFAULT = Path(".run")


class Process(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One started process. ``pid`` is null while it is down and waits to be started again."""

    pid: int | None
    port: int
    url: str
    management_url: str | None = None  # of the broker


class StateDirectory:
    """The files of one platform on this machine; only its owner can read them."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.data = self.path / "data"
        self.keys = self.path / "keys.env"
        self.control = self.path / "control"  # a socket on which a running `koinonia up` is asked
        self._processes = self.path / "processes.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the directory, and keep a second ``koinonia up`` out of it.

        Raises:
            CommandFailed: one is running there, or the directory cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
            for folder in (self.logs, self.data):
                folder.mkdir(exist_ok=True)
            # Not inherited by children, and let go by the kernel however this process ends.
            file = (self.path / "lock").open("w")
        except OSError as error:
            raise CommandFailed(f"{self.path}: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandFailed(f"a `koinonia up` is running on {self.path} already") from None
            yield
            self._processes.unlink(missing_ok=True)

    def _make_private(self) -> None:
        """Let nobody else in: keys and logs are here.

        Raises:
            CommandFailed: other things are in it, whose directory must not be closed to others.
        """
        there = {each.name for each in self.path.iterdir()}
        if there and "lock" not in there:
            raise CommandFailed(f"{self.path} is not empty, and no state directory; name another")
        self.path.chmod(0o700)

    def write_processes(self, processes: Mapping[str, Process]) -> None:
        """Replace ``processes.json`` at one go."""
        draft = self._processes.with_suffix(".new")
        text = msgspec.json.format(msgspec.json.encode(processes), indent=2) + b"\n"
        with open(draft, "wb", opener=private) as file:
            file.write(text)
        os.replace(draft, self._processes)

    def read_processes(self) -> dict[str, Process]:
        """What runs; empty when nothing does."""
        try:
            return msgspec.json.decode(self._processes.read_bytes(), type=dict[str, Process])
        except FileNotFoundError:
            return {}
