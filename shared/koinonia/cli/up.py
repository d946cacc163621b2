"""``koinonia up``: servers, migrations, and every service as a process of its own, in the foreground."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from koinonia.cli import control, development_keys, environment, platform, prepare
from koinonia.cli.environment import OperatorSettings
from koinonia.cli.main import CommandFailed
from koinonia.cli.options import state_directory
from koinonia.cli.partitions import DAY_SECONDS, Keeper, keep_once, make_keeper
from koinonia.cli.platform import KINDS, WORKER, Backends, Layout
from koinonia.cli.processes import PlatformProcess, ProcessSpec, Supervised, Supervisor, until_ready
from koinonia.cli.state import Process, StateDirectory
from koinonia.db.roles import SERVICES
from koinonia.security.keyring import KeyringInvalid
from koinonia.servers import Servers, Wanted, find
from koinonia.servers.ports import free_ports, is_free
from koinonia.settings import SettingsError, refuse_missing_files, refuse_open
from koinonia.settings import environment as load_environment

KEEP_AFTER_SECONDS = 60.0  # when whoever starts it every day has begun to work
_SPARE_CONNECTIONS = 90  # of a private PostgreSQL, for people, the demo and migrations


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    port: int
    layout: Layout
    carrier: str


class _Layout(click.ParamType[dict[str, int]]):
    """gateway=2,messaging=3"""

    name = "kind=count,…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        counts: dict[str, int] = {}
        for entry in str(value).split(","):
            kind, _, count = entry.strip().partition("=")
            if kind not in KINDS:
                self.fail(f"{kind!r} is none of {', '.join(KINDS)}", param, ctx)
            if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 64:
                self.fail(f"{entry!r} is not of the form {kind}=COUNT, from 1 to 64", param, ctx)
            counts[kind] = int(count)
        return counts


@click.command("up")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the gateway.")
@click.option(f"--{WORKER}s", "workers", type=click.IntRange(1, 64), help="How many delivery workers.  [default: 1]")
@click.option("--processes", type=_Layout(), help="How many of each kind, such as gateway=2,messaging=2.")
@click.option(
    "--carrier",
    type=click.Choice(["simulated", "telnyx"]),
    help="Who carries the texts.  [default: telnyx when KOINONIA_TELNYX_API_URL or _API_KEY is set, else simulated]",
)
@state_directory
def command(port: int, workers: int | None, processes: dict[str, int] | None, carrier: str | None, state: Path) -> None:
    """Run the whole platform in the foreground, until SIGTERM or Ctrl-C.

    Servers that no setting names are private ones, with their data in the state directory.
    """
    settings = environment.read()
    counts = dict(processes or {})
    if workers is not None:
        counts[WORKER] = workers
    options = Options(port, Layout(counts), carrier or _usual_carrier(settings))
    _check(options, settings)
    if not is_free(port):
        raise CommandFailed(f"port {port} is taken; choose another with --port")
    directory = StateDirectory(state)
    with directory.locked():
        asyncio.run(_up(options, settings, directory))


class Platform:
    """Everything that one ``koinonia up`` starts."""

    def __init__(self, options: Options, settings: OperatorSettings, state: StateDirectory) -> None:
        self._options = options
        self._settings = settings
        self._state = state
        self._environ = environment.inherited()
        self._servers: Servers | None = None
        self._encryption_key_id = ""
        self._backends = Backends("", "", "")
        self._passwords: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self._operators_ports: dict[str, int] = {}
        self._urls: dict[str, str] = {}
        self._database_admin_url = ""
        self._partitions: asyncio.Task[None] | None = None
        self.control = state.control
        self.supervisor = Supervisor(self._note)

    async def start(self) -> str:
        """Start all of it in order; returns the public address when every process is ready."""
        options = self._options
        keys = _keys(self._settings, self._state, options.carrier)
        self._encryption_key_id = _newest_key_id(keys)
        self._passwords = {service: keys[f"KOINONIA_{service.upper()}_PASSWORD"] for service in SERVICES}
        self._backends = await self._start_servers(self._passwords)
        self._ports, self._operators_ports = self._choose_ports()
        if options.carrier == "simulated":
            carrier = platform.carrier_spec(
                self._environ,
                self._ports["carrier"],
                keys,
                f"http://127.0.0.1:{options.port}",
                self._state.path / "carrier.json",
            )
            await until_ready(await self.start_processes([carrier]))
        specs = self._specs(keys)
        click.echo(f"starting {len(specs)} processes; their logs are in {self._state.logs}")
        await until_ready(await self.start_processes(specs))
        keeper = make_keeper(self._database_admin_url, self._state.path)
        self._partitions = asyncio.create_task(self._keep_partitions(keeper))
        return f"http://127.0.0.1:{options.port}"

    def _specs(self, keys: dict[str, str]) -> list[ProcessSpec]:
        """The services' processes, as the present settings and these keys make them."""
        options, settings = self._options, self._settings
        shared = {name: value for name, value in keys.items() if not name.endswith(("_PASSWORD", "_SIGNING_SEED"))}
        known = load_environment()
        if options.carrier == "telnyx":
            shared = platform.without_files(shared, known)
        shared["KOINONIA_PUBLIC_URL"] = settings.public_url or f"http://127.0.0.1:{options.port}"
        if not known.get("KOINONIA_MAIL_DIR") and settings.environment != "production":
            shared["KOINONIA_MAIL_DIR"] = str(self._state.path.resolve() / "mail")
        if not known.get("KOINONIA_FILES_DIR"):
            shared["KOINONIA_FILES_DIR"] = str(self._state.path.resolve() / "files")
        shared["PYTHONUNBUFFERED"] = "1"  # a log is read while it is written
        if options.carrier == "simulated":
            shared["KOINONIA_TELNYX_API_URL"] = f"http://127.0.0.1:{self._ports['carrier']}"
        return platform.service_specs(
            options.layout,
            self._backends,
            environ=self._environ,
            shared=shared,
            passwords=self._passwords,
            ports=self._ports,
            operators_ports=self._operators_ports,
            host=settings.host,
        )

    async def reload(self) -> AsyncIterator[str]:
        """Replace every process of the services in turn, with the settings as they are now; tells each.

        Servers, ports, passwords and the number of processes stay what they were at the start.

        Raises:
            CommandFailed: a setting is wrong, and nothing was restarted. Or a process does not get ready: its
                predecessor goes on, and so do those after it.
        """
        try:
            settings = environment.read()
            _check(self._options, settings)
            keys = _keys(settings, self._state, self._options.carrier)
            newest_key_id = _newest_key_id(keys)
        except (CommandFailed, SettingsError, KeyringInvalid) as error:
            raise CommandFailed(f"{error}; nothing was restarted") from error
        self._settings = settings
        running = {each.name: each for each in self.supervisor.all() if isinstance(each, PlatformProcess)}
        for spec in self._specs(keys):
            old = running[spec.name]
            new = PlatformProcess(spec, self._state.logs, old.door)
            before = old.pid
            try:
                await self.supervisor.replace(old, new)
            except CommandFailed as error:
                raise CommandFailed(f"{error}; its predecessor goes on, and so do those after it") from error
            yield f"{spec.name} restarted: process {new.pid} in place of {before or 'none'}"
        self._encryption_key_id = newest_key_id

    async def tell_newest_key(self) -> AsyncIterator[str]:
        """Tell the id of the key that every process encrypts under."""
        yield self._encryption_key_id

    async def _keep_partitions(self, keeper: Keeper) -> None:
        """Make partitions ahead, archive and drop, daily, for as long as the platform runs."""
        await asyncio.sleep(KEEP_AFTER_SECONDS)
        while True:
            await keep_once(keeper)
            await asyncio.sleep(DAY_SECONDS)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything to stop."""
        return self._servers is not None

    async def start_processes(self, specs: Sequence[ProcessSpec]) -> list[PlatformProcess]:
        """Start these, and keep them running.

        Raises:
            CommandFailed: a port cannot be had.
        """
        started = []
        for spec in specs:
            process = PlatformProcess(spec, self._state.logs)
            try:
                await process.start()
            except OSError as error:
                raise CommandFailed(f"{spec.name} cannot be started: {error}") from error
            self.supervisor.keep(process)
            started.append(process)
        return started

    async def stop(self) -> None:
        """Drain and stop all in order: the public door, the services, the carrier, the servers."""
        if self._partitions is not None:
            self._partitions.cancel()
        everything = self.supervisor.all()
        servers = [each for each in everything if not isinstance(each, PlatformProcess)]
        carrier = [each for each in everything if each.name == "carrier"]
        gateways = [each for each in everything if platform.is_gateway(each.name)]
        services = [each for each in everything if each not in (*servers, *carrier, *gateways)]
        for group in (gateways, services, carrier):
            await self.supervisor.stop(group)
        await self.supervisor.stop(servers)
        if self._servers:
            await self._servers.stop()

    async def kill(self) -> None:
        """End all at once."""
        await self.supervisor.kill()

    async def _start_servers(self, passwords: dict[str, str]) -> Backends:
        settings, layout = self._settings, self._options.layout
        needed = layout.connections(settings.database_pool_size)
        room = needed + _SPARE_CONNECTIONS
        wanted = Wanted(self._state.data, self._state.logs, durable=True, max_connections=room)
        servers = self._servers = find(load_environment() | settings.environ(), wanted)
        click.echo("starting the servers")
        await servers.start()
        postgres, rabbitmq, redis = servers.all()
        database_url = settings.database_url or await prepare.ensure_database(postgres.url)
        self._urls["postgres"] = database_url
        for server in (postgres, rabbitmq, redis):
            if server.pid is not None:
                self.supervisor.keep(server)
        await prepare.check_connections(database_url, needed)
        self._database_admin_url = settings.database_direct_url or database_url
        applied = await prepare.prepare_database(self._database_admin_url, SERVICES, passwords)
        if applied:
            click.echo(f"{len(applied)} migrations applied")
        await prepare.prepare_broker(rabbitmq.url, rabbitmq.management_url, passwords)
        return Backends(database_url, rabbitmq.url, redis.url, settings.database_direct_url)

    def _choose_ports(self) -> tuple[dict[str, int], dict[str, int]]:
        """Everybody's port, and the gateways' for operators; the first gateway has the port that was asked for."""
        layout = self._options.layout
        gateways = layout.names("gateway")
        others = [name for kind in KINDS if kind != "gateway" for name in layout.names(kind)] + ["carrier"]
        found = free_ports(2 * len(gateways) + len(others))
        ports = dict(zip([*gateways, *others], found[len(gateways) :], strict=True))
        ports[gateways[0]] = self._options.port
        return ports, dict(zip(gateways, found, strict=False))

    def _note(self) -> None:
        processes = {each.name: self._process(each) for each in self.supervisor.all()}
        self._state.write_processes(processes)

    def _process(self, each: Supervised) -> Process:
        return Process(each.pid, each.port, self._urls.get(each.name, each.url), getattr(each, "management_url", None))


async def _up(options: Options, settings: OperatorSettings, state: StateDirectory) -> None:
    await until_signalled(Platform(options, settings, state))


async def until_signalled(platform: Platform) -> None:
    """Start, say so, and stop in good order at a signal; at a second one, at once."""
    signalled: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]  # also where a shell, starting it with &, had the latter ignored
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup; else its terminal was closed
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, signalled.put_nowait, None)
    first = asyncio.create_task(signalled.get())
    running = asyncio.create_task(_run(platform))
    try:
        await asyncio.wait([first, running, platform.supervisor.failed], return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.wait([running])
    finally:
        await _stop(platform, signalled)
    for ended in (running, platform.supervisor.failed):
        if ended.done() and not ended.cancelled():
            ended.result()


async def _run(platform: Platform) -> None:
    url = await platform.start()
    requests = {control.RELOAD: platform.reload, control.NEWEST_KEY: platform.tell_newest_key}
    async with control.answering(platform.control, requests):
        click.echo(f"ready {url}")
        await asyncio.Event().wait()


async def _stop(platform: Platform, signalled: "asyncio.Queue[None]") -> None:
    if platform.has_begun:
        with suppress(OSError):  # the terminal may be gone
            click.echo("stopping", err=True)
    again = asyncio.create_task(signalled.get())
    stopping = asyncio.create_task(platform.stop())
    await asyncio.wait([again, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await platform.kill()
    await stopping
    again.cancel()


def _usual_carrier(settings: OperatorSettings) -> str:
    return "telnyx" if settings.telnyx_api_url or settings.telnyx_api_key else "simulated"


def _check(options: Options, settings: OperatorSettings) -> None:
    """Refuse what cannot work, in one line."""
    if options.carrier == "telnyx" and not (settings.telnyx_api_key and settings.telnyx_public_key):
        raise CommandFailed("--carrier telnyx needs KOINONIA_TELNYX_API_KEY and KOINONIA_TELNYX_PUBLIC_KEY")
    if settings.environment == "production":
        for name in ("KOINONIA_ENCRYPTION_KEYS", "KOINONIA_TOKEN_KEYS", "KOINONIA_BLIND_INDEX_KEY"):
            if name not in settings.environ():
                raise CommandFailed(f"{name} is not set, and KOINONIA_ENVIRONMENT is production")
        for field in ("database_url", "amqp_url", "redis_url"):
            refuse_open(field, getattr(settings, field) or "unset")
        for field in ("database_direct_url", "amqp_management_url"):
            refuse_open(field, getattr(settings, field))
        if options.carrier == "simulated":
            raise CommandFailed("the simulated carrier is for development, and KOINONIA_ENVIRONMENT is production")
    refuse_missing_files(settings)


def _newest_key_id(keys: dict[str, str]) -> str:
    """The id of the key to encrypt under.

    Raises:
        KeyringInvalid: a setting does not hold keys.
    """
    return development_keys.parse(keys).encryption_key_id


def _keys(settings: OperatorSettings, state: StateDirectory, carrier: str) -> dict[str, str]:
    """The keys and passwords that are set, and those made for development in place of the others.

    The simulated carrier has its own, whatever is set for the real one.
    """
    made = development_keys.ensure(state.keys)
    named = {name: value for name, value in settings.environ().items() if name in made}
    if carrier == "simulated":
        named = {name: value for name, value in named.items() if "_TELNYX_" not in name}
    return made | named
