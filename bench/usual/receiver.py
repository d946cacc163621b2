"""``python -m bench.usual.receiver``: an UPDATE for each webhook, committed before its 200.

Better set up than usual: asynchronous, with a pool of ten connections and prepared statements.
"""

import asyncio
import json
import sys

import asyncpg
import uvloop
from aiohttp import web

from bench.usual import table
from bench.work import recipient_of
from koinonia.carrier.contract import token_of
from koinonia.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Verifier

_STATEMENTS = {"message.sent": table.APPLY_SENT, "message.finalized": table.APPLY_DELIVERED}


class Receiver:
    """Applies webhooks to the table."""

    def __init__(self, public_key: str, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._verifier = Verifier([public_key])
        self._pool = pool

    async def take(self, request: web.Request) -> web.Response:
        """One webhook."""
        body = await request.read()
        headers = request.headers
        self._verifier.verify(body, signature=headers.get(SIGNATURE_HEADER), timestamp=headers.get(TIMESTAMP_HEADER))
        event = json.loads(body)["data"]
        recipient_id = recipient_of(token_of(event["payload"]["webhook_url"]) or "")
        await self._pool.execute(_STATEMENTS[event["event_type"]], recipient_id)
        return web.Response()


async def main() -> None:
    """Listen on a free port, and say which."""
    public_key, database_url = sys.argv[1:]
    async with asyncpg.create_pool(database_url, min_size=10, max_size=10) as pool:
        app = web.Application()
        app.router.add_post("/webhooks", Receiver(public_key, pool).take)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=60)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        sys.stdout.write(f"{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        loop_runner.run(main())
