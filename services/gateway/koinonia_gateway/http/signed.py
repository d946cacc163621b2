"""Bodies that are signed: read raw, and known by nothing but their signature."""

from collections.abc import Callable, Mapping

import structlog
from aiohttp import web

from koinonia.api import Endpoint
from koinonia.errors import RateLimited
from koinonia.web import EXTRA_HEADERS, read_body
from koinonia.webhooks import SignatureInvalid
from koinonia_gateway.callers import Callers, address_of, limited_address_of
from koinonia_gateway.domain.rates import Rate
from koinonia_gateway.limits import Limiter

log = structlog.get_logger()

Verify = Callable[[bytes, Mapping[str, str]], None]
"""Checks a raw body by the request's headers; raises ``SignatureInvalid``."""


class SignedBodies:
    """Reads what is signed, and counts what is not, per address."""

    def __init__(self, callers: Callers, limiter: Limiter, rate: Rate) -> None:
        self._callers = callers
        self._limiter = limiter
        self._rate = rate

    async def read(self, request: web.Request, endpoint: Endpoint, verify: Verify) -> bytes:
        """The whole raw body, verified.

        Raises:
            SignatureInvalid: ``verify`` does.
            RateLimited: so it does for this address too often.
            PayloadTooLarge, ValidationFailed: as `read_body`.
        """
        body = await read_body(request, endpoint.body_limit)
        try:
            verify(body, request.headers)
        except SignatureInvalid:
            await self._count_failure(request)
            raise
        return body

    async def _count_failure(self, request: web.Request) -> None:
        self._callers.locate(request)
        standing = await self._limiter.hit_leased(self._rate, f"webhook:{limited_address_of(request)}")
        log.warning("webhook_refused", address=address_of(request))
        if standing.exceeded:
            request[EXTRA_HEADERS].update(standing.headers())
            raise RateLimited(retry_after_seconds=standing.seconds_left)
