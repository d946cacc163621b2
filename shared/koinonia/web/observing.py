"""The outermost middleware: request id, trace, log line, metrics, errors, headers."""

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from opentelemetry.trace import SpanKind, StatusCode

from koinonia import metrics, telemetry
from koinonia.db.statistics import StatementLog, statement_log
from koinonia.security.identity import Identity
from koinonia.security.redaction import redact
from koinonia.web import failures, rendering

log = structlog.get_logger()

DRAINING = web.AppKey("draining", asyncio.Event)
"""Set once the process stops: streams end themselves then."""


@dataclass(slots=True)
class Load:
    """How many requests are being answered."""

    count: int = 0


LOAD = web.AppKey("load", Load)
EXPRESS = web.AppKey("express", dict[tuple[str, str], Callable[[web.Request, Identity | None], Awaitable[Any]]])
"""The handlers that are called past router and middlewares, by method and path."""
HTTPS = web.AppKey("https", bool)

REQUEST_ID = web.RequestKey("request_id", str)
CALLER = web.RequestKey("caller", Identity)
EXTRA_HEADERS = web.RequestKey("extra_headers", dict[str, str])
_HEAD_AT = web.RequestKey("head_at", float)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET = frozenset({"/health", "/ready", "/alive", "/metrics", "/health/detailed", "/health/database"})


Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def common_headers(*, https: bool) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The last hook before a response's headers go out: streams pass it too."""

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        request[_HEAD_AT] = time.perf_counter()
        response.headers.update(request.get(EXTRA_HEADERS, {}))
        rendering.add_headers(response, request.get(REQUEST_ID, ""), https=https)

    return on_prepare


@web.middleware
async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Know how many requests are being answered, for draining."""
    load = request.app[LOAD]
    load.count += 1
    try:
        return await handler(request)
    finally:
        load.count -= 1


def observe(*, draining: Callable[[], bool]) -> Middleware:
    """Make the middleware. ``EXTRA_HEADERS`` of a request, such as its rate limit, go onto whatever is answered."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request_id_of(request)
        request[REQUEST_ID] = request_id
        request[EXTRA_HEADERS] = {}
        started = time.perf_counter()
        route = _route(request)
        with (
            statement_log() as noted,
            telemetry.work(
                f"{request.method} {route}",
                traceparent=request.headers.get("traceparent"),
                correlation=request_id,
                kind=SpanKind.SERVER,
                attributes={"http.request.method": request.method, "http.route": route},
            ) as span,
        ):
            response = await _answer(request, handler, request_id)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 500:
                span.set_status(StatusCode.ERROR)
            seconds = time.perf_counter() - started
            failures.warn_of_repetition(route, noted)
            if route not in _QUIET:
                _log(request, route, response.status, seconds, noted)
        metrics.request_seconds.record(
            # A stream lasts as long as somebody watches: what counts is how soon it began.
            request.get(_HEAD_AT, started + seconds) - started,
            {"method": request.method, "route": route, "status": str(response.status)},
        )
        if not response.prepared:
            rendering.compress(request, response)
            if draining():
                response.force_close()
        return response

    return middleware


def express(app: web.Application, handle: Handle) -> Handle:
    """Let the ``EXPRESS`` handlers of ``app`` answer without what a webhook has no use for.

    That is the router, middlewares, identity, and a line in the log for each that succeeds: they cost more than the
    webhook's own work, and it comes by the ten thousand. Its id, errors, headers, metrics, and the line of one that
    fails are those of any other request. While traces are exported it goes the long way, for its spans.
    """
    handlers, load, draining = app[EXPRESS], app[LOAD], app[DRAINING]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        function = handlers.get((request.method, path)) if handlers else None
        if function is None or telemetry.is_tracing():
            return await handle(request)
        known = cast(web.Request, request)  # what the application's own factory makes
        load.count += 1
        try:
            response = await _answer_express(known, path, lambda request: function(request, None))
        finally:
            load.count -= 1
        rendering.add_headers(response, known[REQUEST_ID], https=app[HTTPS])
        if draining.is_set():
            response.force_close()
        return response

    return answer


async def _answer_express(request: web.Request, route: str, handler: Handler) -> web.StreamResponse:
    request_id = request_id_of(request)
    request[REQUEST_ID] = request_id
    request[EXTRA_HEADERS] = {}
    started = time.perf_counter()
    with telemetry.correlated(request_id):
        response = await _answer(request, handler, request_id)
        seconds = time.perf_counter() - started
        if response.status >= 400:
            response.headers.update(request[EXTRA_HEADERS])
            _log(request, route, response.status, seconds, StatementLog())
    metrics.request_seconds.record(seconds, {"method": request.method, "route": route, "status": str(response.status)})
    return response


async def _answer(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:
        known = failures.as_known(error)
        response = failures.render(known, request_id)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
        if not request.content.is_eof():
            response.force_close()  # what is left of the body would be read as the next request
        return response


def request_id_of(request: web.BaseRequest) -> str:
    """The id that the request brings, when it is sane and no phone number, else a new one.

    It goes into rows, events and the audit log, where a number would lie in plain.
    """
    given = request.headers.get(rendering.REQUEST_ID, "")
    return given if _SANE_ID.fullmatch(given) and redact(given) == given else secrets.token_hex(16)


def _route(request: web.Request) -> str:
    """The path's pattern: its ids do not belong into names of metrics and spans."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _log(request: web.Request, route: str, status: int, seconds: float, noted: StatementLog) -> None:
    caller = request.get(CALLER)
    log.info(
        "request_served",
        method=request.method,
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 1),
        statements=noted.count,
        database_milliseconds=round(noted.seconds * 1000, 1),
        request_id=request[REQUEST_ID],
        church_id=str(caller.church_id) if caller else None,
        principal_id=str(caller.principal_id) if caller else None,
    )
