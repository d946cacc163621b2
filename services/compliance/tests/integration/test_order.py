"""STOP and START of one number in every order, repeated, and at once on several replicas.

What delivery does with texts and answers is told again here in a few lines (`Delivery`), by the rule of
architecture.md, "Inbound and STOP": the answers must settle its holds rightly, in whatever order both reach it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from koinonia import clock
from koinonia.db import Database, statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia_compliance.domain.acts import asked

Says = Callable[..., Envelope[MessageReceived]]
Apply = Callable[..., Awaitable[None]]
Sent = Callable[..., Awaitable[list[Any]]]
Answer = SuppressionAdded | SuppressionRemoved

BASE = datetime(2026, 11, 20, tzinfo=UTC)
SAID = [("STOP", 1), ("START", 2), ("STOP", 3), ("START", 3), ("START", 0)]  # text, second


def at(second: int) -> datetime:
    return BASE + timedelta(seconds=second)


def outcome(texts: Sequence[Envelope[MessageReceived]]) -> tuple[bool, datetime]:
    """The rule: whether the latest text opts out, an opt-out on a tie; and its time."""
    latest = max(each.data.occurred_at for each in texts)
    words = {each.data.text for each in texts if each.data.occurred_at == latest}
    return "STOP" in words, latest


_STATES = statement("test.states", "SELECT phone_index, state, occurred_at, version FROM opt_outs")


async def states(database: Database, texts: Sequence[Envelope[MessageReceived]]) -> dict[bytes, tuple[bool, datetime]]:
    church_id = texts[0].church_id
    assert church_id is not None
    async with database.tenant(church_id) as tx:
        rows = await tx.fetch(_STATES)
    return {row["phone_index"]: (row["state"] == "opted_out", row["occurred_at"]) for row in rows}


async def test_every_order_of_the_same_texts_ends_in_the_same_state_and_answers_each_text_by_name(
    apply: Apply, says: Says, sent: Sent, database: Database
) -> None:
    chance = random.Random(1)
    people = []
    for number, order in enumerate(permutations(SAID, 4)):
        texts = [says(text, at=at(second), phone=f"+1202555{number:04}") for text, second in order]
        repeated = sorted([*texts, *chance.choices(texts, k=2)], key=lambda _: chance.random())
        await apply(*repeated)
        people.append(texts)
    kept = await states(database, people[0])
    answers = await sent(SuppressionAdded, SuppressionRemoved)
    for texts in people:
        index = texts[0].data.phone_index
        assert kept[index] == outcome(texts)
        own = sorted((each for each in answers if each.phone_index == index), key=lambda each: each.version)
        assert [each.version for each in own] == [1, 2, 3, 4]
        assert {each.inbound_event_id for each in own} == {each.id for each in texts}
        assert (isinstance(own[-1], SuppressionAdded), own[-1].occurred_at) == outcome(texts)


class Delivery:
    """What delivery knows of one number."""

    def __init__(self) -> None:
        self.holds: dict[Any, datetime] = {}
        self.settled: set[Any] = set()
        self.answered_until = datetime.min.replace(tzinfo=UTC)
        self.state = (datetime.min.replace(tzinfo=UTC), False)

    def hear(self, text: Envelope[MessageReceived]) -> None:
        is_answered = text.id in self.settled or text.data.occurred_at < self.answered_until
        if asked(text.data.text, None) == "stop" and not is_answered:
            self.holds[text.id] = text.data.occurred_at

    def learn(self, answer: Answer) -> None:
        self.settled.add(answer.inbound_event_id)
        self.answered_until = max(self.answered_until, answer.occurred_at)
        self.state = max(self.state, (answer.occurred_at, isinstance(answer, SuppressionAdded)))
        for held, occurred_at in list(self.holds.items()):
            if held == answer.inbound_event_id or occurred_at < answer.occurred_at:
                del self.holds[held]

    @property
    def may_text(self) -> bool:
        return not self.holds and not self.state[1]


async def test_delivery_settles_its_holds_rightly_in_whatever_order_texts_and_answers_reach_it(
    apply: Apply, says: Says, sent: Sent
) -> None:
    chance = random.Random(2)
    for order in permutations(SAID, 3):
        texts = [says(text, at=at(second)) for text, second in order]
        before = len(await sent(SuppressionAdded, SuppressionRemoved))
        await _apply_as_one_more_person(apply, texts)
        answers = (await sent(SuppressionAdded, SuppressionRemoved))[before:]
        assert len(answers) == len(texts)
        for _ in range(20):
            _check(texts, answers, chance)


async def _apply_as_one_more_person(apply: Apply, texts: list[Envelope[MessageReceived]]) -> None:
    index = texts[0].id.bytes  # unknown so far: each order begins anew
    for number, text in enumerate(texts):
        texts[number] = _with_index(text, index)
    await apply(*texts)


def _with_index(text: Envelope[MessageReceived], index: bytes) -> Envelope[MessageReceived]:
    data = MessageReceived(
        number_id=text.data.number_id,
        phone_index=index,
        phone_ciphertext=text.data.phone_ciphertext,
        text=text.data.text,
        media_urls=(),
        carrier_id=text.data.carrier_id,
        occurred_at=text.data.occurred_at,
    )
    return Envelope(id=text.id, time=text.time, data=data, church_id=text.church_id)


def _check(texts: Sequence[Envelope[MessageReceived]], answers: Sequence[Answer], chance: random.Random) -> None:
    """No order lets anybody be texted against the rule, and none leaves a hold behind."""
    delivery = Delivery()
    heard: list[Envelope[MessageReceived]] = []
    arriving: list[Envelope[MessageReceived] | Answer] = [*texts, *answers, *chance.choices(texts, k=2)]
    chance.shuffle(arriving)
    for each in arriving:
        if isinstance(each, Envelope):
            heard.append(each)
            delivery.hear(each)
        else:
            delivery.learn(each)
        if heard and outcome(heard) == outcome(texts) and outcome(heard)[0]:
            assert not delivery.may_text  # the STOP that holds was heard
    assert delivery.holds == {}
    assert delivery.may_text is not outcome(texts)[0]


@pytest.mark.parametrize("seed", range(5))
async def test_two_replicas_that_judge_one_number_at_once_take_turns(
    apply: Apply, says: Says, sent: Sent, database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    texts = [says(chance.choice(["STOP", "START"]), at=at(chance.randrange(4))) for _ in range(12)]
    await asyncio.gather(*(apply(each) for each in [*texts, *texts]))
    answers = await sent(SuppressionAdded, SuppressionRemoved)
    assert sorted(each.version for each in answers) == list(range(1, 13))
    assert {each.inbound_event_id for each in answers} == {each.id for each in texts}
    last = max(answers, key=lambda each: each.version)
    assert (isinstance(last, SuppressionAdded), last.occurred_at) == outcome(texts)
    assert (await states(database, texts))[texts[0].data.phone_index] == outcome(texts)


async def test_of_answers_the_later_version_never_tells_of_an_older_act(apply: Apply, says: Says, sent: Sent) -> None:
    texts = [says("STOP" if second % 2 else "START", at=clock.now() - timedelta(seconds=second)) for second in range(8)]
    await asyncio.gather(*(apply(each) for each in texts))
    answers = sorted(await sent(SuppressionAdded, SuppressionRemoved), key=lambda each: each.version)
    assert [each.occurred_at for each in answers] == sorted(each.occurred_at for each in answers)
