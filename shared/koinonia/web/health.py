"""How this process is: alive, ready, healthy, and its metrics."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from koinonia import clock, telemetry
from koinonia.api.health import (
    Check,
    CheckStatus,
    DatabaseFigures,
    DatabaseHealth,
    Health,
    Liveness,
    Readiness,
    SlowStatement,
)
from koinonia.db import Database, statement, statistics
from koinonia.errors import KoinoniaError, is_transient
from koinonia.web.database_figures import look_up
from koinonia.web.observing import DRAINING
from koinonia.web.rendering import json_response

CheckFunction = Callable[[], Awaitable[Check]]

_CHECK_SECONDS = 1.0
_KEPT_SECONDS = 1.0  # so that strangers who ask for /health cannot make us ask the database each time
_PATIENCE_SECONDS = 0.05  # who asks for /health waits no longer; until a slow check ends, its last result is shown
_SLOWEST_SHOWN = 10
_FIGURES_KEPT_SECONDS = 5.0

PING = statement("health.ping", "SELECT 1")


@dataclass(slots=True, kw_only=True)
class Probe:
    """What the health routes show.

    Attributes:
        checks: looked at for ``/health``, a second each at most.
        not_ready: the reason, or None; only for what keeps the process from working at all.
        details: figures for ``/health/detailed``.
    """

    service: str
    checks: Mapping[str, CheckFunction] = field(default_factory=dict)
    not_ready: Callable[[], str | None] = lambda: None
    environment: str = "development"
    details: Callable[[], Mapping[str, Any]] = dict
    database: Database | None = None
    _started: float = field(default_factory=time.monotonic)
    _known: dict[str, Check] = field(default_factory=dict)  # what each check said last
    _look: "asyncio.Future[Any] | None" = None
    _looked_at: float = -math.inf
    _figures: "asyncio.Future[DatabaseFigures] | None" = None
    _figures_at: float = 0.0

    async def health(self) -> Health:
        """All checks, looked at once a second at most; a slow one ends a second later at most, and is shown then."""
        started = time.perf_counter()
        await self.look(_PATIENCE_SECONDS)
        unknown = Check(status="down", detail="no answer yet")
        checks = {name: self._known.get(name, unknown) for name in self._functions()}
        return Health(
            status=_worst(checks.values()),
            timestamp=clock.now(),
            response_time=round((time.perf_counter() - started) * 1000, 2),
            checks=checks,
        )

    async def look(self, seconds: float = 2 * _CHECK_SECONDS) -> None:
        """Have the checks looked at, and wait for them, but no longer than so many seconds."""
        if self._look is None or (self._look.done() and time.monotonic() - self._looked_at > _KEPT_SECONDS):
            self._looked_at = time.monotonic()
            self._look = asyncio.gather(*(self._note(name, each) for name, each in self._functions().items()))
        await asyncio.wait([self._look], timeout=seconds)
        if self._look.done():
            self._look.result()

    async def figures(self) -> DatabaseFigures | None:
        """What the database's statistics say, looked up every five seconds at most; None: it does not answer."""
        if self.database is None:
            return None
        if self._figures is None or time.monotonic() - self._figures_at > _FIGURES_KEPT_SECONDS:
            self._figures = asyncio.ensure_future(look_up(self.database, timeout_seconds=_CHECK_SECONDS))
            self._figures_at = time.monotonic()
        try:
            return await asyncio.shield(self._figures)
        except Exception as error:
            if not is_transient(error):
                raise
            return None

    async def _note(self, name: str, function: CheckFunction) -> None:
        self._known[name] = await _bounded(function)

    def _functions(self) -> dict[str, CheckFunction]:
        own: dict[str, CheckFunction] = {"environment": self._environment, "uptime": self._uptime}
        if self.database is not None:
            own["database"] = self._database
        return {**own, **self.checks}

    async def _environment(self) -> Check:
        return Check(status="ok", detail=self.environment)

    async def _uptime(self) -> Check:
        return Check(status="ok", detail=f"{time.monotonic() - self._started:.0f} s")

    async def _database(self) -> Check:
        if self.database is None:
            return Check(status="down", detail="not connected")
        started = time.perf_counter()
        async with self.database.across_churches(timeout_seconds=_CHECK_SECONDS) as tx:
            await tx.fetch_value(PING)
        return Check(status="ok", detail=f"{(time.perf_counter() - started) * 1000:.1f} ms")


def add_public_routes(app: web.Application, probe: Probe) -> None:
    """What anybody may see."""

    async def health(_request: web.Request) -> web.Response:
        found = await probe.health()
        return json_response(found, 503 if found.status == "down" else 200)

    async def ready(request: web.Request) -> web.Response:
        reason = "draining" if request.app[DRAINING].is_set() else probe.not_ready()
        return json_response(Readiness(ready=reason is None, reason=reason), 200 if reason is None else 503)

    async def alive(_request: web.Request) -> web.Response:
        return json_response(Liveness())

    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    app.router.add_get("/alive", alive)


def add_operator_routes(app: web.Application, probe: Probe) -> None:
    """What operators see, on a port that the public does not reach."""

    async def detailed(_request: web.Request) -> web.Response:
        found = msgspec.to_builtins(await probe.health())
        return json_response({"service": probe.service, **found, "details": dict(probe.details())})

    async def database(_request: web.Request) -> web.Response:
        check = (await probe.health()).checks.get("database", Check(status="down", detail="not connected"))
        figures = await probe.figures() if check.status != "down" else None
        found = DatabaseHealth(
            check=check,
            pool=probe.database.pool_figures() if probe.database is not None else {},
            slow_statements=[
                SlowStatement(statement=name, calls=each.calls, mean_ms=each.mean_ms, longest_ms=each.longest_ms)
                for name, each in statistics.slowest(_SLOWEST_SHOWN)
            ],
            figures=figures,
        )
        return json_response(found, 503 if figures is None else 200)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=telemetry.prometheus_text(), content_type="text/plain", charset="utf-8")

    app.router.add_get("/health/detailed", detailed)
    app.router.add_get("/health/database", database)
    app.router.add_get("/metrics", metrics)


async def _bounded(function: CheckFunction) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await function()
    except TimeoutError:
        return Check(status="down", detail="no answer in time")
    except Exception as error:
        if isinstance(error, KoinoniaError) or is_transient(error):
            return Check(status="down", detail=type(error).__name__)
        raise


def _worst(checks: Any) -> CheckStatus:
    statuses: set[CheckStatus] = {check.status for check in checks}
    for status in ("down", "degraded"):
        if status in statuses:
            return status
    return "ok"
