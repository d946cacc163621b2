"""Small fixtures: a church, a virtual host, a key prefix, waiting, counting statements."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

import aio_pika
import pytest
import structlog

from koinonia.bus.declare import declare
from koinonia.bus.topology import EXCHANGE, QUEUES
from koinonia.db.statistics import StatementLog, all_statements
from koinonia.events import Event
from koinonia.ids import new_id
from koinonia.testing.servers import TestServers

Condition = Callable[[], object | Awaitable[object]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs sets up logging for its whole process: take that back."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def church_id() -> UUID:
    """A church that nobody else has."""
    return new_id()


@pytest.fixture
async def empty_vhost(servers: TestServers) -> AsyncIterator[str]:
    """The URL of a virtual host of this test's own, with nothing in it."""
    name = servers.new_name()
    yield await servers.create_vhost(name)
    await servers.drop_vhost(name)


@pytest.fixture
async def vhost(empty_vhost: str) -> str:
    """The URL of a virtual host of this test's own, with the platform's exchanges and queues."""
    await declare_queues(empty_vhost, QUEUES)
    return empty_vhost


@pytest.fixture
async def service_vhost(empty_vhost: str) -> str:
    """The same one, for tests of services, which bring their own queues: all together cost a test half a second.

    An event that no queue of theirs wants is taken, and dropped.
    """
    connection = await aio_pika.connect(empty_vhost)
    async with connection, connection.channel() as channel:
        await declare(channel, {})
        unheard = await channel.declare_queue("test.unheard", arguments={"x-max-length": 1})
        await unheard.bind(EXCHANGE, "#")
    return empty_vhost


async def declare_queues(url: str, queues: Mapping[str, Sequence[type[Event]]]) -> None:
    """Make queues, with all that belongs to them, in a virtual host."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        await declare(channel, queues)


@pytest.fixture
def redis_prefix(servers: TestServers) -> str:
    """What this test's Redis keys begin with."""
    return servers.new_name() + ":"


@pytest.fixture
def count_statements() -> Callable[[], AbstractContextManager[StatementLog]]:
    """``with count_statements() as counted:`` notes every statement of this process; see ``counted.by_name``."""
    return all_statements


async def wait_until(condition: Condition, *, seconds: float = 60.0, what: str = "the condition") -> object:
    """Wait until ``condition()`` (which may be a coroutine function) is true, and return what it gave.

    Raises:
        AssertionError: it is still not true after ``seconds``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = 0.005
    while True:
        answer = condition()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        assert loop.time() < deadline, f"{what} was not met within {seconds:g} s"
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., Awaitable[object]]:
    """`koinonia.testing.fixtures.wait_until`."""
    return wait_until
