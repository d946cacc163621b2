"""Child processes that cannot outlive the process that started them. Linux only."""

import asyncio
import ctypes
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Child:
    """A running child process whose output goes to a log file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, negative for a signal."""
        if self.running:
            await _readable_once(os.pidfd_open(self.pid))
        return self._popen.wait()

    async def stop(self, how: signal.Signals = signal.SIGTERM, *, grace_seconds: float = 10) -> None:
        """Ask it to end, and kill its whole process group where it does not within ``grace_seconds``."""
        if not self.running:
            return
        self._popen.send_signal(how)
        try:
            await asyncio.wait_for(self.wait(), grace_seconds)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL to its process group, then wait until it is gone."""
        with suppress(ProcessLookupError):  # the group is gone already
            os.killpg(self.pid, signal.SIGKILL)
        await self.wait()

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environ: Mapping[str, str],
    directory: Path | None = None,
    user: int | None = None,
    group: int | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a process, in a session of its own, that the kernel kills when this process is gone.

    The session keeps a terminal's Ctrl-C from it: it is stopped in the order that its owner chooses.

    Raises:
        RuntimeError: not called from the main thread. The kernel sends the signal when the *thread* that forked ends.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("child processes are started from the main thread only")
    parent = os.getpid()

    def die_with_parent() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between the fork and the line above
            os._exit(1)

    with open(log, "ab", opener=private) as output, warnings.catch_warnings():
        # Python 3.12 warns of forking beside threads; the function above allocates nothing and takes no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            cwd=directory,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - see above
        )
    return Child(popen, log)


def private(path: str, flags: int) -> int:
    """An ``opener`` of files that only their owner can read, whoever made them."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


async def _readable_once(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
