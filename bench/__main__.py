"""``make bench N=10000 ROUNDS=3``: the platform beside the yardstick and the usual ways."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import report
from bench.figures import Comparison, Run
from bench.gateway.figures import GatewayResults
from bench.gateway.measure import Plan, measure
from bench.gateway.routes import PEOPLE
from bench.platform import BenchFailed, Platform
from bench.results import Results
from bench.ways import Bench, PlatformWay, UsualWays, Yardstick

R = TypeVar("R", bound=Run)

LATENCIES = (0.0, 0.05)  # seconds until the carrier answers
TRIED = {0.0: (16, 32, 64, 128), 0.05: (100, 200, 400)}  # requests at once
TRIED_PROCESSES = {0.0: (2, 4), 0.05: (8, 16, 32)}  # of Celery
TRIAL = 2_000  # requests, to find the best of them
USUAL = 2_000
ACCEPT = 20_000


class Options(argparse.Namespace):
    """What the command line says."""

    recipients: int
    rounds: int
    latencies: list[float]
    usual: int
    accept: int
    yardstick: bool
    gateway: int
    output: Path | None


def main() -> int:
    """Measure and print; 1 when something did not do its work."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--recipients", type=int, default=10_000, help="of each broadcast (10,000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often platform and yardstick take turns (3)")
    parser.add_argument("--latencies", type=float, nargs="+", default=[*LATENCIES], help="of the carrier, in seconds")
    parser.add_argument("--usual", type=int, default=USUAL, help="recipients in the usual ways (2,000; 0: not at all)")
    parser.add_argument("--accept", type=int, default=ACCEPT, help="size of the group of which only `send` is timed")
    parser.add_argument("--no-yardstick", dest="yardstick", action="store_false", help="the platform alone")
    parser.add_argument("--gateway", type=int, default=Plan().requests, help="requests of a round (2,000; 0: none)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, in JSON")
    options = parser.parse_args(namespace=Options())
    if min(options.recipients, options.rounds, options.accept) < 1 or min(options.usual, options.gateway) < 0:
        parser.error("N and ROUNDS are at least 1")
    directory = Path(tempfile.mkdtemp(prefix="koinonia-bench-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user and must pass
    try:
        results = asyncio.run(_measure(options, directory))
    except BenchFailed as failed:
        print(f"bench: {failed}\nthe logs are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    if options.output is not None:
        options.output.write_bytes(msgspec.json.encode(results))
    return 0


async def _measure(options: Options, directory: Path) -> Results:
    _say("starting the platform")
    async with Platform(directory) as platform, Bench.on(platform) as bench:
        sizes = [options.recipients, options.accept, *([options.usual] if options.usual else []), PEOPLE]
        _say(f"importing {max(sizes):,} people")
        await bench.church.gather(sizes)
        way = PlatformWay(bench)
        accept_seconds = await way.accept(options.accept)
        _say(report.accept(options.accept, accept_seconds))
        main = [await _compare(bench, way, options, latency) for latency in options.latencies]
        usual = await _compare_usual(bench, way, options) if options.usual else []
        # Last, since what it sends waits for next week.
        gateway = await _measure_gateway(bench, options) if options.gateway else None
    return Results(main=main, usual=usual, accept_people=options.accept, accept_seconds=accept_seconds, gateway=gateway)


async def _measure_gateway(bench: Bench, options: Options) -> GatewayResults:
    """The gateway beside a bare hop; printed."""
    plan = Plan(requests=options.gateway, rounds=options.rounds)
    return await measure(bench.platform, bench.church, bench.carrier, plan, _say)


async def _compare(bench: Bench, way: PlatformWay, options: Options, latency: float) -> Comparison:
    """The platform and the yardstick, turn about; printed."""
    found = await _take_turns(bench, way, options, latency)
    _say("\n".join([*report.main(found), ""]))
    return found


async def _take_turns(bench: Bench, way: PlatformWay, options: Options, latency: float) -> Comparison:
    people, rounds = options.recipients, options.rounds
    if not options.yardstick:
        runs = [await _said(way.run(people, latency)) for _ in range(rounds)]
        return Comparison(platform=runs, others={}, idle_platform=0.0)
    async with Yardstick.ready(bench) as yardstick:
        _say(f"looking for the yardstick's best concurrency at {latency * 1000:g} ms")
        best = await yardstick.best_concurrency(min(TRIAL, people), latency, TRIED.get(latency, (100,)))
        bare, runs = [], []
        for _ in range(rounds):
            bare.append(await _said(yardstick.run(people, latency, best)))
            runs.append(await _said(way.run(people, latency)))
        return Comparison(platform=runs, others={"yardstick": bare}, idle_platform=yardstick.idle_share())


async def _compare_usual(bench: Bench, way: PlatformWay, options: Options) -> list[Comparison]:
    """The platform and the usual ways, one after the other, at each latency; printed."""
    people = options.usual
    found = []
    async with UsualWays.ready(bench) as ways:
        for latency in options.latencies:
            _say(f"looking for Celery's best number of processes at {latency * 1000:g} ms")
            best = await ways.best_celery(min(people, TRIAL // 4), latency, TRIED_PROCESSES.get(latency, (4,)))
            celery = await _said(ways.celery(people, latency, best))
            one_by_one = await _said(ways.one_by_one(people, latency))
            platform = await _said(way.run(people, latency))
            others = {"Celery": [celery], "one by one": [one_by_one]}
            found.append(Comparison(platform=[platform], others=others, idle_platform=0.0))
            _say("\n".join([*report.usual(found[-1]), ""]))
    return found


async def _said(running: Awaitable[R]) -> R:
    """Do it, and say in a line how it went."""
    run = await running
    _say(report.line_of(run))
    return run


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
