"""What docker-compose.yml itself promises: closed containers, scaling, telemetry, and things that outlast a restart."""

import json
from typing import Any

import aiohttp
import pytest

from koinonia.testing.fixtures import wait_until

from .church import Church
from .containers import PORTS, TELEMETRY, ContainerPlatform
from .platform import Platform

pytestmark = pytest.mark.containers

OURS = ("carrier", "gateway", "messaging", "delivery", "delivery-worker", "conversation", "billing", "compliance")
# One ends by itself, the other's image has no program to ask with.
WITHOUT_HEALTH = {"migrate", "otel-collector"}


@pytest.fixture
def contained(platform: Platform) -> ContainerPlatform:
    assert isinstance(platform, ContainerPlatform)
    return platform


def test_nothing_runs_as_root_or_is_open_beyond_this_machine(contained: ContainerPlatform) -> None:
    for name, container in contained.state.containers().items():
        host, config = container["HostConfig"], container["Config"]
        kind = config["Labels"]["com.docker.compose.service"]
        assert config["User"] not in {"", "0", "root"}, name
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False), name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["ReadonlyRootfs"] == (kind != "rabbitmq"), name
        assert ("Health" in container["State"]) == (kind not in WITHOUT_HEALTH), name
        if kind in OURS:
            assert config["User"] == "10001:10001"
        published = [each["HostIp"] for ports in (host["PortBindings"] or {}).values() for each in ports]
        assert set(published) <= {"127.0.0.1"}, name


def test_only_migrate_and_the_keeper_know_administrators_passwords(contained: ContainerPlatform) -> None:
    secrets = [contained.state.settings[name] for name in ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD")]
    for name, container in contained.state.containers().items():
        told = [secret for secret in secrets if any(secret in entry for entry in container["Config"]["Env"])]
        wanted = {"migrate": secrets, "keeper": secrets[:1], "postgres": secrets[:1], "rabbitmq": secrets[1:]}
        assert told == wanted.get(name, []), name


async def test_the_gateway_uses_every_replica_behind_a_name(church: Church) -> None:
    async def both_have_served() -> bool:
        assert [branch async for branch in church.client.branches.list()]
        return served(church.platform, church) >= {"messaging-1", "messaging-2"}

    await wait_until(both_have_served, seconds=60, what="a request at each replica")


def served(platform: Platform, church: Church) -> set[str]:
    """Which replicas have served this church."""
    return {name for name, log in platform.logs().items() if str(church.id) in requests_in(log.read_text())}


def requests_in(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if '"request_served"' in line)


async def test_a_killed_replica_is_started_again_and_the_other_serves_meanwhile(church: Church) -> None:
    platform = church.platform
    before = platform.process("messaging-1").pid
    await platform.kill("messaging-1")
    assert platform.process("messaging-1").pid != before
    assert [branch async for branch in church.client.branches.list()]


async def test_the_simulated_carriers_account_outlasts_it(church: Church) -> None:
    await church.platform.kill("carrier")
    await church.add(2)
    sent = await church.send("From a number that the carrier still knows.")
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert message.counts.delivered == 2


@pytest.mark.timeout(600)
async def test_workers_are_scaled_by_themselves_and_prometheus_finds_every_process(
    contained: ContainerPlatform, church: Church
) -> None:
    scale = ("up", "--detach", "--no-build", "--no-recreate", "--no-deps", "--wait", "--scale")
    telemetry = ("prometheus", "otel-collector")
    await contained.state.run(*scale, "delivery-worker=3", "delivery-worker", *telemetry, seconds=150)
    try:
        assert contained.process("delivery-worker-3").pid is not None
        wanted = sorted([*OURS[1:], "delivery-worker", "delivery-worker", "messaging", "otel-collector"])
        url = f"http://127.0.0.1:{contained.state.settings['PROMETHEUS_PORT']}/api/v1/targets?state=active"
        async with aiohttp.ClientSession() as session:

            async def all_are_up() -> bool:
                return await jobs_up(session, url) == wanted

            await wait_until(all_are_up, seconds=150, what="every process to be asked by Prometheus")
        await church.add(20)
        sent = await church.send("By three workers.")
        await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    finally:
        await contained.state.run(*TELEMETRY, "rm", "--force", "--stop", "--volumes", *telemetry, seconds=60)
        await contained.state.run(*scale, "delivery-worker=2", "delivery-worker", seconds=120)


async def jobs_up(session: aiohttp.ClientSession, url: str) -> list[str]:
    """The jobs of the targets that Prometheus has found and that answer."""
    async with session.get(url) as answer:
        targets: list[dict[str, Any]] = (await answer.json())["data"]["activeTargets"]
    return sorted(target["labels"]["job"] for target in targets if target["health"] == "up")


async def test_an_operators_commands_run_beside_the_platform(contained: ContainerPlatform) -> None:
    told = await contained.state.run("run", "--rm", "--no-deps", "migrate", "doctor", seconds=120)
    assert "✓" in told
    assert "✗" not in told


async def test_every_port_of_the_compose_file_can_be_chosen(contained: ContainerPlatform) -> None:
    read = json.loads(await contained.state.run(*TELEMETRY, "config", "--format", "json", seconds=30))
    ports = [port for service in read["services"].values() for port in service.get("ports", ())]
    chosen = {contained.state.settings[name] for name in PORTS}
    assert {port["published"] for port in ports if port.get("published")} == chosen
