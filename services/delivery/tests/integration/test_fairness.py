"""Who waits for whom, by the carrier's record: churches, numbers, replies, rates, and a carrier that bears so much.

Scaled; ``FAIRNESS_TEXTS=100000 pytest services/delivery/tests/integration/test_fairness.py`` plays the first in full.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast
from uuid import UUID

import pytest
import structlog
from services.delivery.tests.integration.conftest import PROFILE, StartWorker, World

from koinonia.carrier.contract import Accepted, Carrier, OutboundText
from koinonia.carrier.simulated import Fault, SimulatedCarrier
from koinonia.carrier.simulated.record import Text
from koinonia.db import statement
from koinonia.ids import new_id
from koinonia_delivery.settling import BATCH

log = structlog.get_logger()

WaitUntil = Callable[..., Awaitable[object]]

BIG = int(os.environ.get("FAIRNESS_TEXTS", "5000"))
SMALL = BIG // 1000 * 10  # of each of ten churches: 50, or 1,000
UNLIMITED = 1e6


NUMBER = statement("test.number", "SELECT id FROM numbers WHERE phone = $1")


class Church(World):
    """One of several churches at the same carrier, with a number that the carrier knows; ``phones``: all of them."""

    phones: list[str]

    async def settle_in(self, carrier: SimulatedCarrier, *, rate: float = UNLIMITED, first: bool = True) -> None:
        """Get a number, or another one, at the carrier."""
        number_id = self.number_id if first else new_id()
        phone = f"+1305{number_id.int % 10**7:07d}"
        self.phones = [phone] if first else [*self.phones, phone]
        await self.add_number(number_id, rate=rate, phone=phone)
        async with self.database.across_churches() as tx:
            await tx.execute(PROFILE, number_id, carrier.add_number(phone).profile_id)
        self.number_id = number_id

    async def fill(self, texts: int, *, first_person: int = 0, **fields: Any) -> None:
        """A broadcast from its latest number, in chunks as messaging sends them."""
        people = [self.person(number) for number in range(first_person, first_person + texts)]
        first = self.chunk(people[:BATCH], **fields)
        await self.apply("delivery.chunks", first)
        for start in range(BATCH, texts, BATCH):
            chunk = self.chunk(
                people[start : start + BATCH],
                message_id=first.message_id,
                dispatched_at=first.dispatched_at,
                number_id=self.number_id,
                **fields,
            )
            await self.apply("delivery.chunks", chunk)


async def church(world: World, carrier: SimulatedCarrier, *, rate: float = UNLIMITED) -> Church:
    """A church of its own, with one number."""
    made = Church(world.database, world.keys, new_id())
    await made.settle_in(carrier, rate=rate)
    return made


async def number_of(sender: Church, phone: str) -> UUID:
    """The number's id."""
    async with sender.database.tenant(sender.church_id) as tx:
        found: UUID = await tx.fetch_value(NUMBER, phone)
        return found


def shares(texts: Sequence[Text], churches: Sequence[Church]) -> list[int]:
    """How many of the texts were each church's."""
    counts = Counter(text.sender for text in texts)
    return [sum(counts[phone] for phone in each.phones) for each in churches]


