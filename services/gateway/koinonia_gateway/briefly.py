"""A memory of one second: what many requests ask at once is asked of the database once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

SECONDS = 1.0
_KEPT = 20_000


class Briefly(Generic[K, V]):
    """Values by key, none older than a second, counted from before it was asked for. Errors are not kept."""

    def __init__(self, load: Callable[[K], Awaitable[V]], seconds: float = SECONDS) -> None:
        self._load = load
        self._seconds = seconds
        self._known: dict[K, tuple[float, asyncio.Future[V]]] = {}

    async def get(self, key: K) -> V:
        """The value; those who ask while it is being loaded share the answer."""
        now = asyncio.get_running_loop().time()
        asked_at, answer = self._known.get(key, (0.0, None))
        if answer is None or now - asked_at >= self._seconds or _failed(answer):
            answer = asyncio.ensure_future(self._load(key))
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = (now, answer)
        return await asyncio.shield(answer)

    def forget(self, key: K) -> None:
        """Ask anew next time."""
        self._known.pop(key, None)


def _failed(answer: "asyncio.Future[V]") -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
