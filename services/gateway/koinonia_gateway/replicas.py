"""Where a service answers. A name with several addresses, as Docker and Kubernetes have it, is a replica at each."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

from yarl import URL

LOOK_UP_SECONDS = 2.0  # until a replica that is new is found; one that is gone is passed over meanwhile
ANSWER_SECONDS = 1.0  # what a name service is given

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, in no order; none where it has none, or nobody says in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:  # TimeoutError is one
        return ()
    return [str(address[0]) for *_, address in found]


class Replicas:
    """The URLs of one service's replicas, used in turn."""

    def __init__(self, urls: tuple[str, ...], look_up: LookUp = addresses_of) -> None:
        self._named = urls
        self._look_up = look_up
        self._found = urls
        self._last: dict[str, list[str]] = {}  # what was found for a name
        # An address is what it is, and a certificate is for a name.
        self._fixed = all(_is_address(URL(url)) or URL(url).scheme == "https" for url in urls)
        self._look_up_at = 0.0
        self._next = 0

    async def in_turn(self) -> tuple[str, ...]:
        """The replicas, each time beginning with the next one."""
        now = time.monotonic()
        if not self._fixed and now >= self._look_up_at:
            self._look_up_at = now + LOOK_UP_SECONDS  # others do with what is known while this one asks
            self._found = tuple([each for url in self._named for each in await self._at(url)])
        self._next = (self._next + 1) % len(self._found)
        return self._found[self._next :] + self._found[: self._next]

    async def _at(self, text: str) -> list[str]:
        url = URL(text)
        if _is_address(url) or url.scheme == "https" or url.host is None or url.port is None:
            return [text]
        addresses = sorted(set(await self._look_up(url.host, url.port)))
        if addresses:
            self._last[text] = [str(url.with_host(each)).rstrip("/") for each in addresses]
        return self._last.get(text, [text])  # a name service that fails takes no replica away


def _is_address(url: URL) -> bool:
    return all(part.isdigit() for part in (url.host or "").split(".")) or ":" in (url.host or "")
