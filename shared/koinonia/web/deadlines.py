"""Deadlines: how long the caller of a request will wait for its answer. Work that nobody waits for is not done.

The header holds what is left, in milliseconds: each machine counts from its arrival by its own clock, and no two clocks
need agree. What was held up before it arrived, the identity's own end refuses. Only services of ours are believed: see
``koinonia.web.door``.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from koinonia.errors import DependencyUnavailable

HEADER = "X-Koinonia-Time-Left"


class DeadlineOver(DependencyUnavailable):
    """There was no time left for this request; try again in a moment."""


def header(seconds: float) -> str:
    """The header's value: rounded down, so that nobody works longer than is waited for."""
    return str(max(0, int(seconds * 1000)))


@asynccontextmanager
async def kept(headers: Mapping[str, str]) -> AsyncIterator[None]:
    """Give what is done inside the time that the request's header says; without one, as long as it takes.

    A transaction that is still open then is rolled back.

    Raises:
        DeadlineOver: the time is over, already when it comes or before all is done.
    """
    left = _left(headers.get(HEADER, ""))
    if left == 0:
        raise DeadlineOver
    limit = asyncio.timeout(left)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise DeadlineOver from error
        raise


def _left(text: str) -> float | None:
    return int(text[:9]) / 1000 if text.isascii() and text.isdigit() else None
