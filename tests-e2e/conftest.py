"""The platform, started once for each of pytest's workers, and a church for each test."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from koinonia.testing.run import Run

from .balancer import Balancer
from .church import Church
from .collector import Collector
from .containers import ContainerPlatform, gateway_of
from .platform import Platform
from .stores import plain_in

LAYOUT = ("--delivery-workers", "2", "--processes", "gateway=2,messaging=2")
SCALE = ("--scale", "delivery-worker=2", "--scale", "messaging=2")  # on containers, with one gateway's port
TAIL_LINES = 40
SERVER_TAIL_LINES = 10
SERVERS = frozenset({"postgres", "rabbitmq", "redis"})
AHEAD = 24
LONG = ("test_keys", "test_fuzzing", "test_stop", "test_benchmarks")
"""Come first, so that of two workers none is left alone with them in the end."""
LAST = ("test_moved_ciphertexts", "test_privacy")
"""One leaves errors on purpose in the logs, which others want without any; one looks at what all have left."""

_STARTED: list[Platform] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests-e2e --containers``: the same tests on docker-compose.yml; the image must have been built.

    With ``--balanced`` every test goes through a balancer in front of both gateways.
    """
    parser.addoption("--containers", action="store_true", help="run the platform in containers")
    parser.addoption("--balanced", action="store_true", help="reach the gateways through a balancer")


def pytest_configure(config: pytest.Config) -> None:
    """Our markers; options that do not go together are refused."""
    if config.getoption("containers") and config.getoption("balanced"):
        raise pytest.UsageError("--balanced goes with processes: containers have one gateway")
    config.addinivalue_line("markers", "native(reason): proves nothing on containers, or cannot run there")
    config.addinivalue_line("markers", "containers: is about containers alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long ones come first, who leaves errors or looks at what is left comes last; each test runs where it belongs."""
    rank = {name: place - len(LONG) for place, name in enumerate(LONG)}
    rank |= {name: place + 1 for place, name in enumerate(LAST)}
    items.sort(key=lambda item: rank.get(item.path.stem, 0))
    if not config.getoption("containers"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("containers")])
        items[:] = [item for item in items if not item.get_closest_marker("containers")]
        return
    for item in items:
        if native := item.get_closest_marker("native"):
            item.add_marker(pytest.mark.skip(reason=f"not on containers: {native.args[0]}"))
        if own := item.get_closest_marker("timeout"):  # containers take their time
            item.add_marker(pytest.mark.timeout(2 * own.args[0]), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs with a test that failed."""
    report = yield
    if report.failed:
        for platform in _STARTED:
            report.sections += [(f"{name}.log", tail(path)) for name, path in platform.logs().items()]
    return report


@contextmanager
def shown(platform: Platform) -> Iterator[None]:
    """The ends of this platform's logs are shown with a test that fails meanwhile."""
    _STARTED.append(platform)
    try:
        yield
    finally:
        _STARTED.remove(platform)


def tail(path: Path) -> str:
    """The end of a log, without the requests that were served in peace; less of a server's than of ours."""
    lines = path.read_text(errors="replace").splitlines()
    told = [line for line in lines if '"request_served"' not in line]
    return "\n".join(told[-(SERVER_TAIL_LINES if path.stem in SERVERS else TAIL_LINES) :])


@pytest.fixture(scope="session")
async def collector(pytestconfig: pytest.Config) -> AsyncIterator[Collector]:
    """Receives the platform's traces."""
    async with Collector(gateway_of() if pytestconfig.getoption("containers") else "127.0.0.1") as collector:
        yield collector


@pytest.fixture(scope="session")
async def platform(run: Run, collector: Collector, pytestconfig: pytest.Config) -> AsyncIterator[Platform]:
    """The whole platform; when all tests are through, nothing plain of anybody may be left in it."""
    tracing = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }
    kind, layout = (ContainerPlatform, SCALE) if pytestconfig.getoption("containers") else (Platform, LAYOUT)
    platform = await kind.start(run.directory / f"e2e-{os.getpid()}", *layout, settings=tracing)
    async with AsyncExitStack() as stack:
        stack.enter_context(shown(platform))
        stack.push_async_callback(platform.stop)
        if pytestconfig.getoption("balanced"):
            gateways = [each for name, each in platform.state.read_processes().items() if name.startswith("gateway-")]
            platform.url = (await stack.enter_async_context(Balancer([each.url for each in gateways]))).url
        yield platform
        assert await plain_in(platform, collector) == {}


@pytest.fixture(scope="session")
async def churches(platform: Platform, request: pytest.FixtureRequest) -> AsyncIterator[list[Church]]:
    """Churches registered ahead, one for each test of the run: getting ready together takes them less time."""
    count = len(request.session.items)
    waiting = await Church.register_some(platform, min(count, AHEAD))
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
