"""What a text costs at the edges, in CPU time: the client that hands it over, and the door for the carrier's webhooks.

`python scripts/bench_http.py client` and `… door`; docs/benchmarks-http.md tells what is measured and what came of it.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
import uvloop
from yarl import URL

from koinonia.carrier import telnyx
from koinonia.carrier.contract import Accepted, OutboundText, encode_body
from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.carrier.simulated.poster import Poster
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.carrier.wire import MessageAnswer

CHURCH = "+12055550100"
WARM_UP = 500

ROOT = Path(__file__).resolve().parent.parent


class Client(Protocol):
    """What hands texts over."""

    async def send(self, text: OutboundText) -> object: ...

    async def close(self) -> None: ...


def cpu_seconds() -> float:
    """What this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_child(*arguments: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def show(name: str, rows: list[dict[str, float]], unit: str) -> float:
    """Print the median and the range of the CPU time; returns the median."""
    costs = sorted(row["microseconds"] for row in rows)
    rates = [row["per_second"] for row in rows]
    middle = statistics.median(costs)
    spread = f"[{costs[0]:.1f}..{costs[-1]:.1f}]"
    print(f"  {name:28} {middle:6.1f} us of CPU per {unit} {spread:16} {statistics.median(rates):7,.0f}/s")
    return middle


def text_of(number: int) -> OutboundText:
    """A text of the usual size."""
    return OutboundText(
        recipient=f"+1312555{number % 10_000:04}",
        sender=CHURCH,
        text="Sunday at 10: bring a friend, stay for lunch, and tell us by Friday whether you come. STOP ends this.",
        webhook_url=f"http://127.0.0.1:8080/api/webhooks/telnyx/status?d={'k1' * 26}&t=00-{'ab' * 16}-{'cd' * 8}-01",
        idempotency_key=f"0193a1b2-c3d4-7e5f-8a9b-{time.time_ns() % 10**12:012}:{number}",
        traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01",
    )


class BySession:
    """`TelnyxCarrier.send` as it was: over an aiohttp session, watching for the moment in which the head leaves."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._carrier = TelnyxCarrier(url, "key", concurrency=concurrency)
        self._url = URL(f"{url}/v2/messages")

    async def send(self, text: OutboundText) -> Accepted:
        headers = {"Content-Type": "application/json"}
        headers |= {"Idempotency-Key": text.idempotency_key or "", "traceparent": text.traceparent or ""}
        raw = await self._carrier._call("POST", self._url, encode_body(text), headers)
        message = telnyx._read(raw, MessageAnswer).data
        return Accepted(carrier_id=message.id, parts=message.parts, wait_seconds=message.wait_seconds or 0.0)

    async def close(self) -> None:
        await self._carrier.close()


class ByBareLoop:
    """What the yardstick of the whole platform does: an aiohttp session and nothing around it."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._url = f"{url}/v2/messages"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": "Bearer key", "Content-Type": "application/json"},
        )

    async def send(self, text: OutboundText) -> None:
        headers = {"Idempotency-Key": text.idempotency_key or ""}
        async with self._session.post(self._url, data=encode_body(text), headers=headers) as response:
            await response.read()

    async def close(self) -> None:
        await self._session.close()


class ByConnections:
    """`TelnyxCarrier.send`."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._carrier = TelnyxCarrier(url, "key", concurrency=concurrency)

    async def send(self, text: OutboundText) -> None:
        await self._carrier.send(text)

    async def close(self) -> None:
        await self._carrier.close()


CLIENTS: dict[str, Callable[[str, int], Client]] = {
    "bare": ByBareLoop,
    "session": BySession,
    "connections": ByConnections,
}


async def send_all(kind: str, url: str, count: int, concurrency: int) -> dict[str, float]:
    """Send so many with so many in flight; the texts are made beforehand."""
    client = CLIENTS[kind](url, concurrency)
    first, rest = iter([text_of(number) for number in range(WARM_UP)]), iter([text_of(0) for _ in range(count)])

    async def work(texts: Iterator[OutboundText]) -> None:
        for text in texts:
            await client.send(text)

    await asyncio.gather(*(work(first) for _ in range(concurrency)))
    began, cpu = time.perf_counter(), cpu_seconds()
    await asyncio.gather(*(work(rest) for _ in range(concurrency)))
    used, took = cpu_seconds() - cpu, time.perf_counter() - began
    await client.close()
    return {"microseconds": used / count * 1e6, "per_second": count / took}


async def answer_texts() -> None:
    """The simulated carrier, until standard input ends."""
    async with SimulatedCarrier() as carrier:
        carrier.add_number(CHURCH)
        carrier.behaviour.receipt_seconds = 3600.0
        print(carrier.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def post_hooks(url: str, concurrency: int) -> dict[str, float]:
    """Post the webhooks that standard input lists, ``[[body, headers], …]``, over so many connections."""
    hooks = iter(json.loads(sys.stdin.buffer.read()))
    poster = Poster({"User-Agent": "telnyx-webhooks", "Content-Type": "application/json"})
    took: list[float] = []
    refused = 0

    async def work() -> None:
        nonlocal refused
        for body, headers in hooks:
            began = time.perf_counter()
            refused += await poster.post(url, headers, body.encode()) != 200
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    seconds = time.perf_counter() - began
    poster.close()
    p99 = statistics.quantiles(took, n=100)[-1] * 1000
    return {"per_second": len(took) / seconds, "p99_milliseconds": p99, "refused": refused}


def compare_ways(loop: str) -> int:
    """The gateway's two ways for a webhook. The environment may say COUNT and ROUNDS."""
    if loop == "uvloop":
        uvloop.install()  # pytest's plugin asks the policy for its loops
    return int(pytest.main(["-q", "-s", str(ROOT / "services/gateway/tests/integration/bench_webhooks.py")]))


def compare_clients(count: int, rounds: int, loop: str) -> None:
    """Each client in turn against one carrier, round by round."""
    for concurrency in (50, 100, 200):
        rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in CLIENTS}
        for _ in range(rounds):
            with subprocess.Popen(
                [sys.executable, __file__, "carrier"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as carrier:
                assert carrier.stdout is not None
                url = carrier.stdout.readline().strip()
                for kind, measured in rows.items():
                    measured.append(run_child("send", kind, url, str(count), str(concurrency), "--loop", loop))
                carrier.communicate()
        print(f"{concurrency} in flight, {count} texts, {rounds} rounds, {loop}")
        for kind, measured in rows.items():
            show(kind, measured, "text")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["client", "door", "send", "hooks", "carrier"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    given = parser.parse_args()
    factory = uvloop.new_event_loop if given.loop == "uvloop" else asyncio.new_event_loop
    if given.what == "client":
        compare_clients(given.count, given.rounds, given.loop)
        return
    if given.what == "door":
        sys.exit(compare_ways(given.loop))
    with asyncio.Runner(loop_factory=factory) as runner:
        if given.what == "carrier":
            runner.run(answer_texts())
        elif given.what == "hooks":
            print(json.dumps(runner.run(post_hooks(given.rest[0], int(given.rest[1])))))
        else:
            kind, url, count, concurrency = given.rest
            print(json.dumps(runner.run(send_all(kind, url, int(count), int(concurrency)))))


if __name__ == "__main__":
    main()
