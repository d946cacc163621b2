"""``python -m bench.gateway.hop TARGET``: passes each request on to the service at TARGET, and does nothing else.

What anybody would write first with aiohttp: one application, one session, bodies read whole, uvloop. It asks nobody who
calls, counts nothing and logs nothing; the requests bring the signed identity that a service wants of its gateway.
"""

import asyncio
import sys
from collections.abc import Iterable

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

_OWN = frozenset({"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"})


class Hop:
    """Forwards."""

    def __init__(self, target: str, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._session = session

    async def forward(self, request: web.Request) -> web.Response:
        """One request, there and back."""
        async with self._session.request(
            request.method,
            URL(self._target + request.raw_path, encoded=True),
            data=await request.read() or None,
            headers=_passed_on(request.headers.items()),
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            return web.Response(status=answer.status, body=body, headers=_passed_on(answer.headers.items()))


def _passed_on(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers if name.lower() not in _OWN)


async def main() -> None:
    """Listen on a free port, and say which."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=60),
        auto_decompress=False,
    ) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", Hop(sys.argv[1], session).forward)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=60)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(main())
