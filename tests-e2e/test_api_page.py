"""The public API's own page, and how the platform says that it is well."""

from pathlib import Path

import aiohttp
import msgspec
import pytest

from .page import all_routes, served_page
from .platform import Platform

PAGE = Path(__file__).parents[1] / "proto-schemas" / "openapi.json"


async def test_the_served_page_is_the_one_in_the_repository(platform: Platform) -> None:
    assert msgspec.json.decode(await served_page(platform.url)) == msgspec.json.decode(PAGE.read_bytes())
    routes = await all_routes(platform.url)
    assert {str(route) for route in routes} >= {"POST /api/auth/register", "POST /api/messages/send", "GET /health"}


async def test_the_docs_page_loads(platform: Platform) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{platform.url}/api/docs") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        text = await answer.text()
    assert "Koinonia" in text
    assert "openapi" in text.lower()


async def test_the_gateway_tells_its_health_and_hides_its_details(platform: Platform) -> None:
    async with aiohttp.ClientSession(platform.url) as session:
        async with session.get("/health") as answer:
            health = msgspec.json.decode(await answer.read())
            assert (answer.status, health["status"]) == (200, "ok")
            assert health["checks"].keys() == {"database", "redis", "queues", "environment", "uptime"}
            assert "X-Request-Id" in answer.headers
        for path, status in {
            "/ready": 200,
            "/alive": 200,
            "/metrics": 404,
            "/health/detailed": 404,
            "/health/database": 404,
        }.items():
            async with session.get(path) as answer:
                assert (path, answer.status) == (path, status)


@pytest.mark.parametrize(
    "name", ["messaging-1", "delivery", "delivery-worker-1", "conversation", "billing", "compliance"]
)
async def test_every_service_tells_operators_how_it_is(platform: Platform, name: str) -> None:
    async with aiohttp.ClientSession(platform.process(name).url) as session:
        for path in ("/health", "/ready", "/alive", "/health/detailed", "/health/database"):
            async with session.get(path) as answer:
                assert (path, answer.status) == (path, 200)
        async with session.get("/metrics") as answer:
            assert "koinonia_" in await answer.text()
