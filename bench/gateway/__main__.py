"""``make bench-gateway``: the gateway alone, beside a bare aiohttp hop."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.gateway.figures import GatewayResults
from bench.gateway.measure import Plan, measure
from bench.gateway.routes import PEOPLE
from bench.platform import BenchFailed, Carrier, Church, Platform


class Options(argparse.Namespace):
    """What the command line says."""

    requests: int
    rounds: int
    output: Path | None


def main() -> int:
    """Measure and print; 1 when something was not answered as it should be."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="make bench-gateway", description=__doc__)
    parser.add_argument("--requests", type=int, default=usual.requests, help="of a round (2,000; a quarter of sends)")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="how often gateway and hop take turns (5)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, in JSON")
    options = parser.parse_args(namespace=Options())
    if min(options.requests, options.rounds) < 1:
        parser.error("REQUESTS and ROUNDS are at least 1")
    directory = Path(tempfile.mkdtemp(prefix="koinonia-bench-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user and must pass
    try:
        results = asyncio.run(_measure(Plan(requests=options.requests, rounds=options.rounds), directory))
    except BenchFailed as failed:
        print(f"bench: {failed}\nthe logs are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    if options.output is not None:
        options.output.write_bytes(msgspec.json.encode(results))
    return 0


async def _measure(plan: Plan, directory: Path) -> GatewayResults:
    _say("starting the platform")
    async with Platform(directory) as platform:
        church, carrier = await Church.register(platform), Carrier(platform.processes["carrier"].url)
        try:
            await church.gather([PEOPLE])
            return await measure(platform, church, carrier, plan, _say)
        finally:
            await church.close()
            await carrier.aclose()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
