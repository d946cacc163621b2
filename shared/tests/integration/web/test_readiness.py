"""What a service says of itself when something is wrong."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from koinonia.api.health import Check
from koinonia.errors import DependencyUnavailable
from koinonia.web import DRAINING, Probe, Server, build_operators_app


class Stand:
    """An application of health routes alone, whose checks a test decides."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.looked = 0
        self.probe = Probe(service="test", checks={"queues": self.check}, not_ready=lambda: self.reason)
        self.app = build_operators_app(self.probe)
        self.url = ""

    async def check(self) -> Check:
        self.looked += 1
        if self.reason == "slow":
            await asyncio.Event().wait()
        if self.reason:
            raise DependencyUnavailable
        return Check(status="ok")

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.json()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand()
    server = await Server.start(made.app, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.port}"
    yield made
    await server.stop()


async def test_not_ready_says_why(stand: Stand) -> None:
    assert await stand.get("/ready") == (200, {"ready": True, "reason": None})
    stand.reason = "no database"
    assert await stand.get("/ready") == (503, {"ready": False, "reason": "no database"})
    assert (await stand.get("/alive"))[0] == 200


async def test_draining_is_not_ready(stand: Stand) -> None:
    stand.app[DRAINING].set()
    assert await stand.get("/ready") == (503, {"ready": False, "reason": "draining"})


@pytest.mark.parametrize("reason", ["slow", "away"])
async def test_a_dependency_that_is_away_or_slow_is_down(stand: Stand, reason: str) -> None:
    stand.reason = reason
    status, health = await stand.get("/health")
    assert (status, health["status"]) == (503, "down")


async def test_strangers_cannot_make_it_look_more_than_once_a_second(stand: Stand) -> None:
    await asyncio.gather(*(stand.get("/health") for _ in range(5)))
    assert stand.looked == 1
