"""How this process is: alive, ready, healthy, and its metrics."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from koinonia import clock, telemetry
from koinonia.api.health import Check, CheckStatus, Health, Liveness, Readiness
from koinonia.db import Database, statement
from koinonia.errors import KoinoniaError, is_transient
from koinonia.web.observing import DRAINING
from koinonia.web.rendering import json_response

CheckFunction = Callable[[], Awaitable[Check]]

_CHECK_SECONDS = 1.0
_KEPT_SECONDS = 1.0  # so that strangers who ask for /health cannot make us ask the database each time

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
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _kept: Health | None = None
    _kept_at: float = 0.0

    async def health(self) -> Health:
        """All checks, at most once a second."""
        async with self._looking:
            if self._kept is None or time.monotonic() - self._kept_at > _KEPT_SECONDS:
                self._kept = await self._look()
                self._kept_at = time.monotonic()
            return self._kept

    async def _look(self) -> Health:
        started = time.perf_counter()
        functions = {**self._own_checks(), **self.checks}
        results = await asyncio.gather(*(_bounded(function) for function in functions.values()))
        checks = dict(zip(functions, results, strict=True))
        return Health(
            status=_worst(checks.values()),
            timestamp=clock.now(),
            response_time=round((time.perf_counter() - started) * 1000, 2),
            checks=checks,
        )

    def _own_checks(self) -> dict[str, CheckFunction]:
        own: dict[str, CheckFunction] = {"environment": self._environment, "uptime": self._uptime}
        if self.database is not None:
            own["database"] = self._database
        return own

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
        figures = probe.database.pool_figures() if probe.database is not None else {}
        check = (await probe.health()).checks.get("database")
        return json_response({"check": check, "pool": figures}, 503 if check is None or check.status == "down" else 200)

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
