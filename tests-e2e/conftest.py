"""The platform, started once per run, and a church for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import pytest

from koinonia.testing.run import Run

from .church import Church
from .collector import Collector
from .platform import Platform

LAYOUT = ("--delivery-workers", "2", "--processes", "messaging=2")
TAIL_LINES = 40
SERVER_TAIL_LINES = 10
SERVERS = frozenset({"postgres", "rabbitmq", "redis"})
AHEAD = 24
LAST = ("test_privacy",)  # it looks at what all the others left

_STARTED: list[Platform] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever looks at what the run has left comes last."""
    items.sort(key=lambda item: item.path.stem in LAST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs with a test that failed."""
    report = yield
    if report.failed:
        for platform in _STARTED:
            report.sections += [(f"{name}.log", tail(path)) for name, path in platform.logs().items()]
    return report


def tail(path: Path) -> str:
    """The end of a log, without the requests that were served in peace; less of a server's than of ours."""
    lines = path.read_text(errors="replace").splitlines()
    told = [line for line in lines if '"request_served"' not in line]
    return "\n".join(told[-(SERVER_TAIL_LINES if path.stem in SERVERS else TAIL_LINES) :])


@pytest.fixture(scope="session")
async def collector() -> AsyncIterator[Collector]:
    """Receives the platform's traces."""
    async with Collector() as collector:
        yield collector


@pytest.fixture(scope="session")
async def platform(run: Run, collector: Collector) -> AsyncIterator[Platform]:
    """The whole platform."""
    tracing = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    platform = await Platform.start(run.directory / f"e2e-{os.getpid()}", *LAYOUT, settings=tracing)
    _STARTED.append(platform)
    yield platform
    await platform.stop()
    _STARTED.remove(platform)


@pytest.fixture(scope="session")
async def churches(platform: Platform, request: pytest.FixtureRequest) -> AsyncIterator[list[Church]]:
    """Churches registered ahead, one for each test of the run: getting ready together takes them less time."""
    count = len(request.session.items)
    made = await asyncio.gather(*(Church.register(platform) for _ in range(min(count, AHEAD))))
    waiting = list(made)
    yield waiting
    for church in waiting:
        await church.close()


@pytest.fixture
async def new_church(platform: Platform, churches: list[Church]) -> AsyncIterator[Callable[[], Awaitable[Church]]]:
    """Gives out churches that nobody else has."""
    given: list[Church] = []

    async def give() -> Church:
        given.append(churches.pop() if churches else await Church.register(platform))
        return given[-1]

    yield give
    await platform.carrier.clear_faults()
    for church in given:
        await church.close()


@pytest.fixture
async def church(new_church: Callable[[], Awaitable[Church]]) -> Church:
    """A church that is ready to send."""
    return await new_church()
