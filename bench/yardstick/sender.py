"""``python -m bench.yardstick.sender``: posts the requests, so many at once, and forgets them.

Set up as aiohttp's client is fastest: one session, no cookies, ready bytes, the time-out on the session, uvloop.
"""

import asyncio
from collections.abc import Iterator

import aiohttp
import uvloop

from bench.work import Work, read_work, ready_steady_go, requests_of, tell


async def main() -> None:
    """Make all requests ready, wait for the word, post them, say when the last was answered."""
    work = read_work()
    requests = list(requests_of(work))  # made before the clock starts
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=work.concurrency, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        began_at = await asyncio.to_thread(ready_steady_go)
        left = iter(requests)
        async with asyncio.TaskGroup() as senders:
            for _ in range(work.concurrency):
                senders.create_task(_send(session, work, left))
    tell(began_at)


async def _send(session: aiohttp.ClientSession, work: Work, left: Iterator[tuple[bytes, dict[str, str]]]) -> None:
    url = f"{work.carrier_url}/v2/messages"
    for body, headers in left:
        async with session.post(url, data=body, headers=headers) as answer:
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the carrier answered {answer.status}")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
