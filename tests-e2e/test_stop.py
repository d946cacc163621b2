"""STOP: what counts as one, who answers it, and that no text passes it by while a broadcast runs."""

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg
import pytest

from koinonia.api.messages import Message, SendRequest
from koinonia.cli import development_keys
from koinonia.events import Envelope, Event, decode
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionRemoved
from koinonia.testing.fixtures import wait_until

from .carrier import Text
from .chaos.bus import Ear
from .church import Church, Person
from .commits import Commits
from .platform import Platform
from .test_restarts import is_drained, waiting_events

E = TypeVar("E", bound=Event)

RECIPIENTS = int(os.environ.get("STOP_RECIPIENTS", "5000"))
"""Of the broadcast in which people say STOP; `make chaos` asks for 50,000."""
STOPS = 300
STOPS_PER_PHASE = STOPS // 4
WELCOMED = 60
"""People who said START before the broadcast: compliance's answer to it is the older state that comes late."""
PLACES = 100  # two workers with 50 calls each
BROADCAST_SECONDS = 180 + (RECIPIENTS - 5000) / 100
"""Unless it is hurried: three times what a quick machine needs until then, and while the copies of a larger one are
stored."""
LATENCY = BROADCAST_SECONDS * PLACES / RECIPIENTS
"""Of a call, in seconds."""
PATIENCE_SECONDS = 150.0  # on a busy machine
NEXT = round(2 * PLACES / LATENCY)
"""How many go within the next two seconds."""
CALL_SECONDS = 10.0
"""From a claim to the carrier's acceptance: half a second until it begins, the latency, a busy machine."""
STOP_FORMS = (
    *("STOP", "stop", " Stop. \n", "STOP!", '"stop"', "\n\tStop\r\n", "Stop all", "STOPALL", "unsubscribe"),
    *("CANCEL", "End.", "quit", "REVOKE", "opt out", "Opt-Out!", "optout", "Please stop texting me, thanks!"),
)
START_FORMS = ("START", " start. ", "UnStop!")
HELP_FORMS = ("HELP", "help!", " Info?\n")
NO_FORMS = ("Don't stop praying", "We stop by on Sunday", "In the end, yes")

OPTED_OUT, OPTED_IN, HELP = "You are opted out of texts from", "You get texts from", ": texts for our people"


@pytest.fixture
async def silent_carrier(platform: Platform) -> AsyncIterator[None]:
    """A carrier that neither answers keywords nor blocks anybody by itself: all is left to the platform."""
    await platform.carrier.change(autoresponses=False)
    yield
    await platform.carrier.change(autoresponses=True)


@pytest.mark.usefixtures("silent_carrier")
async def test_every_keyword_is_honoured_however_it_is_written_and_answered_once(church: Church) -> None:
    carrier = church.platform.carrier
    everybody = [person.phone for person in await church.add(len(STOP_FORMS) + len(HELP_FORMS) + len(NO_FORMS))]
    said = dict(zip(everybody, STOP_FORMS + HELP_FORMS + NO_FORMS, strict=True))
    stopped = everybody[: len(STOP_FORMS)]
    asking = everybody[len(STOP_FORMS) : len(STOP_FORMS) + len(HELP_FORMS)]
    for phone, text in said.items():
        await carrier.person_texts(phone, church.number, text)
    await until_suppressed(church, len(stopped))
    await until_answered(church, {OPTED_OUT: stopped, HELP: asking})
    sent = await completed(church, "After the STOP.")
    assert (sent.counts.suppressed, sent.counts.delivered) == (len(stopped), len(everybody) - len(stopped))
    rows = await church.agrees(sent.id)
    assert {row.phone for row in rows if row.status == "suppressed"} == set(stopped)

    for phone, text in zip(stopped, itertools.cycle(START_FORMS), strict=False):
        await carrier.person_texts(phone, church.number, text)
    await until_suppressed(church, 0)
    await until_answered(church, {OPTED_OUT: stopped, OPTED_IN: stopped, HELP: asking})
    assert (await completed(church, "After the START.")).counts.delivered == len(everybody)
    assert all("Grace Chapel" in (text.text or "") for text in await answers(church))


