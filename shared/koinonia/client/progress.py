"""A message's live progress: server-sent events, taken up again where the stream broke.

Source: WHATWG HTML, 9.2 Server-sent events.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from uuid import UUID

import aiohttp
import msgspec

from koinonia.api import messages
from koinonia.api.messages import MessageProgress
from koinonia.client.errors import ApiError
from koinonia.client.transport import Transport

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 3.0


async def follow(transport: Transport, message_id: UUID) -> AsyncIterator[MessageProgress]:
    """Each state, from the present one to the last.

    Raises:
        ApiError: there is no such message, or the caller may not see it.
    """
    version: int | None = None
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            async with aclosing(_once(transport, message_id, version)) as states:
                async for progress in states:
                    wait = _FIRST_WAIT_SECONDS
                    if version is None or progress.version > version:
                        version = progress.version
                        yield progress
                    if progress.status in messages.FINAL_STATUSES:
                        return
        except ApiError as error:
            if error.status not in {429, 502, 503}:
                raise
            wait = max(wait, error.retry_after_seconds or 0.0)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            pass  # the stream broke; it is taken up again below
        await asyncio.sleep(wait)
        wait = min(_LONGEST_WAIT_SECONDS, wait * 2)


async def _once(transport: Transport, message_id: UUID, version: int | None) -> AsyncGenerator[MessageProgress]:
    headers = {"Accept": "text/event-stream"}
    if version is not None:
        headers["Last-Event-ID"] = str(version)
    async with transport.stream(messages.EVENTS, {"id": message_id}, headers) as content:
        data: list[bytes] = []
        async for line in content:
            text = line.rstrip(b"\r\n")
            if text.startswith(b"data:"):
                data.append(text[5:].removeprefix(b" "))
            elif not text and data:
                yield msgspec.json.decode(b"\n".join(data), type=MessageProgress)
                data = []
