"""The figures and how they are condensed; no I/O."""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

CARRIER = "carrier"


class Spread(msgspec.Struct, frozen=True):
    """A figure that was measured several times."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


class Statement(msgspec.Struct, frozen=True):
    """One statement as ``pg_stat_statements`` has it."""

    role: str
    query: str
    calls: int
    rows: int
    milliseconds: float
    wal_bytes: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work, done in one way. CPU is in microseconds per recipient, by process."""

    way: str
    recipients: int
    latency_seconds: float
    concurrency: int
    seconds: float  # from the first request, or from `send`, to the last receipt answered, or stored
    cpu_us: Mapping[str, float]
    webhooks_repeated: int = 0

    @property
    def rate(self) -> float:
        """Recipients per second."""
        return self.recipients / self.seconds

    @property
    def own_cpu_us(self) -> float:
        """What it cost without the carrier."""
        return sum(cost for name, cost in self.cpu_us.items() if name != CARRIER)


class PlatformRun(Run, frozen=True, kw_only=True):
    """One broadcast through the platform. Latencies count from when the carrier first sent a last receipt."""

    accept_seconds: float
    peak_bytes: Mapping[str, int]
    statements: float  # per recipient, as all that follows but the latencies
    transactions: float
    published: float
    delivered: float
    wal_bytes: float
    stored_p50_ms: float
    stored_p99_ms: float
    answered_p50_ms: float
    answered_p99_ms: float
    by_statement: Sequence[Statement]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Broadcasts through the platform, and the same work in other ways, turn about."""

    platform: Sequence[PlatformRun]
    others: Mapping[str, Sequence[Run]]
    idle_platform: float  # of a core, that the platform took while the yardstick ran

    @property
    def latency_seconds(self) -> float:
        """Of the carrier's answers."""
        return self.platform[0].latency_seconds


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def per_recipient(before: Mapping[str, float], after: Mapping[str, float], recipients: int) -> dict[str, float]:
    """CPU seconds since their start, twice, to microseconds per recipient."""
    return {name: (seconds - before.get(name, 0.0)) / recipients * 1e6 for name, seconds in after.items()}


def ratios(runs: Sequence[Run], base: Sequence[Run]) -> Spread:
    """The rates of ``runs`` to those that took turns with them."""
    return Spread.of([run.rate / other.rate for run, other in zip(runs, base, strict=True)])
