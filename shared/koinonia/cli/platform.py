"""Which processes make up the platform, and what each of them is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from koinonia.cli import broker_users
from koinonia.cli.environment import as_user, handed_on
from koinonia.cli.processes import ProcessSpec, python_module
from koinonia.db.roles import SERVICES
from koinonia.settings import ServiceSettings

WORKER = "delivery-worker"
KINDS = ("messaging", "delivery", WORKER, "conversation", "billing", "compliance", "gateway")
CLOSING_SECONDS = 15.0  # for a process to close its connections, once it has drained
LISTENERS = 2  # connections that a process opens beside its pool, at most


def service_of(kind: str) -> str:
    """The service that a kind of process belongs to."""
    return "delivery" if kind == WORKER else kind


def module_of(kind: str) -> str:
    """The module that runs a kind of process."""
    return "koinonia_delivery.worker" if kind == WORKER else f"koinonia_{kind}"


@dataclass(frozen=True)
class Layout:
    """How many processes of each kind there are; a kind that is not named has one."""

    counts: Mapping[str, int] = field(default_factory=dict)

    def names(self, kind: str) -> list[str]:
        """``gateway``, or ``gateway-1``, ``gateway-2``… where there are several; workers always have a number."""
        count = self.counts.get(kind, 1)
        if count == 1 and kind != WORKER:
            return [kind]
        return [f"{kind}-{number}" for number in range(1, count + 1)]

    def total(self) -> int:
        """How many processes there are in all."""
        return sum(len(self.names(kind)) for kind in KINDS)

    def connections(self, pool_size: int) -> int:
        """How many database connections they may open, and one more process beside the one that it replaces."""
        return (self.total() + 1) * (pool_size + LISTENERS)


@dataclass(frozen=True)
class Backends:
    """The servers as an administrator reaches them."""

    database_url: str
    amqp_url: str
    redis_url: str
    database_direct_url: str | None = None

    def of(self, service: str, password: str | None) -> dict[str, str]:
        """The same as a service's own role and user reach them."""
        role = f"koinonia_{service}"
        own = {
            "KOINONIA_DATABASE_URL": as_user(self.database_url, role, password),
            "KOINONIA_AMQP_URL": as_user(self.amqp_url, broker_users.user_of(service), password),
            "KOINONIA_REDIS_URL": self.redis_url,
        }
        if self.database_direct_url:
            own["KOINONIA_DATABASE_DIRECT_URL"] = as_user(self.database_direct_url, role, password)
        return own


def service_specs(
    layout: Layout,
    backends: Backends,
    *,
    environ: Mapping[str, str],
    shared: Mapping[str, str],
    passwords: Mapping[str, str],
    ports: Mapping[str, int],
    operators_ports: Mapping[str, int],
    host: str = "127.0.0.1",
) -> list[ProcessSpec]:
    """The processes of all services, the gateway's last.

    ``shared`` is what all are told alike; ``ports`` are by process name, as the gateways' ``operators_ports`` are;
    ``host`` is where they listen.
    """
    specs = []
    for kind in KINDS:
        for name in layout.names(kind):
            service = service_of(kind)
            own = {**shared, **backends.of(service, passwords.get(service)), "KOINONIA_PORT": str(ports[name])}
            if kind == "gateway":
                own |= _urls(layout, ports) | {"KOINONIA_OPS_PORT": str(operators_ports[name])}
            told = handed_on(environ, own)
            command = python_module(module_of(kind))
            held = [ports[name], operators_ports[name]] if kind == "gateway" else [ports[name]]
            drain = _drain_seconds(told)
            specs.append(ProcessSpec(name, command, told, ports[name], held=held, host=host, drain_seconds=drain))
    return specs


def without_files(keys: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The keys without those of the carrier that stand in a file: each process reads it itself, again and again.

    ``known`` is the environment, which tells the files' names.
    """
    return {name: value for name, value in keys.items() if "_TELNYX_" not in name or not known.get(f"{name}_FILE")}


def _drain_seconds(told: Mapping[str, str]) -> float:
    """When a process is killed that does not end: what it may take to drain, and then to close its connections."""
    default = next(field.default for field in msgspec.structs.fields(ServiceSettings) if field.name == "drain_seconds")
    try:
        return float(told.get("KOINONIA_DRAIN_SECONDS") or default) + CLOSING_SECONDS
    except ValueError:
        return float(default) + CLOSING_SECONDS  # the process itself refuses to start, and says why


def carrier_spec(
    environ: Mapping[str, str], port: int, keys: Mapping[str, str], public_url: str, account_file: Path
) -> ProcessSpec:
    """The simulated carrier; its account outlives it."""
    own = {
        "KOINONIA_SIMULATOR_API_KEY": keys["KOINONIA_TELNYX_API_KEY"],
        "KOINONIA_SIMULATOR_SIGNING_SEED": keys["KOINONIA_SIMULATOR_SIGNING_SEED"],
        "KOINONIA_SIMULATOR_WEBHOOK_URL": f"{public_url}/api/webhooks/telnyx/mms",
        "KOINONIA_SIMULATOR_ACCOUNT_FILE": str(account_file),
    }
    command = python_module("koinonia.carrier.simulated", "--port", str(port))
    return ProcessSpec("carrier", command, handed_on(environ, own), port, ready_path="/simulator", drain_seconds=5.0)


def is_gateway(name: str) -> bool:
    """Whether a process is the public door, which closes first."""
    return name.partition("-")[0] == "gateway"


def _urls(layout: Layout, ports: Mapping[str, int]) -> dict[str, str]:
    """Where the gateway finds each service: every replica, separated by commas."""
    return {
        f"KOINONIA_{service.upper()}_URL": ",".join(f"http://127.0.0.1:{ports[name]}" for name in layout.names(service))
        for service in SERVICES
        if service != "gateway"
    }
