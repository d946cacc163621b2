"""``python -m bench.gateway.load``: asks what it is told on its standard input, and tells what came of it.

Ready bytes over kept connections, and of an answer only what tells that it is whole: so it costs a fraction of what it
measures. Either each connection asks again as soon as it is answered, or requests are due at a rate. Then an answer's
time counts from when its request was due, also where no connection was free for it: a server that stalls is not
spared what would have come meanwhile.
"""

import asyncio
import re
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import cast

import msgspec
import uvloop

from bench.figures import percentile
from bench.gateway.asked import Job, Told

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+) *\r\n", re.IGNORECASE)
_TICK_SECONDS = 0.001


class Load:
    """One job."""

    def __init__(self, job: Job, requests: list[bytes]) -> None:
        self._job = job
        self._requests = iter(requests)
        self._connections: list[_Connection] = []
        self._idle: deque[_Connection] = deque()
        self._late: deque[float] = deque()  # requests that are due and found no connection: when they were
        self._due = 0
        self._took: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._refused = ""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Open all connections."""
        loop = asyncio.get_running_loop()
        for _ in range(min(self._job.concurrency, self._job.count)):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._job.port)
            self._connections.append(connection)
        self._idle.extend(self._connections)

    def close(self) -> None:
        """Close them."""
        for connection in self._connections:
            connection.abort()

    async def run(self) -> Told:
        """Ask all of it."""
        cpu, self._began = _cpu_seconds(), time.perf_counter()
        if self._job.rate:
            self._tick()
        else:
            self._due = len(self._idle)
            while self._idle:
                self._idle.popleft().ask(next(self._requests), self._began)
        await self._ended
        took = sorted(self._took)
        return Told(
            seconds=time.perf_counter() - self._began,
            cpu_seconds=_cpu_seconds() - cpu,
            p50_ms=percentile(took, 0.5) * 1000,
            p95_ms=percentile(took, 0.95) * 1000,
            p99_ms=percentile(took, 0.99) * 1000,
            statuses={str(status): count for status, count in self._statuses.items()},
            refused=self._refused,
        )

    def answered(self, connection: "_Connection", status: int, seconds: float) -> None:
        """One answer is whole."""
        self._took.append(seconds)
        self._statuses[status] += 1
        if status >= 300 and not self._refused:
            self._refused = connection.text()
        if len(self._took) == self._job.count:
            self._ended.set_result(None)
        elif self._late:
            connection.ask(next(self._requests), self._late.popleft())
        elif not self._job.rate and self._due < self._job.count:
            self._due += 1
            connection.ask(next(self._requests), time.perf_counter())
        else:
            self._idle.append(connection)

    def lost(self) -> None:
        """A connection has ended before its time."""
        if not self._ended.done():
            self._ended.set_exception(ConnectionError("a connection was closed"))

    def _tick(self) -> None:
        """Ask what has become due since."""
        now = time.perf_counter()
        while self._due < self._job.count and (due_at := self._began + self._due / self._job.rate) <= now:
            self._due += 1
            if self._idle:
                self._idle.popleft().ask(next(self._requests), due_at)
            else:
                self._late.append(due_at)
        if self._due < self._job.count:
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._whole = 0  # bytes that the answer has, once its head is there
        self._due_at = 0.0

    def ask(self, request: bytes, due_at: float) -> None:
        """Send one."""
        self._received = b""
        self._whole = 0
        self._due_at = due_at
        self._transport.write(request)

    def abort(self) -> None:
        """Close it."""
        self._transport.abort()

    def text(self) -> str:
        """The last answer."""
        return self._received.decode(errors="replace")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of this class

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._whole:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._received, 0, end + 2)
            if length is None:
                self.abort()  # nothing that is asked for here has an answer without one
                return
            self._whole = end + 4 + int(length[1])
        if len(self._received) >= self._whole:
            self._load.answered(self, int(self._received[9:12]), time.perf_counter() - self._due_at)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost()


def requests_of(job: Job) -> Iterator[bytes]:
    """All requests of a job, those of its callers in turn; each with a key of its own where it wants one."""
    nonce = time.time_ns()
    for number in range(job.count):
        head, body = job.asks[number % len(job.asks)]
        key = f"Idempotency-Key: bench-{nonce}-{number}\r\n" if job.keyed else ""
        size = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n" if body else ""
        yield f"{head}{key}{size}\r\n{body}".encode()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    """Job after job, a line each, until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        job = msgspec.json.decode(line, type=Job)
        load = Load(job, list(requests_of(job)))  # made before the clock starts
        await load.connect()
        sys.stdout.buffer.write(msgspec.json.encode(await load.run()) + b"\n")
        sys.stdout.flush()
        load.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
