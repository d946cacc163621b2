"""A TCP balancer in front of several gateways."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from yarl import URL

PIECE = 65536


class Balancer:
    """A TCP balancer: each connection goes to the next backend that takes it, and ends when that ends it."""

    def __init__(self, backends: Sequence[str]) -> None:
        self._backends = [URL(each) for each in backends]
        self._next = 0
        self._serving: set[asyncio.Task[None]] = set()  # asyncio itself keeps no hold of them
        self.taken: Counter[int] = Counter()  # by the backend's port

    async def __aenter__(self) -> "Balancer":
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._connect()
        except OSError:  # no backend takes it
            writer.close()
            return
        to_backend = asyncio.create_task(_pass_on(reader, far_writer))
        try:
            await _pass_on(far_reader, writer)
        finally:
            to_backend.cancel()
            far_writer.close()
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self._backends:
            self._next = (self._next + 1) % len(self._backends)
            backend = self._backends[self._next]
            with suppress(OSError):
                connection = await asyncio.open_connection(backend.host, backend.port)
                self.taken[backend.port or 0] += 1
                return connection
        raise ConnectionRefusedError


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whatever comes, and its end."""
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
