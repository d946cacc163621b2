"""Pages of other origins: those that a setting names may call with their visitor's cookies, and read the answers.

To all others nothing is said, so that browsers keep the answers from them. An API key is no page's: the header that
carries it is not among those that may be sent.

Source: Fetch standard, "CORS protocol".
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

_METHODS = "GET, POST, PATCH, DELETE"
_SENT = "Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-CSRF-Token, X-Request-Id, traceparent"
_READ = "Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_KNOWN_SECONDS = "600"


def preflight(origins: frozenset[str]) -> Middleware:
    """The middleware that answers browsers which ask beforehand."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        asks = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
        if not asks or request.headers.get(hdrs.ORIGIN) not in origins:
            return await handler(request)
        return web.Response(
            status=204,
            headers={
                hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
                hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _SENT,
                hdrs.ACCESS_CONTROL_MAX_AGE: _KNOWN_SECONDS,
            },
        )

    return answer


def headers(origins: frozenset[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The hook that lets their pages read an answer, a stream's too."""

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        vary = response.headers.get(hdrs.VARY)
        response.headers[hdrs.VARY] = f"{vary}, {hdrs.ORIGIN}" if vary else hdrs.ORIGIN
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in origins:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _READ

    return on_prepare
