"""The application of a service: its endpoints behind doors, under the observing middleware, with health routes."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from koinonia.api import Endpoint
from koinonia.db import Database
from koinonia.web import cors, health
from koinonia.web.call import Function, Handler, Raw
from koinonia.web.door import Door, Identify
from koinonia.web.health import Probe
from koinonia.web.observing import DRAINING, EXPRESS, HTTPS, LOAD, Load, common_headers, count, observe


def build_app(
    handlers: Mapping[Endpoint, Handler | Raw | Function],
    *,
    identify: Identify,
    probe: Probe,
    database: Database | None = None,
    https: bool = False,
    operators: bool = True,
    cors_origins: frozenset[str] = frozenset(),
) -> web.Application:
    """An application that answers these endpoints.

    Args:
        handlers: a bare function is a ``Handler`` with a transaction and no way to rebuild its answer.
        identify: ``signed_identity(keys)`` behind the gateway; the gateway has its own.
        https: whether browsers come by https, so that they may be told to stay with it.
        cors_origins: the other origins whose pages may call.
        operators: whether ``/metrics`` and the details are served here too, or (False) on an application of their own.
    """
    app = _application(https=https, cors_origins=cors_origins)
    for endpoint, handler in handlers.items():
        known = handler if isinstance(handler, Handler | Raw) else Handler(handler)
        app.router.add_route(endpoint.method, endpoint.path, Door(endpoint, known, identify, database).answer)
        if isinstance(known, Raw) and known.express:
            app[EXPRESS][endpoint.method, endpoint.path] = known.function
    health.add_public_routes(app, probe)
    if operators:
        health.add_operator_routes(app, probe)
    return app


def build_operators_app(probe: Probe) -> web.Application:
    """Health, details and metrics alone, for a port that the public does not reach."""
    app = _application(https=False)
    health.add_public_routes(app, probe)
    health.add_operator_routes(app, probe)
    return app


def _application(*, https: bool, cors_origins: frozenset[str] = frozenset()) -> web.Application:
    draining = asyncio.Event()
    # The size of bodies is bounded by the doors, endpoint by endpoint.
    app = web.Application(middlewares=[count, observe(draining=draining.is_set)])
    app.on_response_prepare.append(common_headers(https=https))
    if cors_origins:
        app.middlewares.append(cors.preflight(cors_origins))
        app.on_response_prepare.append(cors.headers(cors_origins))
    app[DRAINING] = draining
    app[LOAD] = Load()
    app[EXPRESS] = {}
    app[HTTPS] = https
    return app
