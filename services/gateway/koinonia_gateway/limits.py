"""Rate limits, counted in Redis for all gateways together, and in this process alone while Redis is away.

A window begins and ends at the same time everywhere, so that its count needs no expiry to be asked for. A principal's
requests are taken from the shared count in blocks, so that few of them wait for a round trip. In a window, L the limit:

1. All gateways together let L through, and not one more. One that leaves its block unused keeps that from the others:
   L/20 at most, and less where it began late, since blocks shrink as the window's budget does.
2. While Redis is away, each gateway lets through L less what it took from the shared count before: N gateways together
   never more than N times L. The same holds when Redis comes back empty, for each remembers what it took itself.
3. A window's end and the next one's beginning may lie close together: any span as long as a window sees 2 L at most.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
import structlog
from limits.aio.storage import RedisStorage, Storage
from redis.exceptions import RedisError

from koinonia import clock
from koinonia_gateway.domain.rates import Rate, Standing

log = structlog.get_logger()

AWAY_SECONDS = 5.0  # so long nobody asks a Redis that did not answer
LEASES_KEPT = 20_000
OWN_KEPT = 50_000


@dataclass(slots=True)
class _Lease:
    window: int
    unused: int
    taken: int  # of the shared count, by everybody, when this block was taken


class _OwnCounts:
    """What this gateway took, of the shared counts or without them."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}  # by name: when its window is over, and how many

    def add(self, name: str, count: int, over_at: float, now: float) -> int:
        """How many it is with these."""
        if len(self._counts) >= OWN_KEPT:
            self._counts = {name: each for name, each in self._counts.items() if each[0] > now}
            if len(self._counts) >= OWN_KEPT:
                self._counts.clear()
        total = self._counts.get(name, (0.0, 0))[1] + count
        self._counts[name] = (over_at, total)
        return total

    def forget(self, name: str) -> None:
        self._counts.pop(name, None)


class Limiter:
    """Counts what callers do."""

    def __init__(self, client: "redis.Redis", prefix: str = "koinonia:limits") -> None:
        # The client's own pool, with its short time limits; the address is not read.
        options: dict[str, Any] = {"connection_pool": client.connection_pool}
        self._shared: Storage = RedisStorage("redis://", implementation="redispy", key_prefix=prefix, **options)
        self._own = _OwnCounts()
        self._away_until = 0.0
        self._leases: dict[str, _Lease] = {}
        self._leasing = [asyncio.Lock() for _ in range(64)]

    async def hit(self, rate: Rate, key: str) -> Standing:
        """Count one, exactly."""
        now = clock.now().timestamp()
        count = await self._take(rate, key, now, 1)
        return Standing(rate, rate.amount - count, rate.seconds_left(now))

    async def hit_leased(self, rate: Rate, key: str, policy: str = "default") -> Standing:
        """Count one, out of a block where there is one."""
        now = clock.now().timestamp()
        lease = self._usable(rate, key, now)
        if lease is None:
            # One after the other: of many that come at once, the first takes the block for all.
            async with self._leasing[hash(key) % len(self._leasing)]:
                lease = self._usable(rate, key, now) or await self._lease(rate, key, now)
                return _spend(rate, lease, now, policy)
        return _spend(rate, lease, now, policy)

    def spent(self, rate: Rate, key: str) -> Standing | None:
        """How a key stands that ``hit_leased`` saw beyond the limit in this window. Nothing is counted or asked."""
        now = clock.now().timestamp()
        lease = self._leases.get(key)
        if lease is None or lease.window != rate.window(now) or lease.taken <= rate.amount:
            return None
        return Standing(rate, rate.amount - lease.taken, rate.seconds_left(now))

    async def forgive(self, rate: Rate, key: str) -> None:
        """Count from zero again."""
        name = _name(rate, key, clock.now().timestamp())
        self._own.forget(name)
        if not self._is_away():
            try:
                await self._shared.clear(name)
            except (RedisError, OSError, TimeoutError) as error:
                self._note_away(error)

    def _usable(self, rate: Rate, key: str, now: float) -> _Lease | None:
        lease = self._leases.get(key)
        if lease is None or lease.window != rate.window(now):
            return None
        # Whoever is beyond the limit stays there until the window ends: nothing need be asked.
        return lease if lease.unused > 0 or lease.taken > rate.amount else None

    async def _lease(self, rate: Rate, key: str, now: float) -> _Lease:
        # More than the limit is never granted: what a block reaches beyond it is taken off again.
        block = rate.block(rate.amount - self._known(rate, key, now))
        count = await self._take(rate, key, now, block)
        beyond = min(block - 1, max(0, count - rate.amount))
        if len(self._leases) >= LEASES_KEPT:
            self._leases.clear()
        lease = _Lease(rate.window(now), block - beyond, count - beyond)
        self._leases[key] = lease
        return lease

    def _known(self, rate: Rate, key: str, now: float) -> int:
        """How far the window's shared count was when last asked."""
        lease = self._leases.get(key)
        return lease.taken if lease is not None and lease.window == rate.window(now) else 0

    async def _take(self, rate: Rate, key: str, now: float, count: int) -> int:
        name = _name(rate, key, now)
        own = self._own.add(name, count, now + rate.seconds_left(now), now)
        if not self._is_away():
            try:
                return max(own, await self._shared.incr(name, rate.seconds + 1, amount=count))
            except (RedisError, OSError, TimeoutError) as error:
                self._note_away(error)
        return own

    def _is_away(self) -> bool:
        return asyncio.get_running_loop().time() < self._away_until

    def _note_away(self, error: Exception) -> None:
        self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
        log.warning("limits_counted_locally", reason=type(error).__name__)


def _name(rate: Rate, key: str, now: float) -> str:
    return f"{key}:{rate.seconds}:{rate.window(now)}"


def _spend(rate: Rate, lease: _Lease, now: float, policy: str) -> Standing:
    lease.unused = max(0, lease.unused - 1)
    return Standing(rate, rate.amount - lease.taken + lease.unused, rate.seconds_left(now), policy)
