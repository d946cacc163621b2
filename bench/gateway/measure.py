"""The gateway and the bare hop, turn about: each is asked the same, by the same load, of the same service."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import msgspec

from bench import processes
from bench.figures import per_recipient
from bench.gateway import report, routes
from bench.gateway.asked import Job, Told
from bench.gateway.figures import GATEWAY, HOP, GatewayResults, Paced, Round, RouteFigures, rate_to_ask
from bench.gateway.routes import Caller, Route
from bench.helpers import Helper
from bench.platform import BenchFailed, Carrier, Church, Platform
from koinonia.cli import development_keys

CONCURRENCY = routes.PRINCIPALS  # connections: one of each caller
BUSY = {"429", "503"}  # said by who has too much to do; counted, since on a machine that is full it happens both ways
PACED_SECONDS = 5.0  # at most
HEALTH_COUNT = 200
DETAILED_COUNT = 40


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything."""

    requests: int = 2_000  # of a round; a quarter of that of sends; twice that at a rate, or five seconds of it
    rounds: int = 5

    def requests_of(self, route: Route) -> int:
        """Of a round."""
        return max(routes.PRINCIPALS, self.requests // (4 if route.body else 1))


class Doors:
    """Both ways to the services, and what asks them."""

    def __init__(self, platform: Platform, church: Church, callers: Sequence[Caller], load: Helper) -> None:
        self._platform = platform
        self._church = church
        self._callers = callers
        self._load = load
        self._keys = development_keys.parse(platform.keys)
        self._hops: dict[str, tuple[Helper, int]] = {}  # by the service behind, with its port
        self.routes = routes.all_routes(church)

    @classmethod
    @asynccontextmanager
    async def open(cls, platform: Platform, church: Church, carrier: Carrier) -> AsyncIterator["Doors"]:
        """Make what is asked for, and start a hop in front of each service that is asked."""
        callers = await routes.gather(church, carrier)
        async with AsyncExitStack() as stack:
            load = await _started(stack, "bench.gateway.load")
            doors = cls(platform, church, callers, load)
            for owner in {route.endpoint.owner for route in doors.routes}:
                hop = await _started(stack, "bench.gateway.hop", platform.processes[owner].url)
                doors._hops[owner] = hop, int(await hop.hear())
            yield doors

    async def compare(self, route: Route, plan: Plan) -> RouteFigures:
        """As fast as it goes, each way in turn, who begins too; then at the rate."""
        count = plan.requests_of(route)
        found: Mapping[str, list[Round]] = {GATEWAY: [], HOP: []}
        for way in (HOP, GATEWAY):
            await self.ask(route, way, CONCURRENCY * 2)  # connections, plans and caches are there from now on
        for number in range(plan.rounds):
            for way in (GATEWAY, HOP) if number % 2 else (HOP, GATEWAY):
                found[way].append(await self.ask(route, way, count))
        rate = rate_to_ask(route.wanted_rate, median(each.rate for each in found[HOP]))
        due = max(1, min(2 * count, int(rate * PACED_SECONDS)))
        rounds = {way: await self.ask(route, way, due, rate) for way in (HOP, GATEWAY)}
        paced = Paced(rate=rate, wanted_rate=route.wanted_rate, wanted_p95_ms=route.wanted_p95_ms, rounds=rounds)
        return RouteFigures(name=route.name, rounds=found, paced=paced)

    async def ask(self, route: Route, way: str, count: int, rate: float = 0.0) -> Round:
        """So many requests, one way.

        Raises:
            BenchFailed: one was answered neither as the route answers nor as whoever is busy does.
        """
        owner = route.endpoint.owner
        if way == HOP:
            hop, port = self._hops[owner]
            pid = hop.pid
            asks = routes.of_hop(route, self._callers, self._keys, self._church.id)
        else:
            gateway = self._platform.processes[GATEWAY]
            pid, port = self._platform.pids[GATEWAY], gateway.port
            asks = routes.of_gateway(route, self._callers)
        job = Job(port=port, asks=asks, count=count, concurrency=CONCURRENCY, rate=rate, keyed=bool(route.body))
        pids = self._platform.pids
        costs = {way: pid, owner: pids[owner], "postgres": pids["postgres"]}
        return await self._run(job, way, costs, route.endpoint.status)

    async def health(self, port: int, path: str, count: int) -> Round:
        """The same question so many times, one after the other."""
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        job = Job(port=port, asks=[(head, "")], count=count, concurrency=1)
        return await self._run(job, GATEWAY, {GATEWAY: self._platform.pids[GATEWAY]}, 200)

    async def _run(self, job: Job, way: str, pids: Mapping[str, int], status: int) -> Round:
        before = processes.cpu_seconds(pids)
        await self._load.say(msgspec.json.encode(job))
        told = msgspec.json.decode(await self._load.hear(), type=Told)
        after = processes.cpu_seconds(pids)
        answered = told.statuses.get(str(status), 0)
        if answered == 0 or not told.statuses.keys() <= BUSY | {str(status)}:
            raise BenchFailed(f"{job.asks[0][0].partition(' HTTP')[0]} by the {way}: {told.statuses} {told.refused}")
        return Round(
            way=way,
            count=job.count,
            refused=job.count - answered,
            seconds=told.seconds,
            p50_ms=told.p50_ms,
            p95_ms=told.p95_ms,
            p99_ms=told.p99_ms,
            cpu_us=per_recipient(before, after, job.count) | {"load": told.cpu_seconds / job.count * 1e6},
        )


async def measure(
    platform: Platform, church: Church, carrier: Carrier, plan: Plan, say: Callable[[str], None]
) -> GatewayResults:
    """All of it, told to ``say`` as soon as it is known. ``routes.PEOPLE`` have been imported before."""
    found = []
    async with Doors.open(platform, church, carrier) as doors:
        health = await doors.health(platform.processes[GATEWAY].port, "/health", HEALTH_COUNT)
        detailed = await doors.health(_operators_port(platform), "/health/detailed", DETAILED_COUNT)
        for route in doors.routes:
            found.append(await doors.compare(route, plan))
            say("\n".join(report.route(found[-1])))
    results = GatewayResults(routes=found, health=health, detailed_health=detailed)
    say("\n".join(report.health(results)))
    return results


def _operators_port(platform: Platform) -> int:
    """Where the gateway shows its details: `koinonia up` tells nobody but the gateway."""
    environ = Path(f"/proc/{platform.pids[GATEWAY]}/environ").read_bytes().split(b"\0")
    return int(next(each for each in environ if each.startswith(b"KOINONIA_OPS_PORT=")).partition(b"=")[2])


async def _started(stack: AsyncExitStack, module: str, *arguments: str) -> Helper:
    helper = await Helper.start(module, *arguments)
    stack.push_async_callback(helper.stop)
    return helper
