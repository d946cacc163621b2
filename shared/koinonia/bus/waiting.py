"""Waiting without polling: for the first of several events, and between tries."""

import asyncio
import random


async def first(*events: asyncio.Event, timeout_seconds: float | None = None) -> None:
    """Return when one of the events is set, or when the time is over."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def backoff_seconds(tries: int, *, base: float = 0.1, limit: float = 2.0) -> float:
    """The wait after the ``tries``-th failure in a row, from 1: doubling up to ``limit``, half of it left to chance."""
    full = min(limit, base * 2.0 ** min(tries - 1, 16))
    return full * (0.5 + random.random() / 2)
