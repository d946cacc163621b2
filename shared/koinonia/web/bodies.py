"""Reading a body: bounded in size and in time, in the plain."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from koinonia.errors import PayloadTooLarge, ValidationFailed

_MEBIBYTE = 1024 * 1024
PATIENCE_SECONDS = 15.0
SECONDS_PER_MEBIBYTE = 20.0  # an import over a phone's line
MOST_SECONDS = 120.0


async def read(request: web.Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        PayloadTooLarge, ValidationFailed: as `pieces`.
    """
    rest = pieces(request, limit)
    if request.content.is_eof() and request.content.exception() is None:  # it has come whole: nobody is waited for
        raw = request.content.read_nowait(-1)
        if len(raw) > limit:
            raise PayloadTooLarge
        return raw
    parts = bytearray()
    async for part in rest:
        parts += part
    return bytes(parts)


def pieces(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives.

    A sender has 15 s, and 20 more for each MiB that it has sent, but 120 at most. Only what is waited for it counts,
    not what the taker takes. The connection is closed after a refusal, since the rest of the body stands in it.

    Raises:
        PayloadTooLarge: more than ``limit`` bytes, announced (at once) or sent.
        ValidationFailed: it is compressed (at once), or comes too slowly, or breaks off.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ValidationFailed.field("Content-Encoding", "Bodies are taken uncompressed")
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge
    return _pieces(request, limit)


async def _pieces(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    size, waited = 0, 0.0
    while True:
        allowed = min(PATIENCE_SECONDS + SECONDS_PER_MEBIBYTE * size / _MEBIBYTE, MOST_SECONDS)
        part, seconds = await _next(request, allowed - waited)
        if not part:
            return
        size, waited = size + len(part), waited + seconds
        if size > limit:
            raise PayloadTooLarge
        yield part


async def _next(request: web.Request, seconds: float) -> tuple[bytes, float]:
    """What has come, and how long it was waited for; nothing at the end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(seconds):
            part = await request.content.readany()
    except TimeoutError:
        raise ValidationFailed.field("body", "Did not arrive in time") from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError):
        raise ValidationFailed.field("body", "Did not arrive whole") from None
    return part, loop.time() - began
