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
