"""The platform that is measured: ``koinonia up`` with servers of its own, a church with all its people, its carrier."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp
import asyncpg
import msgspec

from bench.work import phone
from koinonia.api.auth import RegisterRequest
from koinonia.api.groups import GroupRequest
from koinonia.api.members import IMPORT_ROWS
from koinonia.api.messages import Message, SendRequest
from koinonia.cli import development_keys
from koinonia.cli.state import Process, StateDirectory
from koinonia.client import Client
from koinonia.servers.child import Child, spawn
from koinonia.servers.ports import free_ports

KOINONIA = str(Path(sys.executable).with_name("koinonia"))
NOT_OURS = {"postgres", "rabbitmq", "redis", "carrier"}
START_SECONDS = 180.0
PAUSE_SECONDS = 0.05
CONCURRENCY = 100

# What a church that texts so much would have: no limit in the way. Nothing else differs from a fresh installation but
# the calls at once of the worker, which 50 ms of the carrier's time need (see the page).
SETTINGS = {
    "KOINONIA_TRIAL_SEGMENTS": "1000000000",
    "KOINONIA_LONG_CODE_RATE": "1000000",
    "KOINONIA_RATE_LIMIT_API": "1000000/1m",
    "KOINONIA_RATE_LIMIT_SEND": "1000000/1m",
    "KOINONIA_RATE_LIMIT_BILLING": "1000000/1m",
    "KOINONIA_DELIVERY_CONCURRENCY": str(CONCURRENCY),
}


class BenchFailed(Exception):
    """What was measured did not do its work; the message says what."""


class Platform:
    """A running platform; use it as an async context manager. Its servers are private ones."""

    def __init__(self, directory: Path) -> None:
        self.state = StateDirectory(directory / "state")
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "up.log"
        self._command = [KOINONIA, "up", "--state-dir", str(self.state.path), "--port", str(port)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KOINONIA_", "OTEL_"))}
        self._environ = kept | {"KOINONIA_SERVERS": "native"} | SETTINGS
        self._up: Child | None = None

    async def __aenter__(self) -> Self:
        self._up = spawn(self._command, log=self._log, environ=self._environ, directory=self._log.parent)
        try:
            await until(self._is_ready, seconds=START_SECONDS, what="the platform's start")
            await self._note_commit_times()
        except BaseException:
            await self._up.stop(grace_seconds=90)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._up is not None:
            await self._up.stop(grace_seconds=90)

    @property
    def processes(self) -> dict[str, Process]:
        """Every process that ``koinonia up`` names, as they are now."""
        return self.state.read_processes()

    @property
    def pids(self) -> dict[str, int]:
        """The same by their process ids."""
        return {name: process.pid for name, process in self.processes.items() if process.pid is not None}

    @property
    def database_url(self) -> str:
        """The administrator's."""
        return self.processes["postgres"].url

    @property
    def keys(self) -> dict[str, str]:
        """The keys that ``koinonia up`` made, the carrier's among them."""
        return development_keys.read(self.state.keys)

    async def _is_ready(self) -> bool:
        assert self._up is not None
        if not self._up.running:
            raise BenchFailed(f"the platform did not start:\n{self._up.tail()}")
        return any(line.startswith("ready http://") for line in self._log.read_text().splitlines())

    async def _note_commit_times(self) -> None:
        """Let Postgres keep the time of each commit, by which it is known when a receipt was stored: it starts anew."""
        before = self.pids["postgres"]
        connection = await asyncpg.connect(self.database_url)
        await connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        await connection.close()
        os.kill(before, signal.SIGINT)

        async def is_back() -> bool:
            return self.pids.get("postgres") not in {None, before} and await self._answers()

        await until(is_back, seconds=60, what="the return of Postgres")

    async def _answers(self) -> bool:
        """Whether all services take work again."""
        own = [process for name, process in self.processes.items() if name not in NOT_OURS]
        try:
            async with aiohttp.ClientSession() as session:
                for process in own:
                    async with session.get(f"{process.url}/ready") as answer:
                        if answer.status != 200:
                            return False
        except (aiohttp.ClientError, OSError):
            return False
        return True


