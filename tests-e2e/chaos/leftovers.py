"""What a run may have left behind: events, leases, locks, connections, files; who died by itself; bugs in logs."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

from koinonia.cli.platform import LISTENERS

from ..platform import SETTINGS
from .stage import SERVERS, Stage, kind_of

DATABASE_CONNECTIONS = int(SETTINGS["KOINONIA_DATABASE_POOL_SIZE"]) + LISTENERS  # of a process, at most
BROKER_CONNECTIONS = 2
REDIS_CONNECTIONS = 20
TRANSACTION_SECONDS = 3.0  # longer than any of ours takes when nothing is wrong
SPARE_FILES = 2

_RESTARTED = re.compile(r"^(\S+) ended, starting it again")
_EXPECTED = ("error when creating transport", "coroutine 'Connection.close' was never awaited")
"""What a library says of a broker that is away: it could not connect, and let go of what it could not connect."""


@dataclass(frozen=True)
class Mark:
    """How long each log was when the run began."""

    places: dict[Path, int]
    stage: Stage

    @classmethod
    def now(cls, stage: Stage) -> Self:
        return cls({path: path.stat().st_size for path in stage.platform.logs().values()}, stage)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each process's name and line since then."""
        for name, path in self.stage.platform.logs().items():
            with path.open("rb") as file:
                file.seek(self.places.get(path, 0))
                for line in file.read().decode(errors="replace").splitlines():
                    yield name, line

    def entries(self, event: str) -> Iterator[dict[str, object]]:
        """The log lines with this event name."""
        for _, line in self.lines():
            if f'"{event}"' in line:
                yield json.loads(line)


async def find(stage: Stage, since: Mark, killed: Counter[str], anew: Sequence[UUID]) -> list[str]:
    """Everything that is there and must not be. ``anew`` are events said under a new id, which must have been taken."""
    if not await stage.is_ready():
        return ["a process is not ready"]
    complaints = await _events(stage, anew)
    complaints += await _leases(stage)
    complaints += await _sessions(stage)
    complaints += await _open_files(stage)
    complaints += _logs(since, killed)
    return complaints


async def _events(stage: Stage, anew: Sequence[UUID]) -> list[str]:
    waiting = {**await stage.reader.waiting(), **await stage.platform.queued()}
    wrong = [f"{count} events in {place}" for place, count in waiting.items()]
    if (consumers := await stage.count_consumers()) != stage.consumers:
        wrong.append(f"consumers are {consumers}, they were {stage.consumers}")
    if (taken := await stage.reader.inbox_rows(anew)) != len(anew):
        wrong.append(f"{taken} of {len(anew)} chunks said anew were taken")
    return wrong


async def _leases(stage: Stage) -> list[str]:
    """All is done by now: who works on something still, or was killed while it did?"""
    return [f"{count} rows of {table} are leased" for table, count in (await stage.reader.leases()).items()]


async def _sessions(stage: Stage) -> list[str]:
    """No lock, no transaction, and no connection of a process that is gone."""
    wrong = []
    sessions = await stage.reader.sessions()
    owners = {each.local_port: name for name, held in stage.held().items() for each in held.connections}
    for session in sessions:
        if session.client_port not in owners:
            wrong.append(f"a database connection of {session.application_name} belongs to no process")
        if (session.transaction_seconds or 0) > TRANSACTION_SECONDS:
            wrong.append(f"{session.application_name}: a transaction is open for {session.transaction_seconds:.0f} s")
    if locks := await stage.reader.advisory_locks():
        await asyncio.sleep(0.3)  # somebody's who works, or a leftover?
        if await stage.reader.advisory_locks():
            wrong.append(f"{locks} advisory locks are held")
    return wrong


async def _open_files(stage: Stage) -> list[str]:
    wrong = []
    ports = {name: stage.platform.process(name).port for name in SERVERS}
    limits = {"postgres": DATABASE_CONNECTIONS, "rabbitmq": BROKER_CONNECTIONS, "redis": REDIS_CONNECTIONS}
    for name, held in stage.held().items():
        more = held.others - stage.baseline[kind_of(name)]
        half = [each.remote_port for each in held.connections if each.is_half_closed]
        # Redis's client finds out when it next takes a connection from its pool that the server has gone.
        counts = {server: len(held.to(ports[server])) for server in SERVERS}
        counts["redis"] += more.pop("socket", 0) + half.count(ports["redis"])
        half = [port for port in half if port != ports["redis"]]
        for server, limit in limits.items():
            if counts[server] > limit:
                wrong.append(f"{name} has {counts[server]} connections to {server}")
        if half:
            wrong.append(f"{name} has not closed connections to {half}, whose other side has gone")
        if more.total() > SPARE_FILES:
            wrong.append(f"{name} holds more than at first: {dict(more)}")
    return wrong


def _logs(since: Mark, killed: Counter[str]) -> list[str]:
    wrong = []
    restarted: Counter[str] = Counter()
    for name, line in since.lines():
        if name == "up" and (found := _RESTARTED.match(line)):
            restarted[found.group(1)] += 1
        elif name == "postgres" and "deadlock detected" in line:
            wrong.append("postgres found a deadlock")
        elif name not in SERVERS and _is_bug(line):
            wrong.append(f"{name} logged {line[:300]}")
    if restarted != killed:
        wrong.append(f"processes ended: {dict(restarted)}, and only {dict(killed)} were killed")
    return wrong


def _is_bug(line: str) -> bool:
    """An error, or a trace that nobody caught; a dependency's absence is a warning."""
    if any(words in line for words in _EXPECTED):
        return False
    try:
        entry = json.loads(line)
    except ValueError:
        return "Traceback" in line or "never retrieved" in line or "was never awaited" in line
    return isinstance(entry, dict) and entry.get("level") in {"error", "critical"}