@pytest.mark.parametrize("crew", [(1, 50), (1, 4), (3, 10)], ids=lambda crew: f"{crew[0]} of {crew[1]}")
async def test_small_churches_have_their_share_beside_a_big_one(
    world: World,
    carrier: SimulatedCarrier,
    start_worker: StartWorker,
    wait_until: WaitUntil,
    crew: tuple[int, int],
) -> None:
    """Also with more churches than calls at once, and with several workers."""
    workers, concurrency = crew
    carrier.behaviour.latency_seconds = 0.01
    big, *small = [await church(world, carrier) for _ in range(11)]
    await big.fill(BIG)
    for _ in range(workers):
        start_worker(delivery_concurrency=concurrency)
    await wait_until(lambda: len(carrier.record.texts) > BIG // 50)
    await asyncio.gather(*(each.fill(SMALL) for each in small))
    start = len(carrier.record.texts)
    await wait_until(lambda: min(shares(carrier.record.texts, small)) == SMALL, seconds=300)
    for each in small:
        ends = [index for index, text in enumerate(carrier.record.texts) if text.sender in each.phones]
        while_it_had_work = ends[-1] + 1 - start
        assert 2 / 3 * while_it_had_work / 11 <= SMALL, f"{SMALL} of {while_it_had_work}"
    assert not carrier.record.duplicates


@pytest.mark.parametrize("concurrency", [4, 50])
async def test_a_church_with_ten_numbers_has_no_more_than_one_with_one(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil, concurrency: int
) -> None:
    carrier.behaviour.latency_seconds = 0.01
    many, single = await church(world, carrier), await church(world, carrier)
    await many.fill(60)
    for number in range(1, 10):
        await many.settle_in(carrier, first=False)
        await many.fill(60, first_person=number * 60, number_id=many.number_id)  # nobody waits for an earlier text
    await single.fill(500)
    worker = start_worker(delivery_concurrency=concurrency)
    await wait_until(lambda: len(carrier.record.texts) >= 600, seconds=120)
    await worker.stop()
    of_many, of_single = shares(carrier.record.texts[:600], [many, single])
    assert min(of_many, of_single) >= 2 / 3 * 300
    assert len({text.sender for text in carrier.record.texts} & set(many.phones)) == 10


def replied_at(carrier: SimulatedCarrier, sender: str) -> int | None:
    """Where in the record this number's reply stands."""
    texts = enumerate(carrier.record.texts)
    return next((index for index, text in texts if text.text == "On my way" and text.sender == sender), None)


async def test_a_reply_goes_before_a_broadcast_that_runs(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    carrier.behaviour.latency_seconds = 0.02
    big, other = await church(world, carrier), await church(world, carrier)
    await big.fill(3000)
    worker = start_worker(delivery_concurrency=10)
    await wait_until(lambda: len(carrier.record.texts) > 100)
    for each in (big, other):  # also from the very number that is busy
        await each.reply(9000)
        before = len(carrier.record.texts)
        in_hand = len(worker.sending._calls) + len(worker.sending._claimed)
        phone = each.phones[0]
        await wait_until(partial(replied_at, carrier, phone))
        at = replied_at(carrier, phone) or 0
        # What was claimed already goes on, and at the most what one more claim took at the same moment.
        assert at - before <= 2 * in_hand + 50
    assert len(carrier.record.texts) < 2000  # the broadcast was far from its end


async def test_all_workers_together_keep_to_a_numbers_rate_and_use_it(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    """The second half, that little of the rate is lost, is exact by a simulated clock in ``test_choosing``."""
    rate, segments = 40.0, 2
    sender = await church(world, carrier, rate=rate)
    await sender.fill(400, content="x" * 200)
    for _ in range(3):
        start_worker()
    await wait_until(lambda: len(carrier.record.texts) >= 13 * rate / segments, seconds=120)
    passed = [(text.accepted_monotonic, text.parts) for text in carrier.record.texts]
    for start, _ in passed:
        assert sum(parts for at, parts in passed if start <= at < start + 10) <= 10 * rate + segments
    lasted = passed[-1][0] - passed[0][0]
    share = sum(parts for _, parts in passed[1:]) / lasted / rate
    assert {parts for _, parts in passed} == {segments}
    log.info("rate_used", share=f"{share:.1%}")  # to see it: pytest -s
    assert share > 0.5  # on a machine that does much else meanwhile


async def test_a_429_lets_its_number_rest_and_no_other(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    sender = await church(world, carrier, rate=20.0)
    await sender.settle_in(carrier, rate=20.0, first=False)
    resting, other = sender.phones
    for phone in sender.phones:
        sender.number_id = await number_of(sender, phone)
        await sender.fill(200, number_id=sender.number_id)
    start_worker()
    await wait_until(lambda: len(carrier.record.texts) > 20)
    refused = Fault(kind="rate_limited", seconds=3, next=1)
    carrier.order(refused)
    await wait_until(lambda: carrier.faults.orders[-1].struck == 1)
    first = len(carrier.record.texts)

    def longest_gap(phone: str) -> float:
        times = [text.accepted_monotonic for text in carrier.record.texts[first - 5 :] if text.sender == phone]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    await wait_until(lambda: max(map(longest_gap, sender.phones)) > 2.5, seconds=30)
    gaps = sorted(map(longest_gap, (resting, other)))
    assert gaps[1] > 2.5
    assert gaps[0] < 1.0


class Crowded:
    """A carrier with so many servers that take so long each: whoever finds none free waits for one."""

    def __init__(self, carrier: Carrier, servers: int, seconds: float) -> None:
        self._carrier, self._servers, self._seconds = carrier, asyncio.Semaphore(servers), seconds

    async def send(self, text: OutboundText) -> Accepted:
        """Send it once a server is free."""
        async with self._servers:
            await asyncio.sleep(self._seconds)
            return await self._carrier.send(text)


async def test_the_number_of_calls_at_once_finds_what_the_carrier_bears(
    world: World, carrier: SimulatedCarrier, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    sender = await church(world, carrier)
    await sender.fill(2500)
    worker = start_worker(lambda client: cast(Carrier, Crowded(client, 20, 0.2)), delivery_concurrency=200)
    await wait_until(lambda: len(carrier.record.texts) > 300, seconds=120)
    before = len(carrier.record.texts)
    await wait_until(lambda: len(carrier.record.texts) > before + 500, seconds=120)
    assert 20 <= worker.caller.limit._grown <= 60
