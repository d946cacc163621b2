"""The ways to do the work, each from a standing start to the last receipt, with what it cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median

import aio_pika
import aiohttp
import asyncpg
import msgspec
from yarl import URL

from bench import processes
from bench.figures import CARRIER, PlatformRun, Run, per_recipient, percentile
from bench.helpers import Helper
from bench.platform import CONCURRENCY, BenchFailed, Carrier, Church, Platform, until
from bench.servers import Servers
from bench.usual import table
from bench.work import TEXT, Work
from koinonia.servers.broker_admin import BrokerAdmin

ACCEPT_TIMES = 5
RECIPIENTS_PER_SECOND = 100.0  # slower than that, it is given up
USED = {"receiver", "postgres", "rabbitmq", CARRIER}
USUAL = "usual"  # the database and the virtual host of the usual ways


@dataclass(frozen=True)
class Bench:
    """What all ways share."""

    platform: Platform
    carrier: Carrier
    servers: Servers
    church: Church
    work: Work  # without its people and its webhook's URL

    @classmethod
    @asynccontextmanager
    async def on(cls, platform: Platform) -> AsyncIterator["Bench"]:
        """Look the running platform over, and register the church."""
        found = platform.processes
        carrier = Carrier(found["carrier"].url)
        management_url = found["rabbitmq"].management_url
        assert management_url is not None
        church = await Church.register(platform)
        work = Work(
            carrier_url=carrier.url,
            api_key=platform.keys["KOINONIA_TELNYX_API_KEY"],
            sender=church.number,
            profile_id=await carrier.profile_of(church.number),
            webhook_url="",
            people=0,
        )
        try:
            async with Servers(platform.database_url, management_url) as servers:
                yield cls(platform, carrier, servers, church, work)
        finally:
            await church.close()
            await carrier.aclose()

    def seconds_for(self, people: int) -> float:
        """When to give up."""
        return 60 + people / RECIPIENTS_PER_SECOND


class PlatformWay:
    """A broadcast through the whole platform."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._sent = 0

    async def run(self, people: int, latency_seconds: float) -> PlatformRun:
        """Send to so many; all of it is checked at the carrier, in the rows and on the bill."""
        bench = self._bench
        await bench.carrier.begin(latency_seconds)
        processes.forget_peaks(bench.platform.pids)
        await bench.servers.begin()
        before = processes.cpu_seconds(bench.platform.pids)
        began_at = datetime.now(UTC).timestamp()
        message, accept_seconds = await bench.church.send(people, TEXT)
        message = await bench.church.completed(message.id, bench.seconds_for(people))
        self._sent += people
        await bench.church.metered(self._sent)
        after = processes.cpu_seconds(bench.platform.pids)
        peaks = processes.peak_bytes(bench.platform.pids)
        work = await bench.servers.end()
        await bench.carrier.settled()
        if (message.total_recipients, message.counts.delivered) != (people, people):
            raise BenchFailed(f"{message.counts.delivered} of {message.total_recipients} were delivered, not {people}")
        repeated = await bench.carrier.check(people)
        stored = await bench.servers.stored(message.id)
        told = await bench.carrier.told()
        if stored.keys() != {each.id for each in told}:
            raise BenchFailed("the delivered rows are not the carrier's texts")
        since = [(stored[each.id], each.told_at, each.heard_at) for each in told]
        stored_ms = [(at - sent.timestamp()) * 1000 for at, sent, _ in since if sent is not None]
        answered_ms = [(heard - sent).total_seconds() * 1000 for _, sent, heard in since if sent and heard]
        return PlatformRun(
            way="platform",
            recipients=people,
            latency_seconds=latency_seconds,
            concurrency=CONCURRENCY,
            seconds=max(stored.values()) - began_at,
            cpu_us=per_recipient(before, after, people),
            webhooks_repeated=repeated,
            accept_seconds=accept_seconds,
            peak_bytes=peaks,
            statements=work.statements / people,
            transactions=work.transactions / people,
            published=work.published / people,
            delivered=work.delivered / people,
            wal_bytes=work.wal_bytes / people,
            stored_p50_ms=percentile(stored_ms, 0.5),
            stored_p99_ms=percentile(stored_ms, 0.99),
            answered_p50_ms=percentile(answered_ms, 0.5),
            answered_p99_ms=percentile(answered_ms, 0.99),
            by_statement=work.by_statement,
        )

    async def accept(self, people: int) -> float:
        """How many seconds ``POST /api/messages/send`` takes for so many, sending not begun: the median of five."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        took = []
        for _ in range(ACCEPT_TIMES):
            message, seconds = await self._bench.church.send(people, TEXT, scheduled_at=tomorrow)
            await self._bench.church.client.messages.cancel(message.id)
            took.append(seconds)
        return median(took)


class Yardstick:
    """A bare client loop, and a bare receiver."""

    def __init__(self, bench: Bench, receiver: Helper, port: int, session: aiohttp.ClientSession) -> None:
        self._bench = bench
        self._receiver = receiver
        self._url = f"http://127.0.0.1:{port}"
        self._session = session
        self._idle_shares: list[float] = []

    @classmethod
    @asynccontextmanager
    async def ready(cls, bench: Bench) -> AsyncIterator["Yardstick"]:
        """Start its receiver."""
        async with _helper("bench.yardstick.receiver", bench.platform.keys["KOINONIA_TELNYX_PUBLIC_KEY"]) as receiver:
            port = int(await receiver.hear())
            async with aiohttp.ClientSession() as session:
                yield cls(bench, receiver, port, session)

    async def run(self, people: int, latency_seconds: float, concurrency: int) -> Run:
        """Post to so many, and wait until the receiver has answered two webhooks of each."""
        bench = self._bench
        await bench.carrier.begin(latency_seconds)
        async with self._session.post(f"{self._url}/expect/{2 * people}") as answer:
            answer.raise_for_status()
        work = msgspec.structs.replace(
            bench.work, people=people, concurrency=concurrency, webhook_url=f"{self._url}/webhooks"
        )
        async with _helper("bench.yardstick.sender") as sender:
            await sender.say(msgspec.json.encode(work))
            await sender.hear()
            pids = {"sender": sender.pid, "receiver": self._receiver.pid}
            before, idle = self._cpu(pids), processes.cpu_seconds(self._others())
            await sender.say(b"go")
            async with asyncio.timeout(bench.seconds_for(people)):
                ended, reached_at = await asyncio.gather(sender.ended(), self._reached())
                await bench.carrier.settled()
            after = self._cpu(pids)
        seconds = max(ended.ended_at, reached_at) - ended.began_at
        spent = sum(processes.cpu_seconds(self._others()).values()) - sum(idle.values())
        self._idle_shares.append(spent / seconds)
        return Run(
            way="yardstick",
            recipients=people,
            latency_seconds=latency_seconds,
            concurrency=concurrency,
            seconds=seconds,
            cpu_us=per_recipient(before, after, people),
            webhooks_repeated=await bench.carrier.check(people),
        )

    async def best_concurrency(self, people: int, latency_seconds: float, tried: tuple[int, ...]) -> int:
        """The number of requests at once at which it is fastest; each is tried twice."""
        runs = [await self.run(people, latency_seconds, each) for each in tried * 2]
        return max(runs, key=lambda run: run.rate).concurrency

    def idle_share(self) -> float:
        """Of a core, what the platform took while this ran: the median."""
        return median(self._idle_shares)

    def _cpu(self, pids: dict[str, int]) -> dict[str, float]:
        return processes.cpu_seconds(pids | {CARRIER: self._bench.platform.pids[CARRIER]})

    def _others(self) -> dict[str, int]:
        return {name: pid for name, pid in self._bench.platform.pids.items() if name != CARRIER}

    async def _reached(self) -> float:
        async with self._session.get(f"{self._url}/reached", timeout=aiohttp.ClientTimeout(total=None)) as answer:
            return float(await answer.text())


class UsualWays:
    """Celery, and one by one, on the platform's own servers, in a database and a virtual host of their own."""

    def __init__(self, bench: Bench, database: "asyncpg.Connection[asyncpg.Record]", receiver: Helper, work: Work):
        self._bench = bench
        self._database = database
        self._receiver = receiver
        self._work = work

    @classmethod
    @asynccontextmanager
    async def ready(cls, bench: Bench) -> AsyncIterator["UsualWays"]:
        """Make their database and virtual host, and start their receiver."""
        found = bench.platform.processes
        await bench.servers.execute(f"CREATE DATABASE {USUAL}")
        database_url = str(URL(bench.platform.database_url).with_path(USUAL))
        async with BrokerAdmin(found["rabbitmq"].management_url or "") as admin:
            await admin.create_vhost(USUAL)
        amqp_url = str(URL(found["rabbitmq"].url).with_path(USUAL))
        database = await asyncpg.connect(database_url)
        await database.execute(table.CREATE)
        public_key = bench.platform.keys["KOINONIA_TELNYX_PUBLIC_KEY"]
        try:
            async with _helper("bench.usual.receiver", public_key, database_url) as receiver:
                url = f"http://127.0.0.1:{int(await receiver.hear())}/webhooks"
                work = msgspec.structs.replace(
                    bench.work, webhook_url=url, database_url=database_url, amqp_url=amqp_url
                )
                yield cls(bench, database, receiver, work)
        finally:
            await database.close()

    async def one_by_one(self, people: int, latency_seconds: float) -> Run:
        """An INSERT, a request and an UPDATE for each, one after the other."""
        work = await self._begin(people, latency_seconds)
        async with _helper("bench.usual.one_by_one") as sender:
            await sender.say(msgspec.json.encode(work))
            return await self._time("one by one", sender, {"sender": sender.pid}, work, latency_seconds)

    async def celery(self, people: int, latency_seconds: float, concurrency: int) -> Run:
        """A task for each, on so many worker processes."""
        work = await self._begin(people, latency_seconds, concurrency)
        environ = {"BENCH_WORK": msgspec.json.encode(work).decode(), "PYTHONWARNINGS": "ignore"}
        command = ("-A", "bench.usual.celery_tasks", "worker", "--pool", "prefork", "-c", str(concurrency))
        quiet = ("-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
        async with (
            _helper("celery", *command, *quiet, environ=environ) as worker,
            _helper("bench.usual.celery_way", environ=environ) as sender,
        ):
            await self._until_consumed()
            pids = {"sender": sender.pid, "worker": worker.pid}
            return await self._time("Celery", sender, pids, work, latency_seconds)

    async def best_celery(self, people: int, latency_seconds: float, tried: tuple[int, ...]) -> int:
        """The number of worker processes at which it is fastest."""
        runs = [await self.celery(people, latency_seconds, each) for each in tried]
        return max(runs, key=lambda run: run.rate).concurrency

    async def _begin(self, people: int, latency_seconds: float, concurrency: int = 1) -> Work:
        await self._bench.carrier.begin(latency_seconds)
        await self._database.execute(table.EMPTY)
        return msgspec.structs.replace(self._work, people=people, concurrency=concurrency)

    async def _until_consumed(self) -> None:
        """Wait until Celery's workers consume its queue."""

        async def is_consumed() -> bool:
            async with await aio_pika.connect(self._work.amqp_url) as connection, connection.channel() as channel:
                try:
                    queue = await channel.declare_queue("celery", passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    return False
                return bool(queue.declaration_result.consumer_count)

        await until(is_consumed, seconds=60, what="Celery's worker", pause_seconds=0.2)

    async def _time(self, way: str, sender: Helper, pids: dict[str, int], work: Work, latency_seconds: float) -> Run:
        bench, people = self._bench, work.people
        await sender.hear()
        running = pids | {"receiver": self._receiver.pid} | bench.platform.pids
        kept = {name: pid for name, pid in running.items() if name in USED or name in pids}
        before = processes.cpu_seconds(kept)
        await sender.say(b"go")
        ended = await sender.ended()

        async def all_delivered() -> bool:
            return bool(await self._database.fetchval(table.COUNT) == people)

        await until(all_delivered, seconds=bench.seconds_for(people), what=f"the end of {way}", pause_seconds=0.1)
        await bench.carrier.settled()
        after = processes.cpu_seconds(kept)
        last_at = await self._database.fetchval(table.LAST_COMMIT)
        return Run(
            way=way,
            recipients=people,
            latency_seconds=latency_seconds,
            concurrency=work.concurrency,
            seconds=last_at - ended.began_at,
            cpu_us=per_recipient(before, after, people),
            webhooks_repeated=await bench.carrier.check(people, answered=False),
        )


@asynccontextmanager
async def _helper(module: str, *arguments: str, environ: dict[str, str] | None = None) -> AsyncIterator[Helper]:
    helper = await Helper.start(module, *arguments, environ=environ)
    try:
        yield helper
    finally:
        await helper.stop()
