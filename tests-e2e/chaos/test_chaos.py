"""The short form: eight seeded runs on two platforms, with idempotency keys at the carrier and without."""

import os
from collections.abc import AsyncIterator

import pytest

from koinonia.testing.run import Run

from .. import conftest
from .plan import BLOCK, plan
from .run import Report, play
from .stage import Stage, Stages

pytestmark = [
    pytest.mark.native("kills processes by their ids, and looks at what they hold open"),
    pytest.mark.skipif(os.environ.get("KOINONIA_SERVERS") == "docker", reason="looks at the servers' processes"),
]

START_AND_RUN_SECONDS = 400.0  # a platform is started, and one run is played, on a busy machine


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """Of the runs that ended as they must."""
    return []


@pytest.fixture(scope="module")
async def stages(run: Run) -> AsyncIterator[Stages]:
    """The platform that is up."""
    stages = Stages(run.directory / f"chaos-{os.getpid()}")
    yield stages
    await stages.close()


@pytest.fixture
async def stage(stages: Stages, seed: int) -> AsyncIterator[Stage]:
    """The platform that the seed's plan needs."""
    stage = await stages.of(plan(seed).idempotency)
    with conftest.shown(stage.platform):
        yield stage


@pytest.mark.timeout(START_AND_RUN_SECONDS)
@pytest.mark.parametrize("seed", range(BLOCK))
async def test_nothing_is_lost_and_nothing_comes_twice(stage: Stage, seed: int, reports: list[Report]) -> None:
    report = await play(stage, plan(seed))
    print(report)
    reports.append(report)


def test_the_runs_have_met_what_they_are_for(reports: list[Report]) -> None:
    """Not in each run, but in all: workers were stopped beyond a lease, relays died after they had published, and who
    said STOP in time was left out.
    """
    if len(reports) < BLOCK:
        pytest.skip("not all runs were played, or ended well")
    assert sum(report.pauses for report in reports) >= BLOCK // 2
    assert sum(report.published_again > 0 for report in reports) >= BLOCK // 4
    assert sum(report.statuses["suppressed"] for report in reports) >= BLOCK