class Church:
    """A church and its people, by the public API alone."""

    def __init__(self, platform: Platform, client: Client, church_id: UUID, number: str) -> None:
        self.platform = platform
        self.client = client
        self.id = church_id
        self.number = number
        self._groups: dict[int, UUID] = {}

    @classmethod
    async def register(cls, platform: Platform) -> Self:
        """Register it, and wait until it is ready to send."""
        client = Client(platform.url, patience_seconds=60)
        request = RegisterRequest(
            church_name="Grace Chapel",
            first_name="Ruth",
            last_name="Miller",
            email="owner@church.example",
            password="a long sentence that nobody guesses",
        )
        session = await client.auth.register(request)
        await client.churches.wait_until_ready(session.church.id)
        (number,) = [each.phone_number async for each in client.numbers.list()]
        return cls(platform, client, session.church.id, number)

    async def close(self) -> None:
        await self.client.transport.close()

    async def gather(self, sizes: Sequence[int]) -> None:
        """Import people, and make a group of the first so many for each size."""
        for size in sorted(set(sizes)):
            self._groups[size] = (await self.client.groups.create(GroupRequest(name=f"The first {size}"))).id
        there = 0
        for size in sorted(self._groups):
            belongs_to = [group_id for each, group_id in self._groups.items() if each >= size]
            while there < size:
                page = [_row(number) for number in range(there, min(size, there + IMPORT_ROWS))]
                result = await self.client.members.import_rows(page, belongs_to)
                if result.created != len(page):
                    raise BenchFailed(f"{len(page)} people were to be imported, and {result.created} were")
                there += len(page)

    def group(self, size: int) -> UUID:
        """The group of the first so many."""
        return self._groups[size]

    async def send(self, size: int, content: str, scheduled_at: datetime | None = None) -> tuple[Message, float]:
        """Send to the group of so many; the message, and how many seconds the answer took."""
        request = SendRequest(
            content=content,
            target_type="groups",
            target_ids=[self._groups[size]],
            scheduled_at=scheduled_at,
            allow_duplicate=True,
        )
        began = time.perf_counter()
        message = await self.client.messages.send(request)
        return message, time.perf_counter() - began

    async def completed(self, message_id: UUID, seconds: float) -> Message:
        """Wait until a message is completed."""

        async def is_completed() -> bool:
            return (await self.client.messages.get(message_id)).status == "completed"

        await until(is_completed, seconds=seconds, what="the broadcast", pause_seconds=0.5)
        return await self.client.messages.get(message_id)

    async def metered(self, segments: int, seconds: float = 120) -> None:
        """Wait until the bill has so many segments, and nothing is reserved any more."""

        async def is_metered() -> bool:
            usage = await self.client.billing.usage()
            if usage.segments > segments:
                raise BenchFailed(f"{usage.segments} segments are on the bill in place of {segments}")
            return usage.segments == segments and usage.reserved_segments == 0

        await until(is_metered, seconds=seconds, what=f"a bill of {segments} segments", pause_seconds=0.25)


class Texts(msgspec.Struct):
    """The carrier's figures of what arrived."""

    accepted: int
    recipients: int
    duplicates: int
    parts: int


class Told(msgspec.Struct, frozen=True):
    """One text at the carrier: when it first sent the last receipt, and when that was answered 2xx."""

    id: str
    told_at: datetime | None
    heard_at: datetime | None


class _Page(msgspec.Struct):
    data: list[Told]
    next_after: int | None


class _Webhooks(msgspec.Struct):
    failed_attempts: int
    gave_up: int
    pending: int


class _Record(msgspec.Struct):
    texts: Texts
    webhooks: _Webhooks


class _Number(msgspec.Struct):
    phone_number: str
    messaging_profile_id: str


class _Numbers(msgspec.Struct):
    numbers: list[_Number]


class Carrier:
    """The simulated carrier's control API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession()

    async def aclose(self) -> None:
        await self._session.close()

    async def begin(self, latency_seconds: float) -> None:
        """Forget what was, and answer texts after so many seconds from now on."""
        await self._call("POST", "/reset")
        await self._call("PATCH", "/settings", {"latency_seconds": latency_seconds})

    async def text(self, sender: str, number: str, content: str) -> None:
        """A person texts a number of the account's."""
        await self._call("POST", "/inbound", {"from": sender, "to": number, "text": content})

    async def profile_of(self, number: str) -> str:
        """The messaging profile of one of the account's numbers."""
        answer = msgspec.json.decode(await self._call("GET", "/numbers"), type=_Numbers)
        return next(each.messaging_profile_id for each in answer.numbers if each.phone_number == number)

    async def check(self, count: int, *, answered: bool = True) -> int:
        """See that so many people have each got one text, and (where ``answered``) all webhooks their answer in time.

        Returns how many tries of webhooks were not answered in time.

        Raises:
            BenchFailed: not so.
        """
        record = await self._record()
        texts, webhooks = record.texts, record.webhooks
        if (texts.accepted, texts.recipients, texts.duplicates) != (count, count, 0):
            raise BenchFailed(f"the carrier was to have {count} texts to as many people, and has {texts}")
        if webhooks.pending or (answered and webhooks.gave_up):
            raise BenchFailed(f"webhooks were not all answered: {webhooks}")
        return webhooks.failed_attempts

    async def settled(self, seconds: float = 60) -> None:
        """Wait until no webhook is under way."""

        async def nothing() -> bool:
            return (await self._record()).webhooks.pending == 0

        await until(nothing, seconds=seconds, what="the last webhook's answer")

    async def told(self) -> list[Told]:
        """Every text, in the order of their acceptance."""
        found: list[Told] = []
        after: int | None = 0
        while after is not None:
            page = msgspec.json.decode(await self._call("GET", f"/record/texts?limit=10000&after={after}"), type=_Page)
            found += page.data
            after = page.next_after
        return found

    async def _record(self) -> _Record:
        return msgspec.json.decode(await self._call("GET", "/record"), type=_Record)

    async def _call(self, method: str, path: str, body: Any = None) -> bytes:
        async with self._session.request(method, f"{self.url}/simulator{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.read()


async def until(
    condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str, pause_seconds: float = PAUSE_SECONDS
) -> None:
    """Wait until ``condition()`` is true.

    Raises:
        BenchFailed: not in time.
    """
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(pause_seconds)


def _row(number: int) -> dict[str, object]:
    return {"firstName": f"Anna{number}", "lastName": f"Lee{number}", "phone": phone(number), "optInSms": True}
