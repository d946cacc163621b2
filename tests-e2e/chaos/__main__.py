"""``make chaos RUNS=40 SEED=7``: any number of runs, a line for each; a failed one keeps its logs."""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from .plan import BLOCK, plan
from .run import Report, play, unmet
from .stage import Stages


def main() -> int:
    """Play the seeds that the command line names; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=BLOCK, help="how many seeds, one after the other")
    parser.add_argument("--seed", type=int, help="the first; by chance, and printed")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("RUNS is at least 1")
    for library in ("aiormq", "asyncpg"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # that a server is away is meant
    first = secrets.randbelow(100_000) * BLOCK if options.seed is None else options.seed
    # All with idempotency keys at the carrier, then all without: two platforms do.
    seeds = sorted(range(first, first + options.runs), key=lambda seed: (not plan(seed).idempotency, seed))
    return asyncio.run(_play_all(seeds))


async def _play_all(seeds: list[int]) -> int:
    directory = Path(tempfile.mkdtemp(prefix="koinonia-chaos-"))
    directory.chmod(0o755)  # PostgreSQL runs as another user and must pass
    print(f"{len(seeds)} runs, seeds {min(seeds)} to {max(seeds)}", flush=True)
    stages = Stages(directory / "platforms")
    failed: list[int] = []
    reports: list[Report] = []
    try:
        for number, seed in enumerate(seeds, start=1):
            print(f"{number}/{len(seeds)} ", end="", flush=True)
            if report := await _play_one(stages, seed, directory):
                reports.append(report)
            else:
                failed.append(seed)
                await stages.close()  # what comes next begins with a whole platform
    finally:
        await stages.close()
        shutil.rmtree(directory / "platforms", ignore_errors=True)
        if not failed:
            shutil.rmtree(directory, ignore_errors=True)
    for complaint in unmet(reports):
        print(f"the runs together have not met what they are for: {complaint}")
    if not failed:
        print(f"all {len(seeds)} runs ended as they must")
        return 1 if unmet(reports) else 0
    print(
        f"{len(failed)} of {len(seeds)} runs failed: seeds {', '.join(map(str, failed))}; their logs are in {directory}"
    )
    return 1


async def _play_one(stages: Stages, seed: int, directory: Path) -> Report | None:
    """Play a seed and say how it ended; keep the logs of one that failed."""
    try:
        report = await play(await stages.of(plan(seed).idempotency), plan(seed))
        print(report, flush=True)
    except Exception as error:  # whatever it is, it is told, and the next run is played
        logs = directory / f"seed-{seed}"
        logs.mkdir(exist_ok=True)
        if stages.current is not None:
            for name, path in stages.current.platform.logs().items():
                shutil.copy(path, logs / f"{name}.log")
        (logs / "failure.txt").write_text(traceback.format_exc())
        print(f"seed {seed} FAILED: {str(error) or type(error).__name__}")
        print(f"  logs in {logs}; again: make chaos RUNS=1 SEED={seed}", flush=True)
        return None
    return report


if __name__ == "__main__":
    sys.exit(main())
