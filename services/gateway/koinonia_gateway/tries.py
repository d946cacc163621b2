"""How often somebody may try to prove who they are: per account, and per address."""

from aiohttp import web

from koinonia.errors import RateLimited
from koinonia.web import EXTRA_HEADERS
from koinonia_gateway.callers import limited_address_of
from koinonia_gateway.domain.rates import Rate, Standing
from koinonia_gateway.limits import Limiter

# One address stands for a whole church behind its router; more than so many accounts from one is somebody's list.
ACCOUNTS_PER_ADDRESS = 20


class Tries:
    """Counts tries against one rate."""

    def __init__(self, limiter: Limiter, rate: Rate) -> None:
        self._limiter = limiter
        self._rate = rate

    async def count_address(self, request: web.Request) -> None:
        """Count a try of any account from this address.

        Raises:
            RateLimited: there were too many.
        """
        rate = self._rate.times(ACCOUNTS_PER_ADDRESS)
        _refuse_exceeded(await self._limiter.hit(rate, f"auth:{limited_address_of(request)}"))

    async def count(self, request: web.Request, key: str) -> None:
        """Count a try under this key, and tell how many are left.

        Raises:
            RateLimited: there were too many.
        """
        standing = await self._limiter.hit(self._rate, key)
        request[EXTRA_HEADERS].update(standing.headers())
        _refuse_exceeded(standing)

    async def is_beyond(self, key: str, seconds: int) -> bool:
        """Count one under this key, in windows no longer than so many seconds, and tell nobody but the caller."""
        rate = Rate(self._rate.amount, min(self._rate.seconds, seconds))
        return (await self._limiter.hit(rate, key)).exceeded

    async def forgive(self, key: str) -> None:
        """Count from zero again: the last one was right."""
        await self._limiter.forgive(self._rate, key)


def _refuse_exceeded(standing: Standing) -> None:
    if standing.exceeded:
        raise RateLimited(retry_after_seconds=standing.seconds_left)
