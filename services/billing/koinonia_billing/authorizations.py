"""Broadcasts ask before they are sent: reserve, decline, settle.

Questions of one church take turns on its subscription's row. A question older than the last one, or about a settled
message, is not answered. A surplus that is declined leaves what was authorized before: the message is on its way.
"""

from koinonia import clock
from koinonia.bus import FactMissing, outbox
from koinonia.db import Transaction
from koinonia.events import Envelope, Event
from koinonia.events.billing import MessageAuthorized, MessageDeclined
from koinonia.events.messaging import MessageAccepted, MessageCompleted, MessageDue
from koinonia_billing.domain.authorization import Decision, Standing, decide, held_segments
from koinonia_billing.store import reservations as store
from koinonia_billing.store import subscriptions as subscription_store
from koinonia_billing.subscriptions import church_key


async def expect(tx: Transaction, received: Envelope[MessageAccepted]) -> None:
    """Note a broadcast to come."""
    await store.insert_expected(tx, received.data.message_id, received.data.segment_bound)


async def authorize(tx: Transaction, received: Envelope[MessageDue]) -> None:
    """Reserve what a broadcast may use, or decline it. Asked the same again, it gets the same answer.

    Raises:
        FactMissing: the church has no subscription yet.
    """
    question = received.data
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
    if await subscription_store.lock(tx) is None:
        raise FactMissing(church_key(tx.tenant))
    known = await store.find(tx, message_id)
    version, bound = (known["version"], known["segment_bound"]) if known else (0, 0)
    if known is not None and known["status"] == "reserved":
        await subscription_store.add(tx, [tx.tenant], [0], [-held_segments(bound, known["used_segments"])])
    await store.upsert(tx, message_id, version=version, status="settled", segment_bound=bound)
