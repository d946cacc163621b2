"""One run of pytest, over all its processes: a directory, locks in it, and the keeper of its servers."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from koinonia.testing.keeper import Found, run_name

_PATIENCE_SECONDS = 150.0


@dataclass(frozen=True)
class Run:
    """The run's directory, and the process id of the pytest that a person or a script started."""

    KEY: ClassVar[pytest.StashKey["Run"]] = pytest.StashKey()

    directory: Path
    pid: int

    @property
    def name(self) -> str:
        """A name that no other run has, fit for databases and virtual hosts."""
        return run_name(self.directory)

    @property
    def has_keeper(self) -> bool:
        return (self.directory / "keeper.log").exists()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep the run's other processes out."""
        with (self.directory / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def servers(self) -> Found:
        """Return where the run's servers are; whoever asks first has them started, the others wait."""
        with self.lock("servers"):
            answer = self.directory / "servers.json"
            if not answer.exists():
                self._start_keeper(answer)
            found = msgspec.json.decode(answer.read_bytes(), type=Found)
        if found.error:
            pytest.exit(f"no servers for the tests: {found.error}", returncode=2)
        return found

    def _start_keeper(self, answer: Path) -> None:
        command = [sys.executable, "-m", "koinonia.testing.keeper", str(self.pid), str(self.directory)]
        log = self.directory / "keeper.log"
        with log.open("wb") as output:
            # In a session of its own: Ctrl-C ends the tests, and their end ends the keeper.
            keeper = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not answer.exists():
            if keeper.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the servers for the tests did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        keeper.returncode = os.EX_OK  # it outlives this process on purpose: no warning of a child left running
