"""``python -m bench.yardstick.receiver``: verifies webhooks, answers 200, counts them, and does nothing else.

``POST /expect/{count}`` begins to count; ``GET /reached`` answers, when that many have come, at what time the last did.
"""

import asyncio
import sys
import time

import uvloop
from aiohttp import web

from koinonia.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier


class Receiver:
    """Counts verified webhooks."""

    def __init__(self, public_key: str) -> None:
        self._verifier = Verifier([public_key])
        self._left = 0
        self._reached: asyncio.Future[float] = asyncio.Future()

    async def take(self, request: web.Request) -> web.Response:
        """One webhook."""
        body = await request.read()
        headers = request.headers
        self._verifier.verify(body, signature=headers.get(SIGNATURE_HEADER), timestamp=headers.get(TIMESTAMP_HEADER))
        self._left -= 1
        if self._left == 0:
            self._reached.set_result(time.time())
        return web.Response()

    async def expect(self, request: web.Request) -> web.Response:
        """Begin to count."""
        self._left = int(request.match_info["count"])
        self._reached = asyncio.Future()
        return web.Response()

    async def reached(self, _request: web.Request) -> web.Response:
        """The time of the last webhook expected."""
        return web.json_response(await self._reached)


async def main() -> None:
    """Listen on a free port, and say which."""
    receiver = Receiver(sys.argv[1])
    app = web.Application()
    app.router.add_post("/expect/{count}", receiver.expect)
    app.router.add_get("/reached", receiver.reached)
    app.router.add_post("/webhooks", receiver.take)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=60)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(main())
