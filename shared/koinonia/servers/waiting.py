"""Waiting until a server's real client works."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from koinonia.servers.unavailable import ServersUnavailable

_READY_SECONDS = 120.0
_PAUSE_SECONDS = 0.1


class Starting(Protocol):
    """A process, or a container, with a log."""

    @property
    def running(self) -> bool: ...

    def tail(self) -> str: ...


async def until_ready(name: str, starting: Starting, port: int, probe: Callable[[], Awaitable[object]]) -> None:
    """Wait until something listens on ``port`` and ``probe``, a real client, raises nothing.

    Raises:
        ServersUnavailable: the process ended (whatever its status) or was not ready in time; the log's end follows.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_SECONDS
    failure: Exception | None = None
    while loop.time() < deadline:
        if not starting.running:
            raise ServersUnavailable(f"{name} ended while it started; its log ends:\n{starting.tail()}")
        try:
            await _knock(port)
            await asyncio.wait_for(probe(), 10)
            return
        except Exception as error:  # whatever a client raises of a server that is not up yet
            failure = error
        await asyncio.sleep(_PAUSE_SECONDS)
    waited = f"{name} did not answer in {_READY_SECONDS:.0f} s ({failure!r})"
    raise ServersUnavailable(f"{waited}; its log ends:\n{starting.tail()}")


async def _knock(port: int) -> None:
    """Connect and hang up: a client's library may log each refused connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
