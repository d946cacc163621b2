"""Waiting for what other processes do, on a condition and never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.1


class DemoFailed(Exception):
    """A step of the demo did not come out; the message says which."""


async def until(what: str, probe: Callable[[], Awaitable[T | None]], *, seconds: float) -> T:
    """Ask until there is an answer.

    Raises:
        DemoFailed: none in time; the message names ``what`` was waited for.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (found := await probe()) is None:
        if loop.time() > deadline:
            raise DemoFailed(f"waited {seconds:g} s for {what}, in vain")
        await asyncio.sleep(_PAUSE_SECONDS)
    return found
