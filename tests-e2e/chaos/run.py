"""One run: a church, a broadcast, the deeds of a plan at their moments, and the judgement when all has recovered."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import msgspec

from koinonia.api.groups import GroupRequest
from koinonia.api.messages import Message, SendRequest
from koinonia.errors import KoinoniaError
from koinonia.security.receipts import read_receipt_token
from koinonia.testing.fixtures import wait_until

from ..carrier import Text
from ..church import Church, Person
from ..commits import CLAIMS_AFTER_THEIR_HOLD, Commits
from ..platform import QUEUES_TOLD_SECONDS, SETTINGS
from . import leftovers
from .books import Attempt
from .bus import Ear
from .judging import Copy, Facts, Fallen, judge, judge_kills, open_of
from .kernel import unread_bytes
from .plan import HALF, LOST_CALLS, PEOPLE, RECEIPTS, SECOND_PEOPLE, STOPS, STORMS, WORKERS, Plan, Step
from .stage import Stage, service_of

FIRST = "The service begins at ten, whatever happens."
SECOND = "And bring a friend."
LEAST_SECONDS = 10.0  # of the first broadcast
SENT_SECONDS = 120.0  # until the share of a step is reached
RECOVERY_SECONDS = 90.0  # from the last deed until all is as it must be
STOP_AGAIN_SECONDS = 10.0
STUCK_SECONDS = 0.5
PAUSE_SECONDS = float(SETTINGS["KOINONIA_LEASE_SECONDS"]) + 1.5
CHUNK = "messaging.recipients.resolved"


class Lost(KoinoniaError):
    """A run found something lost, doubled or left behind."""

    code = "LOST"
    status = 500


@dataclass
class Report:
    """What happened in a run."""

    plan: Plan
    fallen: list[Fallen] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # the other deeds, in words
    statuses: Counter[str] = field(default_factory=Counter)  # of all rows at the end
    pauses: int = 0  # of workers, beyond a lease
    published_again: int = 0  # of the events that a relay held when it was killed
    broadcast_seconds: float = 0.0  # from the answer to the send until the last call but those in doubt
    seconds: float = 0.0

    def __str__(self) -> str:
        keys = "with keys" if self.plan.idempotency else "without keys"
        ends = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        deeds = "; ".join(
            [*map(str, self.fallen), *self.told, f"{self.published_again} events of the relay came twice"]
        )
        return f"seed {self.plan.seed}, {keys}, {self.broadcast_seconds:.0f} of {self.seconds:.0f} s: {deeds} → {ends}"


def unmet(reports: Sequence[Report]) -> list[str]:
    """What runs must have met together, not each of them, and have not; nothing where they are too few to tell."""
    if len(reports) < HALF:
        return []
    met = {
        "workers stopped beyond their lease": (sum(report.pauses for report in reports), len(reports) // 2),
        "relays that died after they had published": (
            sum(report.published_again > 0 for report in reports),
            len(reports) // 4,
        ),
        "recipients who had said STOP": (sum(report.statuses["suppressed"] for report in reports), len(reports)),
    }
    return [f"{count} {what}, at least {least} were wanted" for what, (count, least) in met.items() if count < least]


async def play(stage: Stage, plan: Plan) -> Report:
    """Play one seed on a platform that nobody else uses.

    Raises:
        Lost: something is not as it must be.
        AssertionError: a deed could not be shown to have fallen as planned, or the platform does not come back.
    """
    began = time.monotonic()
    run = _Run(stage, plan)
    try:
        await run.prepare()
        url = stage.platform.process("rabbitmq").url
        async with Ear(url) as run.ear, Commits.noted(stage.platform, run.church.id):
            await run.broadcast()
            await run.recover()
    finally:
        await run.end()
    run.report.seconds = time.monotonic() - began
    _is_as_planned(run.report)
    return run.report


def _is_as_planned(report: Report) -> None:
    """The run was one: long enough, and each kill fell when it was to."""
    assert report.broadcast_seconds >= LEAST_SECONDS, f"the broadcast took only {report.broadcast_seconds:.0f} s"
    wrong = judge_kills(report.plan, report.fallen)
    assert not wrong, "; ".join(wrong)


class _Run:
    """The state of one run."""

    ear: Ear
    church: Church
    people: list[Person]
    first: Message

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.stage = stage
        self.plan = plan
        self.report = Report(plan)
        self._platform = stage.platform
        self._reader = stage.reader
        self._chance = plan.chance()
        self._since = leftovers.Mark.now(stage)
        self._second: asyncio.Task[Message] | None = None
        self._beside: list[asyncio.Task[None]] = []
        self._stopped: dict[str, bool] = {}  # phone: whether its hold is stored
        self._anew: list[UUID] = []
        self._unconfirmed: set[UUID] = set()  # events that a relay held when it was killed
        self._some_ids: list[UUID] = []

    async def prepare(self) -> None:
        """People, and what shall go wrong with their receipts."""
        self.church = await self.stage.church()
        self.people = await self.church.add(PEOPLE)
        members = [member.id async for member in self.church.client.members.list()]
        self._some_ids = self._chance.sample(members, SECOND_PEOPLE)
        carrier = self._platform.carrier
        await carrier.clear_faults()
        phones = [person.phone for person in self.people]
        self._chance.shuffle(phones)
        for kind, count, more in RECEIPTS:
            chosen, phones = phones[:count], phones[count:]
            await carrier.order(kind, chosen, **more)

    async def broadcast(self) -> None:
        """Send, and do the deeds of the plan, each at its moment."""
        began = time.monotonic()
        self.first = await self.church.send(FIRST)
        deeds: dict[str, Callable[[Step], Awaitable[None]]] = {
            "kill": self._kill,
            "relay": self._kill_relay,
            "pause": self._pause,
            "storm": self._storm,
            "stops": self._stop,
            "second": self._send_second,
            "chunk": self._say_chunk_anew,
            "repeat": self._say_again,
        }
        for step in self.plan.steps:
            await self._until_reached(step)
            await deeds[step.deed](step)
        await wait_until(self._is_through, seconds=SENT_SECONDS, what="the end of the broadcast")
        self.report.broadcast_seconds = time.monotonic() - began
        await asyncio.gather(*self._beside)

    async def recover(self) -> None:
        """Wait until everything is as it must be, and stays so until the broker has told what consumers still held.

        Raises:
            Lost: it is not, in time.
        """
        await wait_until(self.stage.is_ready, seconds=60, what="a platform that has come back")
        await self._platform.carrier.deliver_pending()
        contents = {self.first.id: FIRST}
        if self._second is not None:
            contents[(await self._second).id] = SECOND
        deadline = time.monotonic() + RECOVERY_SECONDS
        for seconds in (0.0, QUEUES_TOLD_SECONDS):
            await asyncio.sleep(seconds)
            while complaints := await self._complaints(contents):
                if time.monotonic() > deadline:
                    raise Lost(f"seed {self.plan.seed}: {'; '.join(complaints[:20])}")
                await asyncio.sleep(0.5)
        if wrong := await self._counts_by_api(contents):
            raise Lost(f"seed {self.plan.seed}: {'; '.join(wrong)}")
        struck = await self._platform.carrier.struck()
        ordered = {kind for kind, _, _ in RECEIPTS} | {step.whom for step in self.plan.steps if step.deed == "storm"}
        assert all(struck.get(kind) for kind in ordered), f"ordered {sorted(ordered)}, struck {struck}"
        self.report.published_again = len(self._unconfirmed & set(self.ear.published_again()))

    async def end(self) -> None:
        """Nothing of the run goes on."""
        tasks = [*self._beside, *([self._second] if self._second is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(AttributeError):  # it came to no church
            await self.church.close()

    # Deeds

    async def _until_reached(self, step: Step) -> None:
        async def is_reached() -> bool:
            return await self._share() >= step.at

        await wait_until(is_reached, seconds=SENT_SECONDS, what=f"{step.at:.0%} of the broadcast, for {step},")

    async def _kill(self, step: Step) -> None:
        if step.whom == "gateway":
            await self._kill_gateway(step)
        elif step.whom in WORKERS:
            await self._kill_worker(step)
        else:
            await self._fell(step, step.whom)

    async def _kill_worker(self, step: Step) -> None:
        """Stop it whenever it has claimed, until recipients stay in its hands, and kill it then."""
        seen: set[Attempt] = set()
        while not await self._is_through():
            if not await self._has_claimed(step.whom, seen):
                continue
            async with self._stopped_processes(step.whom):
                if held := await self._in_hands(step.whom):
                    await self._fell(step, step.whom, held=held)
                    return
        raise AssertionError(f"{step.whom} held no recipient until the end of the broadcast, and was not killed")

    async def _kill_gateway(self, step: Step) -> None:
        """Kill it while it waits for messaging's answer to a send that messaging already has in its socket."""
        others = ("messaging-1", "messaging-2")
        needed = (*others, "gateway", "postgres")
        await wait_until(lambda: self.stage.runs(*needed), seconds=60, what="a platform that takes the second one")
        async with self._stopped_processes(*others):
            self._second = self._begin_second()
            ports = [self._platform.process(name).port for name in others]
            await wait_until(lambda: any(map(unread_bytes, ports)), what="a send under way inside")
            await self._fell(step, step.whom, "with a send in its hands")

    async def _kill_relay(self, step: Step) -> None:
        """Kill who has published rows of the outbox, while the broker cannot confirm them."""
        service = step.whom
        await wait_until(lambda: self.stage.runs("rabbitmq", "postgres"), seconds=60, what="a broker and a database")
        async with self._stopped_processes("rabbitmq"):
            if service == "messaging":
                self._beside.append(asyncio.create_task(self._change_a_group()))
            process = str(await wait_until(lambda: self._relaying(service), seconds=30, what=f"a relay of {service}"))
            locked = await self._reader.locked_outbox_ids(service)
            await self._fell(step, process, f"{len(locked)} events unconfirmed")
            self._unconfirmed |= locked

    async def _pause(self, step: Step) -> None:
        self._beside.append(asyncio.create_task(self._pause_beyond_lease(step)))

    async def _pause_beyond_lease(self, step: Step) -> None:
        """Stop a worker with recipients in its hands until a lease has ended, and let it go on."""
        seen: set[Attempt] = set()
        while not await self._is_through():
            if not await self._has_claimed(step.whom, seen):
                continue
            async with self._stopped_processes(step.whom):
                held = await self._in_hands(step.whom)
                if held and await self._lease_ends(held):
                    self.report.pauses += 1
                    self.report.told.append(f"pause {step.whom}")
                    return
        self.report.told.append(f"pause {step.whom}, which held nobody")

    async def _lease_ends(self, held: set[Attempt]) -> bool:
        until = time.monotonic() + PAUSE_SECONDS
        has_ended = False
        while time.monotonic() < until:
            has_ended = has_ended or bool(held & await self._reader.ended_leases())
            await asyncio.sleep(0.05)
        return has_ended

    async def _storm(self, step: Step) -> None:
        _, count, more = next(storm for storm in STORMS if storm[0] == step.whom)
        await self._platform.carrier.order(step.whom, [], next=count, **more)
        self.report.told.append(f"{count} {step.whom}")

    async def _stop(self, step: Step) -> None:
        self._beside.append(asyncio.create_task(self._say_stop(step)))

    async def _say_stop(self, step: Step) -> None:
        """Some who wait for their text say STOP, and say it again while nobody has heard."""
        keys, church_id = self.stage.keys, self.church.id
        waiting: list[bytes] = []

        async def is_known_who_waits() -> bool:
            waiting[:] = await self._reader.waiting_phones(self.first.id)
            return bool(waiting) or await self._is_through()  # a later chunk may still be on its way

        await wait_until(is_known_who_waits, seconds=SENT_SECONDS, what="the audience")
        assert waiting, f"nobody waited any more when {step} was to be said: the broker or a worker was away too long"
        chosen = self._chance.sample(waiting, min(STOPS, len(waiting)))
        self.report.told.append(f"{len(chosen)} {step.deed}")
        phones = [keys.decrypt(each, church_id, "phone") for each in chosen]
        indexes = {keys.index(phone, church_id, "phone"): phone for phone in phones}
        self._stopped |= dict.fromkeys(phones, False)
        while not all(self._stopped.values()):
            for phone in [phone for phone, is_held in self._stopped.items() if not is_held]:
                await self._platform.carrier.person_texts(phone, self.church.number, "STOP")
            deadline = time.monotonic() + STOP_AGAIN_SECONDS
            while not all(self._stopped.values()) and time.monotonic() < deadline:
                for index in await self._reader.held_phones(self.church.id) & indexes.keys():
                    self._stopped[indexes[index]] = True
                await asyncio.sleep(0.1)

    async def _send_second(self, _step: Step) -> None:
        self._second = self._begin_second()
        self.report.told.append("second broadcast")

    async def _say_chunk_anew(self, step: Step) -> None:
        await wait_until(lambda: self.ear.of(CHUNK), what="a chunk on the bus")
        chosen = self._chance.choice(self.ear.of(CHUNK))
        self._anew.append(await self.ear.say_anew(chosen))
        self.report.told.append(f"{step.deed} under a new id")

    async def _say_again(self, _step: Step) -> None:
        types = sorted(set(self.ear.types.values()))
        await self.ear.say_again(*(self._chance.choice(self.ear.of(each)) for each in types))
        self.report.told.append(f"{len(types)} events again")

    # What they need

    def _begin_second(self) -> "asyncio.Task[Message]":
        return asyncio.create_task(self._send_to_some())

    async def _send_to_some(self) -> Message:
        """Send to some under one key, and once more when it is answered: the same message."""
        client, key = self.church.client, str(uuid4())
        request = SendRequest(content=SECOND, target_type="individual", target_ids=self._some_ids)
        sent = await client.messages.send(request, idempotency_key=key)
        again = await client.messages.send(request, idempotency_key=key)
        assert again.id == sent.id, "the same key made two messages"
        return sent

    async def _change_a_group(self) -> None:
        """Anything that gives messaging an event to publish."""
        await self.church.client.groups.create(GroupRequest(name="Choir"))

    @asynccontextmanager
    async def _stopped_processes(self, *names: str) -> AsyncIterator[None]:
        """SIGSTOP, and SIGCONT whatever happens; one that is killed meanwhile is not touched again."""
        pids = {name: await self._pid(name) for name in names}
        try:
            for pid in pids.values():
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids.values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _fell(self, step: Step, process: str, note: str = "", held: Collection[Attempt] = ()) -> None:
        """kill -9, with what was open right before and after; of what a worker ``held``, what was so after."""
        before = await self._reader.standing(self.church.id)
        assert open_of(before), f"no row was open when {process} was to be killed"
        pid, ports = await self._pid(process), self.stage.database_ports(process)
        os.kill(pid, signal.SIGKILL)
        self.stage.gone.add(pid)
        after = await self._reader.standing(self.church.id)
        assert open_of(after), f"no row was open any more when {process} had been killed"
        in_hands = await self._reader.in_hands(self.church.id, ports) & set(held)
        self.report.fallen.append(Fallen(step, process, before, after, len(in_hands), note))

    async def _pid(self, name: str) -> int:
        """The process's id, once it runs."""
        return int(str(await wait_until(lambda: self.stage.pid(name), seconds=60, what=f"{name}'s return")))

    async def _relaying(self, service: str) -> str | None:
        """The process of a service that holds rows of the outbox and waits for the broker; None: none does."""
        relaying = [each for each in await self._reader.sessions() if each.relays]
        ours = {each.client_port for each in relaying if each.application_name.startswith(f"koinonia-{service}")}
        if not ours or not await self._reader.locked_outbox_ids(service):
            return None  # one that has found nothing to publish looks the same for a moment
        for name, held in self.stage.held().items():
            if service_of(name) == service and any(each.local_port in ours for each in held.connections):
                return name
        return None

    async def _share(self) -> float:
        """How much of the first broadcast workers have had in their hands."""
        return await self._reader.begun(self.first.id) / PEOPLE

    async def _has_claimed(self, worker: str, seen: set[Attempt]) -> bool:
        """Whether a worker holds what it did not when this was asked before; else a moment has gone by.

        One that is stopped again and again, before it could settle and claim, would never hold anything else.
        """
        held = await self._reader.in_hands(self.church.id, self.stage.database_ports(worker))
        is_new = not held <= seen
        seen |= held
        if not is_new:
            await asyncio.sleep(0.05)
        return is_new

    async def _in_hands(self, worker: str) -> set[Attempt]:
        """What a stopped worker holds, once Postgres has ended what it was still doing for it."""
        ports = self.stage.database_ports(worker)
        held = await self._reader.in_hands(self.church.id, ports)
        if held:
            await asyncio.sleep(STUCK_SECONDS)
            held &= await self._reader.in_hands(self.church.id, ports)
        return held

    async def _is_through(self) -> bool:
        statuses = await self._reader.standing(self.church.id)
        return not statuses["queued"] and not statuses["sending"] and statuses.total() >= PEOPLE

    # The judgement

    async def _complaints(self, contents: dict[UUID, str]) -> list[str]:
        if webhooks := await self._platform.carrier.webhooks_under_way():
            return [f"{webhooks} webhooks are under way"]
        struck = await self._platform.carrier.struck()
        facts = Facts(
            idempotency=self.plan.idempotency,
            contents=contents,
            people={message_id: PEOPLE if text == FIRST else SECOND_PEOPLE for message_id, text in contents.items()},
            lost_calls=sum(struck.get(kind, 0) for kind in LOST_CALLS),
            ended_leases=sum(int(str(entry["recipients"])) for entry in self._since.entries("leases_ended")),
            stopped=self._stopped.keys(),
            late_claims=len(await self._reader.fetch(CLAIMS_AFTER_THEIR_HOLD, self.church.id)),
        )
        texts = await self.church.texts()
        books = await self._reader.books(self.church.id)
        by_row: dict[UUID | None, list[Text]] = {}
        for text in texts:
            by_row.setdefault(read_receipt_token(self.stage.keys, text.token or ""), []).append(text)
        known = {row.id for row in books.rows}
        decrypt = self.stage.keys.decrypt
        copies = [
            Copy(row, decrypt(row.phone_ciphertext, self.church.id, "phone"), by_row.get(row.id, []))
            for row in books.rows
        ]
        strangers = [text for row_id, found in by_row.items() if row_id not in known for text in found]
        self.report.statuses = Counter(row.status for row in books.rows)
        complaints = judge(books, copies, strangers, facts)
        killed = Counter(fallen.process for fallen in self.report.fallen)
        return complaints + await leftovers.find(self.stage, self._since, killed, self._anew)

    async def _counts_by_api(self, contents: dict[UUID, str]) -> list[str]:
        """The counters as the API gives them equal the rows that it lists."""
        wrong = []
        for message_id in contents:
            message = await self.church.client.messages.get(message_id)
            counts = {status: count for status, count in msgspec.to_builtins(message.counts).items() if count}
            statuses = Counter(row.status for row in await self.church.recipients(message_id))
            if counts != dict(statuses):
                wrong.append(f"the API counts {counts} and lists {dict(statuses)}")
        return wrong
