"""HTTP as bytes over a socket: what no client would send, and whatever comes back."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from koinonia.cli.state import Process

from .platform import Platform

MEBIBYTE = 1024 * 1024
PATIENCE_SECONDS = 90.0  # three times what the gateway grants, on a busy machine

_HEAD = re.compile(rb"HTTP/[01]\.\d (\d{3}) [^\r\n]*\r\n(.*?)\r\n\r\n", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """One answer; names of headers are small."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """What an error of ours says."""
        found: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        return found

    @property
    def fields(self) -> list[str]:
        """Which fields an error names."""
        return [detail["field"] for detail in self.error["details"]]


async def connect(url: str, limit: int = 65536) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of one's own, which keeps so many bytes unread."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return await asyncio.open_connection(parts.hostname, parts.port, limit=limit)


async def speak(url: str, pieces: bytes | Iterable[bytes], seconds: float = PATIENCE_SECONDS) -> list[Reply]:
    """Say this, and return all that is answered until the connection is closed there.

    Raises:
        TimeoutError: it is not closed in time.
    """
    reader, writer = await connect(url)
    heard = bytearray()
    try:
        async with asyncio.timeout(seconds):
            try:
                for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                    writer.write(piece)
                    await writer.drain()
            except ConnectionError:
                pass  # it was closed while we spoke; what was answered can still be read
            try:
                while part := await reader.read(65536):
                    heard += part
            except ConnectionError:
                pass
    finally:
        writer.close()
    return list(replies(bytes(heard)))


def replies(heard: bytes) -> Iterator[Reply]:
    """The answers in what was heard; ``100 Continue`` is none."""
    while heard:
        head = _HEAD.match(heard)
        assert head is not None, f"this is no HTTP: {heard[:200]!r}"
        lines = [line.partition(b":") for line in head[2].split(b"\r\n")]
        headers = {name.decode().lower(): value.strip().decode() for name, _, value in lines}
        end = head.end() + int(headers.get("content-length", "0"))
        if head[1] != b"100":
            yield Reply(int(head[1]), headers, heard[head.end() : end])
        heard = heard[end:]


@asynccontextmanager
async def flat_memory(platform: Platform, mebibytes: int) -> AsyncIterator[None]:
    """Fail when any process of ours takes, even for a moment, so much more than before."""
    processes = {name: process for name, process in platform.state.read_processes().items() if is_ours(process)}
    for process in processes.values():
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = {name: memory_of(process, "VmRSS") for name, process in processes.items()}
    yield
    grown = {name: (memory_of(process, "VmHWM") - before[name]) // MEBIBYTE for name, process in processes.items()}
    assert len(grown) > 6
    assert {name: growth for name, growth in grown.items() if growth > mebibytes} == {}


def is_ours(process: Process) -> bool:
    """Whether it is a service of ours, and no server."""
    return process.pid is not None and process.url.startswith("http://")


def memory_of(process: Process, kind: str) -> int:
    """Bytes; of ``VmRSS``, what it has, or ``VmHWM``, the most that it had."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {kind}")


def open_files_of(process: Process) -> int:
    """How many files, sockets among them, a process has open."""
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())
