"""Which processes there are, and what each is told."""

from pathlib import Path

import pytest

from koinonia.cli import development_keys
from koinonia.cli.environment import handed_on
from koinonia.cli.platform import KINDS, Backends, Layout, carrier_spec, module_of, service_specs, without_files
from koinonia.cli.processes import ProcessSpec

BACKENDS = Backends("postgresql://admin:a@db/koinonia", "amqp://admin:a@mq/", "redis://cache")


def specs(layout: Layout) -> dict[str, ProcessSpec]:
    names = [name for kind in KINDS for name in layout.names(kind)]
    ports = {name: 20_000 + number for number, name in enumerate(names)}
    made = service_specs(
        layout,
        BACKENDS,
        environ={"PATH": "/bin"},
        shared={"KOINONIA_PUBLIC_URL": "http://127.0.0.1:8080"},
        passwords={"delivery": "d", "gateway": "g"},
        ports=ports,
        operators_ports={name: 21_000 + number for number, name in enumerate(names)},
    )
    return {spec.name: spec for spec in made}


@pytest.mark.parametrize(
    ("kind", "count", "names"),
    [
        ("gateway", 1, ["gateway"]),
        ("gateway", 2, ["gateway-1", "gateway-2"]),
        ("delivery-worker", 1, ["delivery-worker-1"]),
        ("delivery-worker", 3, ["delivery-worker-1", "delivery-worker-2", "delivery-worker-3"]),
    ],
)
def test_replicas_are_numbered_and_workers_always(kind: str, count: int, names: list[str]) -> None:
    assert Layout({kind: count}).names(kind) == names


def test_every_process_counts_against_the_databases_connections_and_one_that_is_being_replaced() -> None:
    assert Layout().total() == 7
    assert Layout({"delivery-worker": 3}).connections(pool_size=10) == (9 + 1) * 12


def test_a_worker_is_delivery_to_the_database_and_the_broker() -> None:
    worker = specs(Layout())["delivery-worker-1"]
    assert list(worker.command[-2:]) == ["-m", "koinonia_delivery.worker"]
    assert worker.environ["KOINONIA_DATABASE_URL"] == "postgresql://koinonia_delivery:d@db/koinonia"
    assert worker.environ["KOINONIA_AMQP_URL"] == "amqp://koinonia_delivery:d@mq/"
    assert worker.environ["KOINONIA_PORT"] == str(worker.port)
    assert module_of("billing") == "koinonia_billing"


def test_the_gateway_starts_last_and_knows_every_replica() -> None:
    made = specs(Layout({"messaging": 2}))
    gateway = made["gateway"]
    assert list(made)[-1] == "gateway"
    assert gateway.environ["KOINONIA_MESSAGING_URL"] == "http://127.0.0.1:20000,http://127.0.0.1:20001"
    assert gateway.environ["KOINONIA_OPS_PORT"] != gateway.environ["KOINONIA_PORT"]
    assert "KOINONIA_GATEWAY_URL" not in gateway.environ
    assert "KOINONIA_MESSAGING_URL" not in made["billing"].environ


def test_a_key_of_the_carrier_that_stands_in_a_file_is_handed_on_as_the_file() -> None:
    known = {"KOINONIA_TELNYX_API_KEY_FILE": "/run/secrets/telnyx", "KOINONIA_TOKEN_KEYS_FILE": "/run/secrets/tokens"}
    keys = {"KOINONIA_TELNYX_API_KEY": "KEY", "KOINONIA_TELNYX_PUBLIC_KEY": "abc", "KOINONIA_TOKEN_KEYS": "a:b"}
    told = handed_on(known, without_files(keys, known))
    assert told["KOINONIA_TELNYX_API_KEY_FILE"] == "/run/secrets/telnyx"
    assert "KOINONIA_TELNYX_API_KEY" not in told
    assert (told["KOINONIA_TELNYX_PUBLIC_KEY"], told["KOINONIA_TELNYX_PUBLIC_KEY_FILE"]) == ("abc", "")
    assert (told["KOINONIA_TOKEN_KEYS"], told["KOINONIA_TOKEN_KEYS_FILE"]) == ("a:b", "")


def test_the_carrier_signs_with_the_key_that_the_gateway_knows() -> None:
    keys = development_keys._make()
    told = carrier_spec({}, 20_000, keys, "http://127.0.0.1:8080", Path("carrier.json")).environ
    assert told["KOINONIA_SIMULATOR_API_KEY"] == keys["KOINONIA_TELNYX_API_KEY"]
    assert told["KOINONIA_SIMULATOR_SIGNING_SEED"] == keys["KOINONIA_SIMULATOR_SIGNING_SEED"]
