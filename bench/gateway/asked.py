"""What the load is told and tells, in JSON lines; no I/O."""

from collections.abc import Mapping, Sequence

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask, of whom, and how fast."""

    port: int
    asks: Sequence[tuple[str, str]]  # head without its last empty line, and body; the callers' in turn
    count: int
    concurrency: int  # connections
    rate: float = 0.0  # requests per second; 0: each connection asks again when it is answered
    keyed: bool = False  # whether each request has an idempotency key of its own


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job."""

    seconds: float
    cpu_seconds: float  # of the load itself
    p50_ms: float
    p95_ms: float
    p99_ms: float
    statuses: Mapping[str, int]
    refused: str  # the first answer that was none, or nothing
