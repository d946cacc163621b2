"""Broadcasts ask before they are sent: reserve, decline, give back, settle.

Questions of one church take turns on its subscription's row. A question older than the last one, or about a settled
message, is not answered. A surplus that is declined leaves what was authorized before: the message is on its way.

A test, which the simulated carrier answers, is always authorized: nothing is reserved for it, and no row tells of it.
"""

from koinonia import clock
from koinonia.bus import FactMissing, outbox
from koinonia.db import Transaction
from koinonia.events import Envelope, Event
from koinonia.events.billing import MessageAuthorized, MessageCredited, MessageDeclined
from koinonia.events.delivery import BroadcastStopped
from koinonia.events.messaging import MessageAccepted, MessageCompleted, MessageDue
from koinonia_billing.domain.authorization import (
    Decision,
    Standing,
    credited_cents,
    credited_segments,
    decide,
    held_segments,
)
from koinonia_billing.store import reservations as store
from koinonia_billing.store import subscriptions as subscription_store
from koinonia_billing.subscriptions import church_key


async def expect(tx: Transaction, received: Envelope[MessageAccepted]) -> None:
    """Note a broadcast to come; a test is none."""
    if received.data.test:
        return
    await store.insert_expected(tx, received.data.message_id, received.data.segment_bound)


async def authorize(tx: Transaction, received: Envelope[MessageDue]) -> None:
    """Reserve what a broadcast may use, or decline it. Asked the same again, it gets the same answer.

    Raises:
        FactMissing: the church has no subscription yet.
    """
    question = received.data
    if question.test:
        bound = question.segment_bound
        answer = MessageAuthorized(
            message_id=question.message_id, version=question.version, segment_bound=bound, test=True
        )
        await outbox.add(tx, answer)
        return
    row = await subscription_store.lock(tx)
    if row is None:
        raise FactMissing(church_key(tx.tenant))
    known = await store.find(tx, question.message_id)
    if known is not None and (known["status"] == "settled" or question.version < known["version"]):
        return
    used = known["used_segments"] if known else 0
    reserved = known["segment_bound"] if known and known["status"] == "reserved" else 0
    standing = Standing(
        status=row["status"],
        church_status=row["church_status"],
        period_end=row["period_end"],
        included=row["included_segments"],
        used=row["used_segments"],
        reserved=row["reserved_segments"],
        has_overage=row["overage_cents"] is not None,
    )
    held = held_segments(reserved, used)
    if known is not None and known["version"] == question.version and known["status"] != "expected":
        covered = question.segment_bound <= reserved
        decision = Decision(declined=None if covered else "plan_limit", available=standing.remaining + held + used)
    else:
        decision = decide(standing, bound=question.segment_bound, held=held, used=used, now=clock.now())
    await _answer(tx, question, decision, reserved=reserved, used=used)


async def _answer(tx: Transaction, question: MessageDue, decision: Decision, *, reserved: int, used: int) -> None:
    """Say it, and keep it. What is declined beyond an earlier answer leaves that one: the message is on its way."""
    if decision.declined is None:
        status, bound = "reserved", question.segment_bound
        answer: Event = MessageAuthorized(
            message_id=question.message_id, version=question.version, segment_bound=question.segment_bound
        )
    else:
        status, bound = ("reserved", reserved) if reserved else ("declined", question.segment_bound)
        answer = MessageDeclined(
            message_id=question.message_id,
            version=question.version,
            reason=decision.declined,
            available_segments=decision.available,
        )
    await outbox.add(tx, answer)
    await store.upsert(tx, question.message_id, version=question.version, status=status, segment_bound=bound)
    holds = held_segments(bound, used) if status == "reserved" else 0
    await subscription_store.add(tx, [tx.tenant], [0], [holds - held_segments(reserved, used)])


async def settle(tx: Transaction, received: Envelope[MessageCompleted]) -> None:
    """Give back what a completed broadcast did not use.

    Raises:
        FactMissing: the church has no subscription yet.
    """
    message_id = received.data.message_id
    if received.data.test:
        return
    if await subscription_store.lock(tx) is None:
        raise FactMissing(church_key(tx.tenant))
    known = await store.find(tx, message_id)
    version = known["version"] if known else 0
    # Settled for good, the bound stays as what had been reserved: a stop that is told later is credited by it.
    bound = known["segment_bound"] if known and known["status"] in ("reserved", "settled") else 0
    if known is not None and known["status"] == "reserved":
        await subscription_store.add(tx, [tx.tenant], [0], [-held_segments(bound, known["used_segments"])])
    await store.upsert(tx, message_id, version=version, status="settled", segment_bound=bound)


async def credit(tx: Transaction, received: Envelope[BroadcastStopped]) -> None:
    """Give back what a stopped broadcast had reserved and cannot use any more, and say how much that is.

    What is in flight stays reserved until the message is completed. How far metering has come does not matter: the rows
    tell what is taken. A message that nothing is reserved for is settled: a question that comes late reserves nothing.

    Raises:
        FactMissing: the church has no subscription yet.
    """
    stopped = received.data
    if stopped.test:
        nothing = MessageCredited(message_id=stopped.message_id, credited_segments=0, credited_cents=0, test=True)
        await outbox.add(tx, nothing)
        return
    row = await subscription_store.lock(tx)
    if row is None:
        raise FactMissing(church_key(tx.tenant))
    known = await store.find(tx, stopped.message_id)
    if known is not None and known["credited_segments"] is not None:
        return
    is_reserved = known is not None and known["status"] == "reserved"
    bound = known["segment_bound"] if known is not None and known["status"] in ("reserved", "settled") else 0
    segments = credited_segments(bound, stopped.sent_segments, stopped.in_flight_segments)
    used = known["used_segments"] if known is not None else 0
    holds = held_segments(bound, used) if is_reserved else 0  # a settled one has given back all already
    others = row["used_segments"] + row["reserved_segments"] - used - holds
    cents = credited_cents(
        overage_cents=row["overage_cents"],
        included=row["included_segments"],
        taken=others + stopped.sent_segments + stopped.in_flight_segments,
        credited=segments,
    )
    await store.upsert(
        tx,
        stopped.message_id,
        version=known["version"] if known is not None else 0,
        status="reserved" if is_reserved else "settled",
        segment_bound=bound - segments if is_reserved else bound,
    )
    await store.credit(tx, stopped.message_id, segments=segments, cents=cents)
    if is_reserved:
        await subscription_store.add(tx, [tx.tenant], [0], [held_segments(bound - segments, used) - holds])
    await outbox.add(
        tx, MessageCredited(message_id=stopped.message_id, credited_segments=segments, credited_cents=cents)
    )
