"""Helper processes of a benchmark, talked to by lines; the kernel ends them with it."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bench.platform import BenchFailed
from bench.work import Ended

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Helper:
    """One helper process: ``python -m module arguments``."""

    def __init__(self, process: asyncio.subprocess.Process, module: str) -> None:
        self._process = process
        self._module = module

    @classmethod
    async def start(cls, module: str, *arguments: str, environ: Mapping[str, str] | None = None) -> "Helper":
        """Start it; what it has to complain about goes to our standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
            preexec_fn=_end_with_parent,
        )
        return cls(process, module)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def say(self, line: bytes) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> bytes:
        """The next line that it writes.

        Raises:
            BenchFailed: it has ended.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"{self._module} ended with status {await self._process.wait()}")
        return line.strip()

    async def ended(self) -> Ended:
        """What it says at its end."""
        return msgspec.json.decode(await self.hear(), type=Ended)

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
