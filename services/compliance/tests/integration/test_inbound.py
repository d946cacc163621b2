"""STOP, START and HELP over real tables: what is recorded, and what is answered."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.compliance import ComplianceReplyRequested, SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia_compliance import inbound
from koinonia_compliance.domain.replies import MOST_PER_HOUR

Says = Callable[..., Envelope[MessageReceived]]
Apply = Callable[..., Awaitable[None]]
Sent = Callable[..., Awaitable[list[Any]]]
JudgeAndDie = Callable[[Envelope[MessageReceived]], Awaitable[None]]
CountStatements = Callable[[], AbstractContextManager[StatementLog]]

OUR_NUMBER = "+12025550199"


def announced(church_id: UUID, name: str = "Grace", version: int = 1) -> Envelope[ChurchChanged]:
    data = ChurchChanged(church_id=church_id, version=version, name=name, timezone="UTC", status="active")
    return Envelope(id=new_id(), time=clock.now(), data=data, church_id=church_id)


def numbered(church_id: UUID, status: Any = "active", version: int = 1) -> Envelope[NumberChanged]:
    data = NumberChanged(
        number_id=UUID(int=5), version=version, phone=OUR_NUMBER, kind="long_code", status=status, is_default=True
    )
    return Envelope(id=new_id(), time=clock.now(), data=data, church_id=church_id)


_OPT_OUT = statement("test.opt_out", "SELECT * FROM opt_outs")
_CONSENTS = statement("test.consents", "SELECT * FROM consents ORDER BY occurred_at")


async def opt_outs(database: Database, church_id: UUID) -> list[Any]:
    async with database.tenant(church_id) as tx:
        return await tx.fetch(_OPT_OUT)


async def consents(database: Database, church_id: UUID) -> list[Any]:
    async with database.tenant(church_id) as tx:
        return await tx.fetch(_CONSENTS)


async def test_a_stop_is_answered_recorded_and_confirmed(
    apply: Apply, says: Says, sent: Sent, database: Database, church_id: UUID
) -> None:
    stop = says("Stop, please!")
    await apply(announced(church_id), stop)
    [added] = await sent(SuppressionAdded)
    assert (added.inbound_event_id, added.phone_index, added.reason) == (stop.id, stop.data.phone_index, "stop")
    assert (added.version, added.occurred_at) == (1, stop.data.occurred_at)
    [reply] = await sent(ComplianceReplyRequested)
    assert (reply.purpose, reply.inbound_event_id, reply.number_id) == ("stop", stop.id, stop.data.number_id)
    assert (reply.phone_index, reply.phone_ciphertext) == (stop.data.phone_index, stop.data.phone_ciphertext)
    assert reply.content.startswith("You are opted out of texts from Grace.")
    [kept] = await opt_outs(database, church_id)
    assert (kept["state"], kept["inbound_event_id"], kept["phone_ciphertext"]) == (
        "opted_out",
        stop.id,
        stop.data.phone_ciphertext,
    )
    [proof] = await consents(database, church_id)
    assert (proof["id"], proof["granted"], proof["source"]) == (stop.id, False, "text")
    assert (proof["carrier_id"], proof["occurred_at"]) == ("carrier-1", stop.data.occurred_at)


async def test_a_stop_delivered_twice_is_answered_once(apply: Apply, says: Says, sent: Sent) -> None:
    stop = says("STOP")
    await apply(stop, stop, stop)
    assert len(await sent(SuppressionAdded)) == 1
    assert len(await sent(ComplianceReplyRequested)) == 1


async def test_a_stop_killed_before_its_commit_leaves_nothing_and_is_applied_when_it_comes_again(
    apply: Apply, says: Says, sent: Sent, judge_and_die: JudgeAndDie
) -> None:
    stop = says("STOP")
    with pytest.raises(InterruptedError):
        await judge_and_die(stop)
    assert await sent(SuppressionAdded) == []
    await apply(stop)
    [added] = await sent(SuppressionAdded)
    assert added.version == 1


@pytest.fixture
def judge_and_die(database: Database, keys: Keys, church_id: UUID) -> JudgeAndDie:
    """Judge a text, and be killed before the commit."""

    async def run(text: Envelope[MessageReceived]) -> None:
        async with database.tenant(church_id) as tx:
            await inbound.judge(tx, text, keys)
            raise InterruptedError

    return run


async def test_a_second_stop_is_answered_by_name_and_not_confirmed_again(apply: Apply, says: Says, sent: Sent) -> None:
    first, second = says("STOP"), says("unsubscribe")
    await apply(first, second)
    answers = await sent(SuppressionAdded)
    assert [each.inbound_event_id for each in answers] == [first.id, second.id]
    assert [each.version for each in answers] == [1, 2]
    assert answers[1].occurred_at == second.data.occurred_at
    assert len(await sent(ComplianceReplyRequested)) == 1


async def test_a_start_lifts_the_opt_out_and_is_confirmed_once(
    apply: Apply, says: Says, sent: Sent, database: Database, church_id: UUID
) -> None:
    stop, start, again = says("STOP"), says("START"), says("unstop")
    await apply(stop, start, again)
    answers = await sent(SuppressionRemoved)
    assert [each.inbound_event_id for each in answers] == [start.id, again.id]
    assert [each.reason for each in answers] == ["start", "start"]
    assert [each.purpose for each in await sent(ComplianceReplyRequested)] == ["stop", "start"]
    assert [row["granted"] for row in await consents(database, church_id)] == [False, True, True]


async def test_a_start_dated_before_the_stop_is_answered_with_the_stop_that_holds(
    apply: Apply, says: Says, sent: Sent, database: Database, church_id: UUID
) -> None:
    start = says("START", at=clock.now() - timedelta(seconds=30))
    stop = says("STOP")
    await apply(stop, start)
    assert await sent(SuppressionRemoved) == []
    _, answer = await sent(SuppressionAdded)
    assert (answer.inbound_event_id, answer.occurred_at) == (start.id, stop.data.occurred_at)
    assert [each.purpose for each in await sent(ComplianceReplyRequested)] == ["stop"]
    [kept] = await opt_outs(database, church_id)
    assert (kept["state"], kept["inbound_event_id"], kept["version"]) == ("opted_out", stop.id, 2)


async def test_a_stop_dated_before_the_start_releases_its_hold_and_is_not_confirmed(
    apply: Apply, says: Says, sent: Sent
) -> None:
    stop = says("STOP", at=clock.now() - timedelta(seconds=30))
    start = says("START")
    await apply(start, stop)
    assert await sent(SuppressionAdded) == []
    _, answer = await sent(SuppressionRemoved)
    assert (answer.inbound_event_id, answer.occurred_at) == (stop.id, start.data.occurred_at)
    assert [each.purpose for each in await sent(ComplianceReplyRequested)] == ["start"]


async def test_help_names_the_church_and_changes_nothing(
    apply: Apply, says: Says, sent: Sent, database: Database, church_id: UUID
) -> None:
    await apply(announced(church_id), says("HELP"))
    [reply] = await sent(ComplianceReplyRequested)
    assert reply.purpose == "help"
    assert reply.content.startswith("Grace: ")
    assert await sent(SuppressionAdded, SuppressionRemoved) == []
    assert await opt_outs(database, church_id) == []
    assert await consents(database, church_id) == []


async def test_an_ordinary_text_is_left_to_the_inbox(
    apply: Apply, says: Says, database: Database, church_id: UUID, count_statements: CountStatements
) -> None:
    with count_statements() as counted:
        await apply(says("Don't stop praying"))
    assert set(counted.by_name) == {"inbox.note"}
    assert await opt_outs(database, church_id) == []


@pytest.mark.parametrize(("text", "word"), [("STOP", "STOP"), ("START", "START"), ("HELP", "HELP"), ("ARRET", "STOP")])
async def test_what_the_carrier_answered_itself_gets_no_second_answer(
    apply: Apply, says: Says, sent: Sent, text: str, word: str
) -> None:
    await apply(says(text, answered_by_carrier=word))
    assert await sent(ComplianceReplyRequested) == []
    assert len(await sent(SuppressionAdded)) == (word == "STOP")
    assert len(await sent(SuppressionRemoved)) == (word == "START")


async def test_a_stop_before_its_church_is_known_is_answered_and_confirmed_at_once(
    apply: Apply, says: Says, sent: Sent, church_id: UUID
) -> None:
    await apply(says("STOP"))
    assert len(await sent(SuppressionAdded)) == 1
    [reply] = await sent(ComplianceReplyRequested)
    assert "texts from this church." in reply.content
    await apply(announced(church_id), says("START"))
    assert "texts from Grace again" in (await sent(ComplianceReplyRequested))[1].content


async def test_a_church_goes_by_its_newest_name(apply: Apply, says: Says, sent: Sent, church_id: UUID) -> None:
    newest = announced(church_id, "Hope", version=2)
    await apply(newest, announced(church_id, "Grace", version=1), newest, says("HELP"))
    [reply] = await sent(ComplianceReplyRequested)
    assert reply.content.startswith("Hope: ")


async def test_a_number_of_our_own_is_not_answered_whichever_church_has_it(
    apply: Apply, says: Says, sent: Sent
) -> None:
    other = new_id()
    await apply(numbered(other), says("HELP", phone=OUR_NUMBER), says("STOP", phone=OUR_NUMBER))
    assert await sent(ComplianceReplyRequested) == []
    assert len(await sent(SuppressionAdded)) == 1
    await apply(numbered(other, "released", version=3), numbered(other, "active", version=2))
    await apply(says("HELP", phone=OUR_NUMBER))
    assert len(await sent(ComplianceReplyRequested)) == 1


async def test_a_machine_that_answers_each_text_gets_a_few_replies_an_hour(
    apply: Apply, says: Says, sent: Sent
) -> None:
    for _ in range(MOST_PER_HOUR + 2):
        await apply(says("HELP"))
    assert len(await sent(ComplianceReplyRequested)) == MOST_PER_HOUR
    await apply(says("HELP", phone="+12025550124"))
    assert len(await sent(ComplianceReplyRequested)) == MOST_PER_HOUR + 1
    with clock.shifted(3601):
        await apply(says("HELP"), says("HELP"))
    assert len(await sent(ComplianceReplyRequested)) == MOST_PER_HOUR + 3


async def test_a_stop_that_comes_after_an_outage_is_honoured_without_a_late_confirmation(
    apply: Apply, says: Says, sent: Sent
) -> None:
    await apply(says("STOP", at=clock.now() - timedelta(minutes=6)))
    assert len(await sent(SuppressionAdded)) == 1
    assert await sent(ComplianceReplyRequested) == []


async def test_a_stop_whose_sender_cannot_be_read_is_honoured_all_the_same(
    apply: Apply, says: Says, sent: Sent
) -> None:
    stop = says("STOP")
    unreadable = msgspec.structs.replace(stop.data, phone_ciphertext=b"\x01\x04gonexxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
    await apply(msgspec.structs.replace(stop, data=unreadable))
    [added] = await sent(SuppressionAdded)
    assert added.inbound_event_id == stop.id
    assert await sent(ComplianceReplyRequested) == []


async def test_an_opt_out_is_one_churchs_alone(
    apply: Apply, says: Says, sent: Sent, database: Database, church_id: UUID
) -> None:
    other = new_id()
    await apply(says("STOP"), says("START", church=other))
    [here] = await opt_outs(database, church_id)
    [there] = await opt_outs(database, other)
    assert (here["state"], there["state"]) == ("opted_out", "opted_in")
    assert here["phone_index"] != there["phone_index"]
    assert len(await sent(SuppressionAdded)) == len(await sent(SuppressionRemoved)) == 1


async def test_a_keyword_takes_at_most_seven_statements_with_its_inbox_row(
    apply: Apply, says: Says, church_id: UUID, count_statements: CountStatements
) -> None:
    await apply(announced(church_id), says("STOP"))
    with count_statements() as counted:
        await apply(says("START"))
    assert counted.by_name["opt_outs.save"] == 1
    assert counted.by_name["automatic_replies.count_one"] == 1
    assert counted.count == 7


_ALTER_PROOF = statement("test.alter_proof", "UPDATE consents SET granted = true")


async def test_a_proof_cannot_be_altered_by_the_service(
    apply: Apply, says: Says, database: Database, church_id: UUID
) -> None:
    await apply(says("STOP"))
    with pytest.raises(Exception, match="permission denied"):
        await _execute(database, church_id)


async def _execute(database: Database, church_id: UUID) -> None:
    async with database.tenant(church_id) as tx:
        await tx.execute(_ALTER_PROOF)