@pytest.mark.usefixtures("silent_carrier")
async def test_a_stop_said_thrice_and_one_told_twice_are_confirmed_once_each(church: Church) -> None:
    carrier = church.platform.carrier
    thrice, told_twice, asking = [person.phone for person in await church.add(3)]
    await carrier.order("receipt_doubled", [told_twice], event="received")
    await asyncio.gather(*(carrier.person_texts(thrice, church.number, "STOP") for _ in range(3)))
    await carrier.person_texts(told_twice, church.number, "STOP")
    await until_suppressed(church, 2)
    assert (await carrier.struck())["receipt_doubled"] == 1
    await carrier.person_texts(asking, church.number, "HELP")
    await until_answered(church, {OPTED_OUT: [thrice, told_twice], HELP: [asking]})


async def test_a_stop_that_the_carrier_answers_holds_and_is_not_answered_again(church: Church) -> None:
    carrier = church.platform.carrier
    anna, *others = [person.phone for person in await church.add(3)]
    async with Ear(church.platform.process("rabbitmq").url) as ear:
        await carrier.person_texts(anna, church.number, "STOP")
        await until_suppressed(church, 1)
        sent = await completed(church, "After the STOP.")
        assert (sent.counts.delivered, sent.counts.suppressed) == (2, 1)
        rows = await church.agrees(sent.id)
        assert {row.phone for row in rows if row.status == "suppressed"} == {anna}

        await carrier.person_texts(anna, church.number, "START")
        await until_suppressed(church, 0)
        assert (await completed(church, "After the START.")).counts.delivered == 3
        await carrier.person_texts(anna, church.number, "HELP")
        own = [each.type for each in await carrier.own_replies() if each.recipient == anna]
        assert own == ["STOP", "START", "HELP"]

        # The carrier would refuse a second answer to a STOP: what was asked of delivery tells. One that is due ends it.
        await carrier.change(autoresponses=False)
        try:
            await carrier.person_texts(others[0], church.number, "HELP")
            await until_answered(church, {HELP: others[:1]})
        finally:
            await carrier.change(autoresponses=True)
        assert [each.data.purpose for each in heard(ear, church, ComplianceReplyRequested)] == ["help"]
    await church.is_metered(sum(text.parts for text in await church.texts()))


