"""A service while its database is away, and when it comes."""

import asyncio

import aiohttp
import pytest

from koinonia import life as process_life
from koinonia.life import Life
from koinonia.security.keys import Keys
from koinonia.service import Parts, ServiceDefinition, running
from koinonia.settings import ServiceSettings
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import OwnServers, TestServers
from koinonia.testing.services import KEY_SETTINGS


@pytest.fixture
def servers(own_servers: OwnServers) -> TestServers:
    """Servers that this module may kill."""
    return own_servers


def build(_parts: Parts[ServiceSettings]) -> ServiceDefinition:
    return ServiceDefinition()


async def test_the_door_is_open_while_the_database_is_away_and_the_service_is_ready_when_it_comes(
    own_servers: OwnServers, database_urls: DatabaseUrls, vhost: str, keys: Keys
) -> None:
    settings = ServiceSettings(
        database_url=await database_urls("billing"),
        amqp_url=vhost,
        redis_url=own_servers.redis_url,
        port=_free_port(),
        **KEY_SETTINGS,
    )
    await own_servers.postgres.kill()
    life = Life()
    stop = asyncio.Event()

    async def run() -> None:
        async with running("billing", build, settings, keys, life):
            await stop.wait()

    task = asyncio.create_task(run())
    url = f"http://127.0.0.1:{settings.port}"
    try:
        async with aiohttp.ClientSession() as http:
            await wait_until(lambda: _answers(http, f"{url}/alive", 200))
            await wait_until(lambda: _answers(http, f"{url}/ready", 503))
            await own_servers.postgres.start()
            await wait_until(lambda: _answers(http, f"{url}/ready", 200))
    finally:
        stop.set()
        await task
    assert not life.failed


async def _answers(http: aiohttp.ClientSession, url: str, status: int) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == status
    except aiohttp.ClientConnectionError:
        return False


def _free_port() -> int:
    from koinonia.servers.ports import free_ports

    return free_ports(1)[0]


def test_a_service_told_to_stop_while_it_waits_for_its_database_ends_cleanly(keys: Keys) -> None:
    settings = ServiceSettings(
        database_url="postgresql://billing@127.0.0.1:1/koinonia",
        amqp_url="amqp://127.0.0.1:1/",
        redis_url="redis://127.0.0.1:1",
        **KEY_SETTINGS,
    )

    async def live(life: Life) -> None:
        asyncio.get_running_loop().call_later(0.3, life.stop, "told to")
        async with running("billing", build, settings, keys, life):
            await life.stopping.wait()

    assert process_life.run(live) == 0
