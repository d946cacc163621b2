"""Reading a body: bounded in size and in time, in the plain."""

import asyncio

from aiohttp import web

from koinonia.errors import PayloadTooLarge, ValidationFailed

_MEBIBYTE = 1024 * 1024


async def read(request: web.Request, limit: int) -> bytes:
    """The whole body.

    The connection is closed after a refusal, since the rest of the body stands in it.

    Raises:
        PayloadTooLarge: more than ``limit`` bytes, announced or sent.
        ValidationFailed: it is compressed, or did not arrive in time.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ValidationFailed.field("Content-Encoding", "Bodies are taken uncompressed")
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge
    try:
        async with asyncio.timeout(_seconds(limit)):
            return await _read_up_to(request, limit)
    except TimeoutError:
        raise ValidationFailed.field("body", "Did not arrive in time") from None


async def _read_up_to(request: web.Request, limit: int) -> bytes:
    parts = bytearray()
    async for part in request.content.iter_any():
        parts += part
        if len(parts) > limit:
            raise PayloadTooLarge
    return bytes(parts)


def _seconds(limit: int) -> float:
    """15 s, and 5 more for each MiB beyond the first: an import over a phone's line."""
    return 15.0 + 5.0 * max(0, limit // _MEBIBYTE - 1)
