"""Listening, and stopping without losing a request."""

import asyncio
import socket
import time
from typing import Self

from aiohttp import web

from koinonia.web.connections import Runner
from koinonia.web.observing import DRAINING, LOAD

KEEPALIVE_SECONDS = 30.0
IDLE_SECONDS = 1.0
"""How long a stopping server leaves idle connections open. Who calls it from inside keeps unused ones for less."""
PATIENT_SECONDS = 16.0
"""The same where a successor serves already: more than the 15 s for which clients keep unused connections."""
_BACKLOG = 1024
_LINGERING_SECONDS = 2.0  # for the rest of a body that was refused, so that its sender can read why


class Server:
    """An application on a port.

    Stopping: the door is closed, whoever is answered is told ``Connection: close``, and connections are waited for:
    idle ones for as long as ``stop`` is told, in which a client that uses its own learns of it, busy ones until the
    deadline.
    A socket that a parent keeps open loses no connection meanwhile.
    """

    def __init__(self, app: web.Application, runner: web.AppRunner, port: int) -> None:
        self._app = app
        self._runner = runner
        self.port = port

    @classmethod
    async def start(cls, app: web.Application, host: str, port: int, *, sock: socket.socket | None = None) -> Self:
        """Listen on ``host`` and ``port`` (0: any free one), or on a socket that is bound already."""
        runner = Runner(
            app,
            access_log=None,
            handler_cancellation=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=1.0,
            lingering_time=_LINGERING_SECONDS,
            auto_decompress=False,  # bodies are taken uncompressed: a bomb stays as small as it came
        )
        await runner.setup()
        site: web.BaseSite
        if sock is not None:
            site = web.SockSite(runner, sock, backlog=_BACKLOG)
        else:
            site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
        await site.start()
        return cls(app, runner, runner.addresses[0][1])

    async def stop(self, seconds: float = 5.0, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Drain for at most ``seconds``, then close."""
        self._app[DRAINING].set()
        for site in list(self._runner.sites):
            await site.stop()
        try:
            async with asyncio.timeout(seconds):
                await self._until_nobody_is_served(idle_seconds)
        except TimeoutError:
            pass  # the rest is cut by cleanup
        await self._runner.cleanup()

    async def _until_nobody_is_served(self, idle_seconds: float) -> None:
        server = self._runner.server
        closing_at = time.monotonic() + idle_seconds
        while server is not None and server.connections:
            if self._app[LOAD].count == 0 and time.monotonic() > closing_at:
                return

            await asyncio.sleep(0.02)  # aiohttp tells nobody when a connection closes
