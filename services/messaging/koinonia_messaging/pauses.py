"""Pauses: of a message by a person or by itself, of everything that a church sends, and the stop of everything.

A pause stands beside a message's status: answers, counters and completion go on under it. Each carries a version, since
events come in any order.
"""

from uuid import UUID

import structlog

from koinonia import clock, metrics
from koinonia.api.churches import Sending
from koinonia.api.messages import Message, StopAnswer
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, NotFound
from koinonia.events import Envelope
from koinonia.events.billing import MessageCredited
from koinonia.events.delivery import BroadcastStopped
from koinonia.events.messaging import (
    MessageCancelled,
    MessagePaused,
    MessageResumed,
    SendingPaused,
    SendingResumed,
)
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import messages, progress
from koinonia_messaging.domain import stops as stop_rules
from koinonia_messaging.store import pauses as store
from koinonia_messaging.store import sending as sending_store
from koinonia_messaging.store import stops as stop_store

log = structlog.get_logger()

_CAN_REST = frozenset({"scheduled", "accepted", "sending", "paused"})


async def pause(tx: Transaction, actor: Identity, message_id: UUID) -> Message:
    """Pause a message; a paused one stays as it is.

    Raises:
        NotFound: the church has no such message.
        Conflict: nothing of it waits.
        Forbidden: a test key asks, and it is no test.
    """
    await messages.check_kind(tx, actor, message_id)
    now = clock.now()
    turned = await store.pause(tx, message_id, now)
    if turned is None:
        return await _as_it_is(tx, message_id)
    paused = MessagePaused(message_id=message_id, version=turned.version, paused_at=now, test=turned.test)
    await outbox.add(tx, paused, acted(actor, "message.paused", "message", message_id))
    metrics.pauses_total.add(1, {"scope": "message", "cause": "person"})
    return await messages.fetch(tx, message_id)


async def resume(tx: Transaction, actor: Identity, message_id: UUID) -> Message:
    """Let a paused message go on where it rested; another one stays as it is.

    Raises:
        NotFound: the church has no such message.
        Conflict: nothing of it waits.
        Forbidden: a test key asks, and it is no test; or it is urgent, and a sender asks.
    """
    await messages.check_kind(tx, actor, message_id)
    turned = await store.resume(tx, message_id)
    if turned is None:
        return await _as_it_is(tx, message_id)
    messages.check_urgent(actor, urgent=turned.is_urgent)
    resumed = MessageResumed(message_id=message_id, version=turned.version, test=turned.test)
    await outbox.add(tx, resumed, acted(actor, "message.resumed", "message", message_id))
    return await messages.fetch(tx, message_id)


async def _as_it_is(tx: Transaction, message_id: UUID) -> Message:
    message = await messages.fetch(tx, message_id)
    if message.status not in _CAN_REST:
        raise Conflict(f"This message is {message.status}: nothing of it waits.")
    return message


async def show_sending(tx: Transaction, church_id: UUID) -> Sending:
    """Whether the transaction's church sends.

    Raises:
        NotFound: another church was asked for.
    """
    _check_own(tx, church_id)
    row = await sending_store.find(tx)
    if row is None:
        return Sending(paused=False, paused_at=None, version=0)
    return Sending(paused=row["paused_at"] is not None, paused_at=row["paused_at"], version=row["version"])


async def pause_sending(tx: Transaction, actor: Identity, church_id: UUID) -> Sending:
    """Pause everything that the church sends; a paused one stays as it is.

    Raises:
        NotFound: another church was meant.
    """
    _check_own(tx, church_id)
    row = await sending_store.lock(tx)
    if row["paused_at"] is None:
        now = clock.now()
        await sending_store.save(tx, row["version"] + 1, now, None)
        paused = SendingPaused(version=row["version"] + 1, paused_at=now)
        await outbox.add(tx, paused, acted(actor, "sending.paused", "church", church_id))
        metrics.pauses_total.add(1, {"scope": "church", "cause": "person"})
    return await show_sending(tx, church_id)


async def resume_sending(tx: Transaction, actor: Identity, church_id: UUID) -> Sending:
    """Let the church send again. Told each time: it also ends what the carrier's refusals hold.

    Raises:
        NotFound: another church was meant.
    """
    _check_own(tx, church_id)
    row = await sending_store.lock(tx)
    await sending_store.save(tx, row["version"] + 1, None, None)
    resumed = SendingResumed(version=row["version"] + 1)
    await outbox.add(tx, resumed, acted(actor, "sending.resumed", "church", church_id))
    return await show_sending(tx, church_id)


async def stop(tx: Transaction, actor: Identity) -> UUID:
    """Cancel whatever of the church is not finished, and pause its sending; the stop's id.

    A stop holds until the church resumes: called again before, it takes in what was accepted since.
    """
    now = clock.now()
    row = await sending_store.lock(tx)
    stop_id: UUID = row["stop_id"] or new_id()
    cancelled = await stop_store.cancel_all(tx, now, stop_id)
    if row["stop_id"] is not None and not cancelled:
        return stop_id
    completed = await progress.finish(tx, cancelled)
    events = [MessageCancelled(message_id=each, cancelled_at=now) for each in cancelled]
    action = acted(actor, "sending.stopped", "stop", stop_id, messages=str(len(cancelled)))
    await outbox.add(tx, *events, *(event for _, event in completed), action)
    if row["stop_id"] is None:
        version = row["version"] if row["paused_at"] else row["version"] + 1
        await sending_store.save(tx, version, row["paused_at"] or now, stop_id)
        if row["paused_at"] is None:
            await outbox.add(tx, SendingPaused(version=version, paused_at=now))
        metrics.pauses_total.add(1, {"scope": "church", "cause": "stop"})
        log.warning("sending_stopped", stop_id=str(stop_id), messages=len(cancelled))
    return stop_id


async def show_stop(tx: Transaction, stop_id: UUID) -> StopAnswer:
    """What a stop has done, as far as it is confirmed."""
    found = await stop_store.list_figures(tx, stop_id)
    row = await sending_store.find(tx)
    total = stop_rules.together(found)
    return StopAnswer(
        id=stop_id,
        messages=len(found),
        paused_at=row["paused_at"] if row is not None else None,
        sent=total.sent,
        will_not_go=total.will_not_go,
        in_flight=total.in_flight,
        credited_segments=total.credited_segments,
        credited_cents=total.credited_cents,
        final=total.final,
    )


async def confirm(tx: Transaction, received: Envelope[BroadcastStopped]) -> None:
    """Delivery says what a cancelled message had sent when nothing more of it could go."""
    told = received.data
    await stop_store.confirm(tx, told.message_id, sent=told.sent_recipients, in_flight=told.in_flight_recipients)


async def credit(tx: Transaction, received: Envelope[MessageCredited]) -> None:
    """Billing says what a cancelled message gave back."""
    told = received.data
    await stop_store.credit(tx, told.message_id, segments=told.credited_segments, cents=told.credited_cents)


def _check_own(tx: Transaction, church_id: UUID) -> None:
    if church_id != tx.tenant:
        raise NotFound
