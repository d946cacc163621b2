"""What a service says of itself when something is wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from koinonia.api.health import Check
from koinonia.errors import DependencyUnavailable
from koinonia.testing.fixtures import wait_until
from koinonia.web import DRAINING, Probe, Server, build_operators_app, health


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
    status, found = await stand.get("/health")
    assert (status, found["status"]) == (503, "down")


async def test_a_slow_dependency_keeps_nobody_waiting_and_is_down_once_its_check_gives_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_CHECK_SECONDS", 0.3)
    monkeypatch.setattr(health, "_KEPT_SECONDS", 0.0)
    loop = asyncio.get_running_loop()

    async def status() -> object:
        began = loop.time()
        code, answer = await stand.get("/health")
        assert loop.time() - began < 0.2
        assert code == (200 if answer["status"] == "ok" else 503)
        return answer["status"]

    assert await status() == "ok"
    stand.reason = "slow"
    assert await status() == "ok"  # as far as is known
    await wait_until(lambda: down(status))
    stand.reason = None
    await wait_until(lambda: up(status))


async def down(status: Callable[[], Awaitable[object]]) -> bool:
    return await status() == "down"


async def up(status: Callable[[], Awaitable[object]]) -> bool:
    return await status() == "ok"


async def test_strangers_cannot_make_it_look_more_than_once_a_second(stand: Stand) -> None:
    await asyncio.gather(*(stand.get("/health") for _ in range(5)))
    assert stand.looked == 1
