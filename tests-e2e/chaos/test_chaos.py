"""The short form: eight seeded runs on two platforms, with idempotency keys at the carrier and without."""

import os
from collections.abc import AsyncIterator

import pytest

from koinonia.testing import needs
from koinonia.testing.run import Run

from .. import conftest
from .plan import BLOCK, HALF, plan
from .run import Report, play, unmet
from .stage import Stage, Stages

pytestmark = [
    pytest.mark.native("kills processes by their ids, and looks at what they hold open"),
    needs.servers_as_processes,
]

START_AND_RUN_SECONDS = 400.0  # a platform is started, and one run is played, on a busy machine


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The seeds of each half."""
    if "seed" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("seed", metafunc.cls.SEEDS)


@pytest.fixture(scope="class")
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


class TestWithKeys:
    """The half of the block with idempotency keys at the carrier; of pytest's workers, one plays it alone."""

    SEEDS = range(HALF)

    @pytest.mark.timeout(START_AND_RUN_SECONDS)
    async def test_nothing_is_lost_and_nothing_comes_twice(
        self, stage: Stage, seed: int, reports: list[Report]
    ) -> None:
        report = await play(stage, plan(seed))
        print(report)
        reports.append(report)

    def test_the_runs_have_met_what_they_are_for(self, reports: list[Report]) -> None:
        if len(reports) < HALF:
            pytest.skip("not all runs were played, or ended well")
        assert unmet(reports) == []


class TestWithoutKeys(TestWithKeys):
    """The other half."""

    SEEDS = range(HALF, BLOCK)
