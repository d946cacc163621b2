"""A private PostgreSQL."""

import asyncio
import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from koinonia.servers import probes
from koinonia.servers.child import Child, spawn
from koinonia.servers.ports import free_ports
from koinonia.servers.programs import postgres_directory
from koinonia.servers.unavailable import ServersUnavailable
from koinonia.servers.waiting import until_ready

_OLD_SERVER_SECONDS = 10.0
_COMMON = {
    "log_min_messages": "warning",
    "log_error_verbosity": "terse",  # an error's detail quotes the row or the key: names and texts
    "max_wal_size": "2GB",
    "random_page_cost": "1.1",
    "max_locks_per_transaction": "256",  # a clone with all its partitions, dumped or dropped in one transaction
}
# What a killed server had acknowledged stays true here too: synchronous_commit is on. Only the machine may not crash.
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}
_ALONE = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
STATISTICS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_utility": "off",
    "track_io_timing": "on",
}


class Postgres:
    """One private PostgreSQL on a port of its own; ``durable`` makes its data safe from a crash of the machine."""

    name = "postgres"

    def __init__(self, directory: Path, logs: Path, *, durable: bool = False, max_connections: int = 400) -> None:
        self._data = directory / "postgres"
        self._log = logs / "postgres.log"
        self._settings = _ALONE | server_settings(durable=durable, max_connections=max_connections)
        (self.port,) = free_ports(1)
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.running else None

    async def start(self) -> None:
        """Start it (again, on the same port and data), and return when a client can log in."""
        programs = postgres_directory()
        if programs is None:
            raise ServersUnavailable("PostgreSQL's server programs are not installed")
        self._make_data_directory()
        if not (self._data / "PG_VERSION").exists():
            await self._initdb(programs)
        await self._clear_stale_lock()
        settings = self._settings | {"port": str(self.port)} | _statistics(programs)
        self._child = self._spawn([str(programs / "postgres"), *as_options(settings)])
        await until_ready(self.name, self._child, self.port, lambda: probes.postgres(self.url))

    async def wait(self) -> None:
        """Wait until the process ends."""
        if self._child:
            await self._child.wait()

    async def stop(self) -> None:
        """A fast shutdown: sessions end, what was committed is written."""
        if self._child:
            await self._child.stop(signal.SIGINT, grace_seconds=30)

    async def kill(self) -> None:
        """As ``kill -9`` of every process of the server at once; the next start recovers from the log."""
        if self._child is None:
            return
        # Its children are in sessions of their own, and go only when they next look whether their parent lives.
        children = _children(self._child.pid)
        await self._child.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(_is_alive(pid) for pid in children):  # noqa: ASYNC110 - nobody tells when another's child ends
            await asyncio.sleep(0.01)

    async def _initdb(self, programs: Path) -> None:
        command = [
            str(programs / "initdb"),
            "--no-sync",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        making = self._spawn(command)
        if await making.wait() != 0:
            raise ServersUnavailable(f"initdb failed; its output ends:\n{making.tail()}")

    def _spawn(self, command: list[str]) -> Child:
        user, group = _user_and_group()
        # Through the descriptor the server reaches its folder even where its user may not pass a folder above it.
        descriptor = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environ |= {"PGDATA": f"/proc/self/fd/{descriptor}", "LC_ALL": "C.UTF-8"}
        try:
            return spawn(
                command, log=self._log, environ=environ, directory=Path("/"),
                user=user, group=group, pass_fds=[descriptor],
            )  # fmt: skip
        finally:
            os.close(descriptor)

    def _make_data_directory(self) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        self._data.chmod(0o700)
        user, group = _user_and_group()
        if user is not None and group is not None:
            os.chown(self._data, user, group)

    async def _clear_stale_lock(self) -> None:
        """Remove the lock file of a killed server: its process id may meanwhile be another process's.

        It also guards against processes of that server that are not gone yet; these are waited for here.

        Raises:
            ServersUnavailable: a server runs on this data.
        """
        lock = self._data / "postmaster.pid"
        deadline = asyncio.get_running_loop().time() + _OLD_SERVER_SECONDS
        while lock.exists() and (pids := _working_in(self._data)):
            if asyncio.get_running_loop().time() > deadline:
                raise ServersUnavailable(f"a PostgreSQL (process {pids[0]}) runs on {self._data} already")
            await asyncio.sleep(0.05)
        lock.unlink(missing_ok=True)


def server_settings(*, durable: bool, max_connections: int) -> dict[str, str]:
    """Return what every private PostgreSQL is told, wherever it runs."""
    return _COMMON | ({} if durable else _THROW_AWAY) | {"max_connections": str(max_connections)}


def as_options(settings: Mapping[str, str]) -> list[str]:
    """Return settings as words of the command line."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _statistics(programs: Path) -> dict[str, str]:
    """Return the settings of pg_stat_statements where this installation has it (Debian's always does)."""
    return STATISTICS if (programs.parent / "lib" / "pg_stat_statements.so").exists() else {}


def _user_and_group() -> tuple[int, int] | tuple[None, None]:
    """Return whom to run as: PostgreSQL refuses root, so root takes the user that the package made."""
    if os.geteuid() != 0:
        return None, None
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        raise ServersUnavailable("PostgreSQL does not run as root, and there is no user named postgres") from None
    return user.pw_uid, user.pw_gid


def _working_in(directory: Path) -> list[int]:
    """Return the processes whose working directory this is, as that of every process of a PostgreSQL is its data's."""
    wanted = directory.resolve()
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # gone meanwhile, or somebody else's
            if place.resolve() == wanted:
                found.append(int(place.parent.name))
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    try:
        # A zombie is dead: who inherited it may be slow to take note.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
