"""The order in which servers are found, and what is said when they are not."""

import re
from pathlib import Path

import pytest

from koinonia.servers import ServersUnavailable, Wanted, containers, find, install, programs
from koinonia.servers.containers import IMAGES, ContainerRabbitMQ, ContainerRedis, image
from koinonia.servers.external import ExternalPostgres, NotPrivateError
from koinonia.servers.finding import choice_of, management_url
from koinonia.servers.postgres import Postgres

NAMED = {
    "KOINONIA_DATABASE_URL": "postgresql://admin@db.example:6000/koinonia",
    "KOINONIA_AMQP_URL": "amqp://admin:secret@mq.example/",
    "KOINONIA_REDIS_URL": "redis://cache.example/0",
}


NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    return Wanted(tmp_path, tmp_path)


def test_a_setting_that_names_a_server_is_taken_whatever_is_installed(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "is_installed", lambda _kind: False)
    servers = find(NAMED, wanted)
    assert [server.url for server in servers.all()] == list(NAMED.values())
    assert [server.port for server in servers.all()] == [6000, 5672, 6379]
    assert [server.pid for server in servers.all()] == [None] * 3


def test_the_management_api_is_beside_the_broker_unless_it_is_named() -> None:
    assert management_url({}, "amqp://a:b@mq.example/vhost") == "http://a:b@mq.example:15672"
    assert management_url({}, "amqps://a:b@mq.example/") == "https://a:b@mq.example:15671"
    trusting = management_url({}, "amqps://a:b@mq.example/?cafile=/etc/ca.pem&heartbeat=5")
    assert trusting == "https://a:b@mq.example:15671/?cafile=/etc/ca.pem"
    named = {"KOINONIA_AMQP_MANAGEMENT_URL": "http://other:1"}
    assert management_url(named, "amqp://a:b@mq.example/") == "http://other:1"


def test_what_is_missing_is_said_in_one_line(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "is_installed", lambda kind: kind == "postgres")
    monkeypatch.setattr(install, "can_install", lambda: False)
    what_to_do = (
        "; on Debian or Ubuntu, as root: apt-get install rabbitmq-server redis-server; "
        "or name running servers by KOINONIA_AMQP_URL, KOINONIA_REDIS_URL"
    )
    with pytest.raises(ServersUnavailable) as caught:
        find({"KOINONIA_SERVERS": "native"}, wanted)
    assert str(caught.value) == f"not installed: rabbitmq, redis{what_to_do}"
    with pytest.raises(ServersUnavailable) as caught:
        find({}, wanted)
    assert re.fullmatch(
        rf"not installed: rabbitmq, redis \(no Docker engine answers at {NOWHERE} \(.+\)\){re.escape(what_to_do)}",
        str(caught.value),
    )


def test_root_on_debian_gets_what_is_missing(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"postgres"}
    monkeypatch.setattr(programs, "is_installed", lambda kind: kind in installed)
    monkeypatch.setattr(install, "can_install", lambda: True)
    monkeypatch.setattr(install, "install", installed.update)
    find({}, wanted)
    assert installed == {"postgres", "rabbitmq", "redis"}


def test_what_is_not_installed_runs_in_a_container_where_an_engine_answers(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    provided: list[str] = []
    monkeypatch.setattr(programs, "is_installed", lambda kind: kind == "postgres")
    monkeypatch.setattr(install, "install", lambda _kinds: pytest.fail("nothing need be installed"))
    monkeypatch.setattr(containers, "provide", lambda kinds, _environ: provided.extend(kinds))
    servers = find({}, wanted)
    assert provided == ["rabbitmq", "redis"]
    assert [type(server) for server in servers.all()] == [Postgres, ContainerRabbitMQ, ContainerRedis]


def test_docker_takes_nothing_else_in_the_place_of_an_engine(wanted: Wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "is_installed", lambda _kind: True)
    with pytest.raises(ServersUnavailable, match=rf"^no Docker engine answers at {NOWHERE} \(.+\)$"):
        find({"KOINONIA_SERVERS": "docker"}, wanted)


def test_images_are_named_by_settings() -> None:
    assert image("redis", {"REDIS_IMAGE": "elsewhere.example/redis:8"}) == "elsewhere.example/redis:8"
    assert image("redis", {"REDIS_IMAGE": ""}) == "redis:7"
    compose = (Path(__file__).parents[4] / "docker-compose.yml").read_text()
    for variable, usual in IMAGES.values():
        assert f"image: ${{{variable}:-{usual}}}\n" in compose  # the same, with the same default


def test_docker_asks_for_nothing_when_every_server_is_named(wanted: Wanted) -> None:
    assert find({**NAMED, "KOINONIA_SERVERS": "docker"}, wanted).redis.url == NAMED["KOINONIA_REDIS_URL"]


def test_an_unknown_choice_names_the_setting() -> None:
    assert choice_of({}) == "auto"
    with pytest.raises(ServersUnavailable, match="KOINONIA_SERVERS: 'podman' is none of auto, native, docker"):
        choice_of({"KOINONIA_SERVERS": "podman"})


async def test_a_server_of_somebody_else_is_never_killed() -> None:
    with pytest.raises(NotPrivateError):
        await ExternalPostgres("postgresql://admin@127.0.0.1/koinonia").kill()


def test_an_own_policy_hook_survives_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    calls: list[tuple[str, bool]] = []
    monkeypatch.setattr(install, "_POLICY", policy)
    monkeypatch.setattr(install, "_LOCK", tmp_path / "lock")
    monkeypatch.setattr(programs, "is_installed", lambda _kind: False)
    monkeypatch.setattr(install, "_apt_get", lambda *arguments: calls.append((arguments[0], policy.exists())))
    install.install(["redis"])
    assert calls == [("update", True), ("install", True)]  # no service may start while packages are installed
    assert not policy.exists()
    policy.write_text("mine")
    install.install(["redis"])
    assert policy.read_text() == "mine"


def test_what_another_process_installed_meanwhile_is_not_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(install, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(install, "_LOCK", tmp_path / "lock")
    monkeypatch.setattr(install, "_apt_get", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(programs, "is_installed", lambda kind: kind == "redis")
    install.install(["redis", "rabbitmq"])
    assert [call[-1] for call in calls if call[0] == "install"] == ["rabbitmq-server"]
    assert not any("redis-server" in call for call in calls)
    monkeypatch.setattr(programs, "is_installed", lambda _kind: True)
    install.install(["rabbitmq"])
    assert len(calls) == 2