@pytest.mark.timeout(400 + RECIPIENTS // 50)
@pytest.mark.usefixtures("silent_carrier")
async def test_nobody_is_claimed_after_their_stop_is_stored_whatever_is_down(church: Church) -> None:
    """The carrier blocks nobody: whoever we let slip gets the text, and its record shows it."""
    everybody = await church.add(RECIPIENTS)
    async with (
        Ear(church.platform.process("rabbitmq").url) as ear,
        Commits.noted(church.platform, church.id) as commits,
    ):
        welcomed = await welcome(church, ear, everybody[:WELCOMED])
        scene = await Scene.begin(church, commits, ear, everybody, welcomed)

        welcomed_early = await scene.say_stop(welcomed=20)
        await wait_until(
            lambda: commits.are_suppressed(scene.indexes(welcomed_early)), seconds=60, what="compliance's answers"
        )
        await scene.repeat_welcome(welcomed_early)

        with paused(church.platform, "compliance"):
            welcomed_late = await scene.say_stop(welcomed=20)
            await scene.repeat_welcome(welcomed_late)
            await scene.goes_on("without compliance")
            broker = church.platform.process("rabbitmq").pid
            killing = asyncio.create_task(church.platform.kill("rabbitmq"))
            await wait_until(lambda: church.platform.process("rabbitmq").pid != broker, what="the broker's end")
            await scene.say_stop(of_the_last=400)
            await killing
        await scene.say_stop()
        await church.platform.carrier.clear_faults()  # the others need not wait so long

        message = await church.client.messages.wait_until_completed(
            scene.message.id, timeout_seconds=PATIENCE_SECONDS + RECIPIENTS / 100
        )
        await scene.nobody_slipped(message)
        await until_answered(church, {OPTED_OUT: scene.stopped, OPTED_IN: [*scene.welcomed]})
        await scene.repeat_welcome(welcomed_early + welcomed_late)

        others = [phone for phone in scene.members if phone not in scene.held][:30]
        again = await church.send("The second one.", "individual", scene.ids_of([*scene.stopped, *others]))
        again = await church.client.messages.wait_until_completed(again.id, timeout_seconds=60)
        assert (again.counts.suppressed, again.counts.delivered) == (STOPS, len(others))
        rows = await church.agrees(again.id)
        assert {row.phone for row in rows if row.status == "suppressed"} == set(scene.stopped)
        assert await commits.claims_after_their_hold() == []

        back = scene.stopped[:: STOPS // 20]
        for phone in back:
            await church.platform.carrier.person_texts(phone, church.number, "START")
        await until_answered(church, {OPTED_OUT: scene.stopped, OPTED_IN: [*scene.welcomed, *back]})
        whom = SendRequest(content="Who?", target_type="individual", target_ids=scene.ids_of(scene.stopped))
        await until_left_out(church, whom, STOPS - len(back))
        third = await church.send("The third one.", "individual", scene.ids_of(scene.stopped))
        third = await church.client.messages.wait_until_completed(third.id, timeout_seconds=60)
        assert (third.counts.suppressed, third.counts.delivered) == (STOPS - len(back), len(back))
        rows = await church.agrees(third.id)
        assert {row.phone for row in rows if row.status == "delivered"} == set(back)

    await church.is_metered(sum(text.parts for text in await church.texts()))
    await wait_until(lambda: is_drained(church.platform), seconds=120, what="empty outboxes and queues")
    assert await church.platform.dead_letters() == "no dead letters"


class Scene:
    """A broadcast under way, and who says STOP meanwhile."""

    def __init__(
        self,
        church: Church,
        commits: Commits,
        ear: Ear,
        *,
        message: Message,
        indexes: dict[str, bytes],
        welcomed: dict[bytes, UUID],
    ) -> None:
        self.church = church
        self.message = message
        self.members: dict[str, UUID] = {}  # by phone; known at the end
        self.stopped: list[str] = []
        self.held: dict[str, datetime] = {}  # by phone: when the database stored it
        self._commits = commits
        self._ear = ear
        self._indexes = indexes  # by phone
        self._phone_of = {index: phone for phone, index in indexes.items()}
        self.welcomed = {self._phone_of[index]: event_id for index, event_id in welcomed.items()}
        self._phones: dict[UUID, str] = {}  # of the copies
        self._chance = random.Random(1)

    @classmethod
    async def begin(
        cls, church: Church, commits: Commits, ear: Ear, everybody: Sequence[Person], welcomed: dict[bytes, UUID]
    ) -> "Scene":
        """Send to all, slowly; return when every copy is stored and the first are with the carrier."""
        for part, share in enumerate((0.8, 1.0, 1.2)):  # several, so that each worker has calls under way at any moment
            phones = [person.phone for person in everybody[part::3]]
            await church.platform.carrier.order("latency", phones, seconds=share * LATENCY)
        keys = development_keys.parse(development_keys.read(church.platform.state.keys))
        indexes = {person.phone: keys.index(person.phone, church.id, "phone") for person in everybody}
        sent = await church.send("To all who want it.")
        scene = cls(church, commits, ear, message=sent, indexes=indexes, welcomed=welcomed)
        await wait_until(scene._is_stored, seconds=PATIENCE_SECONDS, what="every copy")
        return scene

    async def _is_stored(self) -> bool:
        copies = await self._commits.recipients(self.message.id)
        self._phones = {copy: self._phone_of[index] for copy, index in copies.items()}
        return len(copies) == RECIPIENTS

    def indexes(self, phones: Sequence[str]) -> list[bytes]:
        """The blind indexes of these numbers."""
        return [self._indexes[phone] for phone in phones]

    def ids_of(self, phones: Sequence[str]) -> list[UUID]:
        """The members with these numbers."""
        return [self.members[phone] for phone in phones]

    async def say_stop(self, *, welcomed: int = 0, of_the_last: int = 0) -> list[str]:
        """Let so many people say STOP of whose copies none is taken yet, and wait until all are held.

        Half of them are next in turn, so that claims and holds cross; but with ``of_the_last`` all are of the last so
        many. So many of them were ``welcomed`` before: answers these.
        """
        waiting = [self._phones[copy] for copy in await self._commits.waiting(self.message.id)]
        waiting = [phone for phone in waiting if phone not in self.held][-of_the_last:]
        assert len(waiting) > NEXT + STOPS_PER_PHASE, f"only {len(waiting)} are still queued"
        later = waiting[NEXT:] if not of_the_last else waiting
        chosen = [phone for phone in later if phone in self.welcomed][-welcomed:] if welcomed else []
        assert len(chosen) == welcomed
        if not of_the_last:
            chosen += self._chance.sample(
                [phone for phone in waiting[:NEXT] if phone not in self.welcomed], STOPS_PER_PHASE // 2
            )
        others = [phone for phone in later if phone not in self.welcomed]
        chosen += self._chance.sample(others, STOPS_PER_PHASE - len(chosen))
        self._chance.shuffle(chosen)
        carrier = self.church.platform.carrier
        forms = itertools.cycle(STOP_FORMS)
        await asyncio.gather(*(carrier.person_texts(each, self.church.number, next(forms)) for each in chosen))
        self.stopped += chosen
        await wait_until(self._are_held, seconds=PATIENCE_SECONDS, what=f"{len(self.stopped)} holds")
        return [phone for phone in chosen if phone in self.welcomed]

    async def _are_held(self) -> bool:
        holds = await self._commits.holds()
        self.held = {phone: holds[self._indexes[phone]] for phone in self.stopped if self._indexes[phone] in holds}
        return len(self.held) == len(self.stopped)

    async def repeat_welcome(self, phones: Sequence[str]) -> None:
        """Publish compliance's older answer to these people once more, and wait until delivery has applied it."""
        for phone in phones:
            await self._ear.say_anew(self.welcomed[phone])
        now = await self._commits.now()
        await wait_until(lambda: self._commits.has_heard_all_until(now), seconds=60, what="a marker that comes back")

    async def goes_on(self, when: str) -> None:
        """Wait until a hundred more are claimed."""
        before = len(await self._commits.claims(self.message.id))

        async def has_gone_on() -> bool:
            return len(await self._commits.claims(self.message.id)) >= before + 100

        await wait_until(has_gone_on, seconds=60, what=f"a hundred claims {when}")

    async def nobody_slipped(self, message: Message) -> None:
        """Check the broadcast's end by our record and by the carrier's."""
        assert len(self.stopped) == len(set(self.stopped)) == STOPS
        rows = {row.phone: row for row in await self.church.agrees(message.id)}
        self.members = {phone: row.member_id for phone, row in rows.items() if row.member_id is not None}
        assert {row.status for phone, row in rows.items() if phone not in self.held} == {"delivered"}
        assert {rows[phone].status for phone in self.stopped} <= {"delivered", "suppressed"}
        assert message.counts.suppressed + message.counts.delivered == RECIPIENTS
        assert message.counts.suppressed >= STOPS // 2

        assert await self._commits.claims_after_their_hold() == []
        claimed = {self._phones[claim["recipient_id"]]: claim["at"] for claim in await self._commits.claims(message.id)}
        delivered = {phone for phone, row in rows.items() if row.status == "delivered"}
        assert delivered <= set(claimed)
        # A claim whose call could not begin in time gave its place back, and the hold met the copy in the queue.
        assert set(claimed) - delivered <= set(self.stopped)
        texts = {text.recipient: text for text in await self.church.texts_of(message, set(rows))}
        under_way = [phone for phone in self.stopped if phone in texts and is_late(texts[phone], self.held[phone])]
        for phone in under_way:
            assert claimed[phone] < self.held[phone]
            assert not is_late(texts[phone], claimed[phone], CALL_SECONDS)


def is_late(text: Text, than: datetime, seconds: float = 0.0) -> bool:
    """Whether the carrier has accepted it later than so long after."""
    return text.accepted_at > than + timedelta(seconds=seconds)


async def welcome(church: Church, ear: Ear, people: Sequence[Person]) -> dict[bytes, UUID]:
    """Let people say START: by blind index, compliance's answer, an older state than what they will say.

    They have their texts when this returns: one still queued would be left out, rightly, once they say STOP.
    """
    for person in people:
        await church.platform.carrier.person_texts(person.phone, church.number, "START")

    def are_answered() -> list[Envelope[SuppressionRemoved]] | None:
        answered = heard(ear, church, SuppressionRemoved)
        return answered if len(answered) == len(people) else None

    answered = await wait_until(are_answered, seconds=60, what=f"{len(people)} answers")
    assert isinstance(answered, list)
    await until_answered(church, {OPTED_IN: [person.phone for person in people]})
    return {each.data.phone_index: each.id for each in answered}


def heard(ear: Ear, church: Church, kind: type[E]) -> list[Envelope[E]]:
    """The events of a kind and a church that were heard."""
    events = [decode(ear.bodies[event_id]) for event_id in ear.of(kind.TYPE)]
    return [event for event in events if event.church_id == church.id]


@contextmanager
def paused(platform: Platform, name: str) -> Iterator[None]:
    """Stop a process in its tracks, and let it go on."""
    pid = platform.process(name).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def answers(church: Church) -> list[Text]:
    """What the platform has said to people by itself."""
    return [text for text in await church.texts() if kind_of(text)]


def kind_of(text: Text) -> str:
    """Which of our own answers a text is; empty for any other."""
    return next((kind for kind in (OPTED_OUT, OPTED_IN, HELP) if kind in (text.text or "")), "")


async def until_answered(church: Church, wanted: dict[str, Sequence[str]]) -> None:
    """Wait until nothing is on its way any more, and each of these people has each answer once, and nobody another."""
    expected = Counter((kind, phone) for kind, phones in wanted.items() for phone in phones)

    async def answered() -> Counter[tuple[str, str]]:
        return Counter((kind_of(text), text.recipient) for text in await answers(church))

    async def are_answered() -> bool:
        return not expected - await answered()

    try:
        await wait_until(are_answered, seconds=PATIENCE_SECONDS, what=f"{expected.total()} answers")
    except AssertionError as error:
        missing = expected - await answered()
        raise AssertionError(f"{error}; missing are {missing}; of all: {await progress(church)}") from None
    await wait_until(lambda: is_drained(church.platform), seconds=120, what="empty outboxes and queues")
    assert await answered() == expected


async def progress(church: Church) -> dict[str, int]:
    """How far the answers of a church have come: keywords judged, events waiting, and the answers by their state."""
    database = await asyncpg.connect(church.platform.process("postgres").url)
    try:
        judged = await database.fetchval("SELECT count(*) FROM compliance.consents WHERE church_id = $1", church.id)
        answers = await database.fetch(
            """
            SELECT status, count(*)
            FROM delivery.recipients
            WHERE church_id = $1 AND kind = 'compliance'
            GROUP BY status
            """,
            church.id,
        )
    finally:
        await database.close()
    return {"judged": judged, "waiting events": await waiting_events(church.platform)} | dict(map(tuple, answers))


async def until_suppressed(church: Church, count: int) -> None:
    """Wait until a preview of all leaves so many out."""
    await until_left_out(church, SendRequest(content="Who is left?", target_type="all"), count)


async def until_left_out(church: Church, request: SendRequest, count: int) -> None:
    """Wait until a preview leaves so many out."""

    async def is_known() -> bool:
        return (await church.client.messages.preview(request)).suppressed == count

    await wait_until(is_known, what=f"a preview that leaves {count} out")


async def completed(church: Church, content: str) -> Message:
    """Send to all, and wait until no recipient is open."""
    sent = await church.send(content)
    return await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
