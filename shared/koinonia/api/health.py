"""How a service is. Every service has these routes; the web layer answers them."""

from datetime import datetime
from typing import Literal, Self

from typing_extensions import override

from koinonia.api.common import EXAMPLE_TIME, Response

CheckStatus = Literal["ok", "degraded", "down"]


class Check(Response, frozen=True, kw_only=True):
    """One thing looked at."""

    status: CheckStatus
    detail: str | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(status="ok")


class Health(Response, frozen=True, kw_only=True):
    """``responseTime``: milliseconds that looking took."""

    status: CheckStatus
    timestamp: datetime
    response_time: float
    checks: dict[str, Check]

    @override
    @classmethod
    def example(cls) -> Self:
        names = ("database", "redis", "queues", "environment", "uptime")
        return cls(
            status="ok", timestamp=EXAMPLE_TIME, response_time=1.2, checks={name: Check.example() for name in names}
        )


class Readiness(Response, frozen=True, kw_only=True):
    """Whether to send work here; ``reason`` when not."""

    ready: bool
    reason: str | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(ready=True)


class Liveness(Response, frozen=True, kw_only=True):
    """The process answers."""

    alive: bool = True

    @override
    @classmethod
    def example(cls) -> Self:
        return cls()


class SlowStatement(Response, frozen=True, kw_only=True):
    """A statement of this process, by the name that stands in its text. Milliseconds."""

    statement: str
    calls: int
    mean_ms: float
    longest_ms: float

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(statement="messages.list_page", calls=120, mean_ms=2.1, longest_ms=140.0)


class Connections(Response, frozen=True, kw_only=True):
    """To the database: of everybody, and of this service with what they do."""

    limit: int
    everybody: int
    own: int
    own_active: int
    own_idle_in_transaction: int
    own_waiting_for_locks: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(limit=200, everybody=60, own=10, own_active=1, own_idle_in_transaction=0, own_waiting_for_locks=0)


class TableBloat(Response, frozen=True, kw_only=True):
    """Rows that nobody sees any more, and that the next vacuum makes room of; ``deadShare`` of all rows."""

    table: str
    live_rows: int
    dead_rows: int
    dead_share: float
    bytes: int
    vacuumed_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            table="recipients", live_rows=9000, dead_rows=1000, dead_share=0.1, bytes=1_000_000, vacuumed_at=None
        )


class DatabaseFigures(Response, frozen=True, kw_only=True):
    """What the server's statistics say. ``cacheHitRatio``: of pages read; ``bloat``: the ten with most dead rows."""

    connections: Connections
    cache_hit_ratio: float | None
    bloat: list[TableBloat]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(connections=Connections.example(), cache_hit_ratio=0.99, bloat=[TableBloat.example()])


class DatabaseHealth(Response, frozen=True, kw_only=True):
    """The database as this process sees it; ``figures`` is null while it does not answer."""

    check: Check
    pool: dict[str, int]
    slow_statements: list[SlowStatement]
    figures: DatabaseFigures | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            check=Check.example(),
            pool={"size": 4, "idle": 3, "limit": 10},
            slow_statements=[SlowStatement.example()],
            figures=DatabaseFigures.example(),
        )
