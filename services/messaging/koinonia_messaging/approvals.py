"""Approvals: a message to many people waits for a second admin's word; and a declined one is sent again.

Who may not decide alone, may not by waiting either: a message is counted when it is asked for and once more when it
becomes due, since groups grow and schedules are long.
"""

from datetime import timedelta
from uuid import UUID

from koinonia import clock
from koinonia.api.messages import Message
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, Forbidden, NotFound
from koinonia.security import Identity
from koinonia_messaging import messages
from koinonia_messaging.domain.messages import AudienceFigures, outline
from koinonia_messaging.store import approvals as store
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.store import projections as projection_store
from koinonia_messaging.store.approvals import Turn, Waiting
from koinonia_messaging.store.broadcasts import Broadcast

RUN_WAITS = timedelta(days=1)
"""For so long a run of a recurring message is approved without saying ``at_once``."""


async def hold(tx: Transaction, broadcast: Broadcast, figures: AudienceFigures) -> bool:
    """Keep a due message back until it is approved, for about so many people; False: it needs no approval, or has it.

    ``broadcast`` is locked, and of what was counted nothing is reserved yet.
    """
    rules = await projection_store.find_rules(tx)
    if not rules.wait_for_approval(figures.textable, test=broadcast.test, approved=broadcast.approved_people):
        return False
    requested_by = await store.hold(tx, broadcast.id, figures.numbers)
    await outbox.add(tx, messages.held(broadcast.id, requested_by, figures.numbers))
    return True


async def approve(tx: Transaction, actor: Identity, message_id: UUID, *, at_once: bool) -> Message:
    """Let a message be sent; one that is approved stays as it is.

    Raises:
        NotFound: the church has no such message.
        Forbidden: who asked for it would approve it.
        Conflict: it does not wait for approval, nobody in its audience can be texted by now, it would be too late to
            send it, or its time has passed and ``at_once`` was not said.
    """
    waiting = await _lock(tx, message_id)
    if waiting.status != "awaiting_approval":
        if waiting.is_approved:
            return await messages.fetch(tx, message_id)
        raise Conflict(f"This message is {waiting.status}: it does not wait for approval.")
    if waiting.requested_by == actor.principal_id:
        raise Forbidden("Who asked for a message does not approve it: somebody else must.")
    # A run of a recurring message is due when it is made: it is stale when the next one may be near.
    time = waiting.created_at + RUN_WAITS if waiting.is_run else waiting.scheduled_at
    if time is not None and time <= clock.now() and not at_once:
        raise Conflict("Its time has passed while it waited: say `atOnce`, or reject it.")
    turn = await _turn(tx, waiting)
    await store.approve(tx, message_id, actor.principal_id, turn)
    await outbox.add(tx, acted(actor, "message.approved", "message", message_id, recipients=str(turn.recipients)))
    return await messages.fetch(tx, message_id)


async def reject(tx: Transaction, actor: Identity, message_id: UUID, reason: str) -> Message:
    """Cancel a message that waits for approval, and say why; a rejected one stays as it is.

    Raises:
        NotFound: the church has no such message.
        Conflict: it does not wait for approval.
    """
    waiting = await _lock(tx, message_id)
    if waiting.is_rejected:
        return await messages.fetch(tx, message_id)
    if waiting.status != "awaiting_approval":
        raise Conflict(f"This message is {waiting.status}: it does not wait for approval.")
    await messages.cancel(tx, actor, message_id, action="message.rejected")
    await store.reject(tx, message_id, reason)
    return await messages.fetch(tx, message_id)


async def send_again(tx: Transaction, actor: Identity, message_id: UUID) -> Message:
    """Ask the plan once more for a message that it has declined whole.

    Raises:
        NotFound: the church has no such message.
        Conflict: it was not declined, a group that it excludes is deleted, nobody in its audience can be texted by now,
            it would be too late to send it, or another message says the same to the same people at this time.
        Forbidden: it is urgent, and a sender asks.
    """
    declined = await _lock(tx, message_id)
    if declined.status != "declined":
        raise Conflict(f"This message is {declined.status}: only a declined one is sent again.")
    messages.check_urgent(actor, urgent=declined.is_urgent)
    gone = set(await audience_store.check_excluded(tx, declined.target.excluded)) - {"memberIds"}
    if gone:
        raise Conflict("A group or branch that it excludes is not there any more: send it as a new message.")
    turn = await _turn(tx, declined)
    await messages.check_new(
        tx,
        message_id,
        declined.text,
        declined.media_urls,
        digest=turn.digest,
        due_at=message_store.due_at(None, turn.at, turn.undo_until),
        test=declined.test,
    )
    await store.send_again(tx, message_id, turn)
    await outbox.add(tx, acted(actor, "message.sent_again", "message", message_id))
    return await messages.fetch(tx, message_id)


async def _lock(tx: Transaction, message_id: UUID) -> Waiting:
    found = await store.lock(tx, message_id)
    if found is None:
        raise NotFound
    return found


async def _turn(tx: Transaction, waiting: Waiting) -> Turn:
    figures = await audience_store.count(tx, waiting.target, waiting.text)
    if figures.textable == 0:
        raise Conflict("Nobody in its audience can be texted by now.")
    now, rules = clock.now(), await projection_store.find_rules(tx)
    undo_until = rules.undo_until(now)
    latest = waiting.do_not_send_after
    if latest is not None and latest <= message_store.due_at(waiting.scheduled_at, now, undo_until):
        raise Conflict("It is too late: it was not to be sent after a time that comes before it could go.")
    return Turn(
        at=now,
        undo_until=undo_until,
        recipients=figures.numbers,
        people=figures.textable,
        digest=figures.digest,
        segment_bound=outline(waiting.text, figures).segment_bound,
    )
