"""Backoff and waiting for the first of several events."""

import asyncio

from koinonia.bus.waiting import backoff_seconds, first


def test_a_backoff_doubles_up_to_its_limit_and_half_of_it_is_chance() -> None:
    for tries, full in [(1, 0.1), (2, 0.2), (3, 0.4), (5, 1.6), (6, 2.0), (10_000, 2.0)]:
        waits = [backoff_seconds(tries) for _ in range(100)]
        assert full / 2 <= min(waits) < max(waits) <= full


async def test_the_first_event_ends_the_wait() -> None:
    never, now = asyncio.Event(), asyncio.Event()
    now.set()
    await first(never, now, timeout_seconds=60)
    assert not never.is_set()


async def test_the_wait_ends_when_its_time_is_over() -> None:
    await first(asyncio.Event(), timeout_seconds=0.01)
