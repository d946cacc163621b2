"""Where an operator's command finds the servers: in the settings, else in a running ``koinonia up``."""

from dataclasses import dataclass
from pathlib import Path

from koinonia.cli import environment
from koinonia.cli.main import CommandFailed
from koinonia.cli.state import StateDirectory
from koinonia.servers.finding import management_url


@dataclass(frozen=True)
class Places:
    """The servers as an administrator reaches them; None: not known."""

    database_url: str | None
    amqp_url: str | None
    management_url: str | None
    redis_url: str | None

    def database(self) -> str:
        """The database, or one line that says how to name it."""
        return _known(self.database_url, "KOINONIA_DATABASE_URL")

    def amqp(self) -> str:
        """The broker, or one line that says how to name it."""
        return _known(self.amqp_url, "KOINONIA_AMQP_URL")


def find_places(state: Path) -> Places:
    """Look in the settings first, then in ``processes.json``."""
    settings = environment.read()
    processes = StateDirectory(state).read_processes()
    running = {name: process.url for name, process in processes.items()}
    amqp = settings.amqp_url or running.get("rabbitmq")
    management = settings.amqp_management_url
    if amqp and not management:
        started = None if settings.amqp_url else processes["rabbitmq"].management_url
        management = started or management_url({}, amqp)
    return Places(
        database_url=settings.database_direct_url or settings.database_url or running.get("postgres"),
        amqp_url=amqp,
        management_url=management,
        redis_url=settings.redis_url or running.get("redis"),
    )


def _known(url: str | None, variable: str) -> str:
    if url is None:
        raise CommandFailed(f"{variable} is not set, and no `koinonia up` runs here (see --state-dir)")
    return url
