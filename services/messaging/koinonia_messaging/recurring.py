"""Recurring messages: made, changed, and run slot by slot. A run is a message like any other, due at once.

A run's slot, its message and what comes next are one transaction under the row's lock. So a crash leaves nothing or
all of it, a second scheduler passes the locked row by, and a slot that has run stays so whatever the clock says: its
row's key is (recurring message, slot).
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET

from koinonia import clock
from koinonia.api.messages import SendRequest
from koinonia.api.recurring import RecurringMessage, RecurringPatch, RecurringRequest, ScheduleRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import FieldError, NotFound, ValidationFailed
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import messages
from koinonia_messaging.domain.recurrence import BadRule, wall_time
from koinonia_messaging.domain.recurring import Schedule, take_turn
from koinonia_messaging.store import recurring as store
from koinonia_messaging.store import sending as sending_store
from koinonia_messaging.store.recurring import Recurring

_MISSED = "It was missed."
_RESTS = "The church's sending was paused."


async def fetch(tx: Transaction, recurring_id: UUID) -> RecurringMessage:
    """One recurring message.

    Raises:
        NotFound: the church has no such one.
    """
    found = await store.find(tx, recurring_id)
    if found is None:
        raise NotFound
    return found


async def create(tx: Transaction, actor: Identity, request: RecurringRequest) -> RecurringMessage:
    """Make a recurring message; who is in its audience is asked at each run.

    Raises:
        ValidationFailed: a target or the number is not the church's, or the rule is none or never comes.
    """
    await _check(tx, request.send_request())
    now = clock.now()
    schedule = _schedule(request.schedule)
    recurring = Recurring(
        id=new_id(),
        requested_by=actor.principal_id,
        request=request.send_request(),
        schedule=schedule,
        missed_runs=request.missed_runs,
        paused_at=now if request.paused else None,
        upcoming=_upcoming(schedule, now),
        created_at=now,
        updated_at=now,
    )
    await store.insert(tx, recurring)
    await outbox.add(tx, acted(actor, "recurring_message.created", "recurring_message", recurring.id))
    return await fetch(tx, recurring.id)


async def change(tx: Transaction, actor: Identity, recurring_id: UUID, patch: RecurringPatch) -> RecurringMessage:
    """Change, pause or resume one; its slots are decided anew where its schedule is new, or it goes on.

    Raises:
        NotFound: the church has no such one.
        ValidationFailed: as of a new one.
    """
    kept = await store.lock(tx, recurring_id)
    if kept is None:
        raise NotFound
    now = clock.now()
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}
    if given.get("target_type") == "all":
        given.setdefault("target_ids", [])
    if {"content", "template_id"} & given.keys():
        given = {"content": None, "template_id": None, **given}
    ours = {name: value for name, value in given.items() if name in kept.request.__struct_fields__}
    request = msgspec.structs.replace(kept.request, **ours)
    errors = list(request.check())
    if errors:
        raise ValidationFailed(details=errors)
    kept_fields = {"target_ids", "exclude"} - given.keys()
    if "target_type" in given:
        kept_fields.discard("target_ids")
    if ours:
        await _check(tx, request, kept_fields)
    is_another = msgspec.structs.replace(request, tags=kept.request.tags) != kept.request
    schedule = kept.schedule if patch.schedule is UNSET else _schedule(patch.schedule)
    paused_at = kept.paused_at
    if patch.paused is not UNSET:
        paused_at = (kept.paused_at or now) if patch.paused else None
    upcoming = kept.upcoming
    if patch.schedule is not UNSET:
        upcoming = _upcoming(schedule, now)
    elif kept.paused_at is not None and paused_at is None:
        upcoming = tuple(schedule.upcoming(now))
    changed = msgspec.structs.replace(
        kept,
        requested_by=actor.principal_id if is_another else kept.requested_by,
        request=request,
        schedule=schedule,
        missed_runs=kept.missed_runs if patch.missed_runs is UNSET else patch.missed_runs,
        paused_at=paused_at,
        upcoming=upcoming,
        updated_at=now,
    )
    await store.update(tx, changed)
    await outbox.add(tx, acted(actor, "recurring_message.changed", "recurring_message", recurring_id))
    return await fetch(tx, recurring_id)


async def delete(tx: Transaction, actor: Identity, recurring_id: UUID) -> None:
    """Delete one; the messages that it made stay.

    Raises:
        NotFound: the church has no such one.
    """
    if not await store.delete(tx, recurring_id):
        raise NotFound
    await outbox.add(tx, acted(actor, "recurring_message.deleted", "recurring_message", recurring_id))


async def run(tx: Transaction, recurring_id: UUID) -> bool:
    """Take one's turn: a message for the slot that has come, if any, and the next slots; False: it is not its turn."""
    now = clock.now()
    recurring = await store.lock_due(tx, recurring_id, now)
    if recurring is None:
        return False
    turn = take_turn(recurring.schedule, recurring.upcoming[0], now, recurring.missed_runs)
    if turn.passed:
        await store.pass_over(tx, recurring_id, turn.passed, _MISSED, now)
    if turn.run is not None and await store.claim_slot(tx, recurring_id, turn.run, now):
        await _send(tx, recurring, turn.run)
    next_run_at = recurring.schedule.at(turn.upcoming[0]) if turn.upcoming else None
    await store.turn(tx, recurring_id, turn.upcoming, next_run_at, now)
    return True


async def _send(tx: Transaction, recurring: Recurring, slot: datetime) -> None:
    sending = await sending_store.find(tx)
    if sending is not None and sending["paused_at"] is not None:
        # Else all that was to be sent meanwhile would go at once when the church resumes.
        await store.settle_slot(tx, recurring.id, slot, outcome="skipped", reason=_RESTS)
        return
    try:
        message_id = await messages.accept_run(tx, recurring.request, recurring.id, recurring.requested_by)
    except ValidationFailed as refused:
        reason = "; ".join(detail.message for detail in refused.details)
        await store.settle_slot(tx, recurring.id, slot, outcome="failed", reason=reason)
    else:
        await store.settle_slot(tx, recurring.id, slot, outcome="sent", message_id=message_id)


async def _check(tx: Transaction, request: SendRequest, kept: Collection[str] = ()) -> None:
    await messages.check_target(tx, request, kept)
    await messages.read_draft(tx, request)


def _schedule(request: ScheduleRequest) -> Schedule:
    schedule = Schedule(rrule=request.rrule, timezone=request.timezone, start_at=request.start_at)
    start_at = wall_time(request.start_at, schedule.zone).replace(microsecond=0)
    return msgspec.structs.replace(schedule, start_at=start_at)


def _upcoming(schedule: Schedule, now: datetime) -> tuple[datetime, ...]:
    try:
        upcoming = schedule.upcoming(now)
    except BadRule as error:
        raise ValidationFailed.field("schedule.rrule", str(error)) from error
    if not upcoming:
        raise ValidationFailed(details=[FieldError("schedule.rrule", "It never comes from now on")])
    return tuple(upcoming)
