"""Messages as people ask for them: previewed, accepted, cancelled. Nothing is sent here."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import UNSET

from koinonia import clock, sms
from koinonia.api.endpoint import MANAGERS
from koinonia.api.messages import (
    MOST_TEST_RECIPIENTS,
    DraftRequest,
    Exclude,
    LeftOut,
    Message,
    MessagePatch,
    MessagePreview,
    SegmentCount,
    SendRequest,
)
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, FieldError, Forbidden, NotFound, ValidationFailed
from koinonia.events.messaging import MessageAccepted, MessageCancelled, MessageHeld
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import progress
from koinonia_messaging.domain import plans
from koinonia_messaging.domain.audience import Excluded, Target, Text, compose_page
from koinonia_messaging.domain.messages import AudienceEmpty, AudienceFigures, check_length, outline, unknown_fields
from koinonia_messaging.domain.plans import Tariff
from koinonia_messaging.domain.texts import Draft
from koinonia_messaging.domain.weekly import limit_at
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.store import plans as plan_store
from koinonia_messaging.store import templates as template_store
from koinonia_messaging.store import weekly as weekly_store
from koinonia_messaging.store.messages import NewMessage

SAMPLED_NUMBERS = 20
MOST_SAMPLES = 3
_TELLS_TWINS = (
    *("content", "template_id", "media_urls", "smart_encoding"),
    *("target_type", "target_ids", "exclude", "scheduled_at"),
)
TWIN_TIME = timedelta(minutes=1)
"""The same text to the same people so near to each other in time is a mistake, unless somebody says that it is none."""


async def fetch(tx: Transaction, message_id: UUID) -> Message:
    """One message.

    Raises:
        NotFound: the church has no such message.
    """
    message = await message_store.find(tx, message_id)
    if message is None:
        raise NotFound
    return message


async def accept(tx: Transaction, actor: Identity, request: SendRequest) -> Message:
    """Accept a broadcast: one row, one event, nothing sent yet. The number of statements knows no audience.

    Raises:
        AudienceEmpty: nobody in the audience can be texted.
        Conflict: the same text goes to the same people within a minute of this one, and nobody said twice on purpose.
        Forbidden: it is urgent, and a sender asks.
        ValidationFailed: a target, the template or the number not the church's, a text too long, a test's audience too
            large.
    """
    check_urgent(actor, urgent=request.urgent is not None)
    message = await _compose(tx, request, new_id(), actor.principal_id, test=actor.test)
    if not request.allow_duplicate:
        await _check_twins(tx, message)
    accepted = MessageAccepted(
        message_id=message.id,
        recipient_count=message.recipients,
        segment_bound=message.outline.segment_bound,
        scheduled_at=request.scheduled_at,
        test=actor.test,
    )
    shown = await message_store.insert(tx, message)
    act = acted(actor, "message.accepted", "message", message.id, **_figures(message))
    await outbox.add(tx, accepted, *_held(message), act)
    return shown


async def accept_run(tx: Transaction, request: SendRequest, recurring_id: UUID, requested_by: UUID) -> UUID:
    """Accept a run of a recurring message, as ``accept`` does; nobody asks for it, so the audit log has nothing of it.

    Raises:
        ValidationFailed, AudienceEmpty: as of a new one; nothing is written then.
    """
    message = await _compose(tx, request, new_id(), requested_by, test=False, kept=("target_ids", "exclude"))
    message = msgspec.structs.replace(message, recurring_id=recurring_id)
    await message_store.insert(tx, message)
    accepted = MessageAccepted(
        message_id=message.id, recipient_count=message.recipients, segment_bound=message.outline.segment_bound
    )
    await outbox.add(tx, accepted, *_held(message))
    return message.id


async def change(tx: Transaction, actor: Identity, message_id: UUID, patch: MessagePatch) -> Message:
    """Change a message that is still scheduled; one that was approved waits for approval again where that is wished.

    It is locked, and the scheduler passes a locked one by: either sending has started before this, or it starts with
    what this has written.

    Raises:
        NotFound: the church has no such message.
        Conflict: sending has started, it was never to wait, or by the change it says what another one says to the same
            people at that time, and nobody said twice on purpose.
        Forbidden: a test key asks, and it is no test; or it is urgent by then, and a sender asks.
        ValidationFailed, AudienceEmpty: as of a new one.
    """
    await check_kind(tx, actor, message_id)
    before = await message_store.lock_scheduled(tx, message_id)
    if before is None:
        found = await fetch(tx, message_id)
        raise Conflict(f"This message is {found.status}: only one that waits for its time can be changed.")
    request = _patched(before, patch)
    check_urgent(actor, urgent=request.urgent is not None)
    errors = [error for error in request.check() if error.field != "scheduledAt"]  # a kept one may have come just now
    if errors:
        raise ValidationFailed(details=errors)
    keeps_text, keeps_number = request.content == before.content, patch.number_id is UNSET
    keeps_people = patch.target_type is UNSET and patch.target_ids is UNSET
    kept = (["target_ids"] if keeps_people else []) + (["exclude"] if patch.exclude is UNSET else [])
    message = await _compose(
        tx,
        request,
        message_id,
        actor.principal_id,
        test=before.test,
        kept=kept,
        is_written=keeps_text,
        number_is_known=keeps_number,
    )
    if keeps_text:
        message = msgspec.structs.replace(
            message, template_id=before.template_id, template_version=before.template_version
        )
    if not request.allow_duplicate and any(getattr(patch, name) is not UNSET for name in _TELLS_TWINS):
        await _check_twins(tx, message)
    shown = await message_store.change(tx, message)
    await outbox.add(tx, *_held(message), acted(actor, "message.changed", "message", message_id, **_figures(message)))
    return shown


def _patched(message: Message, patch: MessagePatch) -> SendRequest:
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}
    kept = {name: getattr(message, name) for name in SendRequest.__struct_fields__ if name != "allow_duplicate"}
    kept["content" if "template_id" in given else "template_id"] = None
    if given.get("target_type") == "all":
        kept["target_ids"] = []
    return SendRequest(**{**kept, **given})


async def _compose(
    tx: Transaction,
    request: SendRequest,
    message_id: UUID,
    requested_by: UUID,
    *,
    test: bool,
    kept: Collection[str] = (),
    is_written: bool = False,  # the text went through all of this before: it has its line
    number_is_known: bool = False,  # it was looked at before; which one goes in place of a lost one, delivery decides
) -> NewMessage:
    draft = await read_draft(tx, request)
    if is_written:
        draft = msgspec.structs.replace(draft, opt_out_line=None)
    text = draft.write()
    checked = msgspec.structs.replace(request, number_id=None) if number_is_known else request
    target, figures = await _count(tx, checked, text, kept)
    if figures.textable == 0:
        raise AudienceEmpty(details=[FieldError("targetIds", "Nobody in there can be texted")])
    if test and figures.numbers > MOST_TEST_RECIPIENTS:
        raise ValidationFailed.field("targetIds", f"Over {MOST_TEST_RECIPIENTS} recipients, the most of a test key")
    taken = outline(text, figures)
    check_length(taken)
    now, rules = clock.now(), draft.rules
    awaits_approval = rules.wait_for_approval(figures.textable, test=test)
    message = NewMessage(
        id=message_id,
        text=text,
        media_urls=request.media_urls,
        target=target,
        tags=request.tags,
        number_id=request.number_id or rules.number_id,
        outline=taken,
        recipients=figures.numbers,
        created_at=now,
        scheduled_at=request.scheduled_at,
        do_not_send_after=request.do_not_send_after,
        urgent_reason=None if request.urgent is None else request.urgent.reason,
        test=test,
        requested_by=requested_by,
        awaits_approval=awaits_approval,
        undo_until=None if awaits_approval else rules.undo_until(now),
        template_id=request.template_id,
        template_version=draft.template_version,
        audience_digest=figures.digest,
    )
    if message.do_not_send_after is not None and message.do_not_send_after <= message.due_at:
        raise ValidationFailed.field("doNotSendAfter", "Must be after the time at which it could go")
    return message


def _held(message: NewMessage) -> list[MessageHeld]:
    """The event that a message waits for somebody else's word, where it does."""
    if not message.awaits_approval:
        return []
    return [held(message.id, message.requested_by, message.recipients)]


def held(message_id: UUID, requested_by: UUID | None, recipients: int) -> MessageHeld:
    """The event that a message waits for somebody else's word."""
    return MessageHeld(message_id=message_id, requested_by=requested_by, recipient_count=recipients)


def _figures(message: NewMessage) -> dict[str, str]:
    urgent = {} if message.urgent_reason is None else {"urgentReason": message.urgent_reason}
    return {"targetType": message.target.kind, "recipients": str(message.recipients), **urgent}


def check_urgent(actor: Identity, *, urgent: bool) -> None:
    """Let nobody but owners and admins, and keys with their rights, send what passes over quiet hours and the limit.

    Raises:
        Forbidden: a sender asks.
    """
    if urgent and actor.role not in MANAGERS:
        raise Forbidden("Only owners and admins send, change or resume urgent messages.")


async def preview(tx: Transaction, actor: Identity, request: SendRequest, tariff: Tariff) -> MessagePreview:
    """Say what sending would do; an audience in which nobody can be texted is told by its figures.

    Raises:
        Forbidden: it is urgent, and a sender asks.
        ValidationFailed: a target, the template or the number is not the church's, or the text is too long.
    """
    check_urgent(actor, urgent=request.urgent is not None)
    draft = await read_draft(tx, request)
    text = draft.write()
    target, figures = await _count(tx, request, text)
    taken = outline(text, figures)
    check_length(taken)
    now, rules = clock.now(), draft.rules
    due_at = message_store.due_at(request.scheduled_at, now, rules.undo_until(now))
    limit = limit_at(rules.weekly_limit, due_at, urgent=request.urgent is not None, test=actor.test)
    limited = 0 if limit is None else await weekly_store.count_limited(tx, target, limit)
    shapes = await plan_store.list_shapes(tx, target, text, limit)
    if shapes is None:  # too many to render each: all count as the longest
        counts = [SegmentCount(segments=taken.segments, recipients=figures.textable - limited)]
    else:  # thousands of long texts take a while: not on the loop that answers everybody
        counts = await asyncio.to_thread(
            plans.segment_counts, text, [(each.fields, each.recipients) for each in shapes]
        )
    segments = sum(each.segments * each.recipients for each in counts)
    kind = await plan_store.find_number_kind(tx, request.number_id or draft.rules.number_id)
    first = await plan_store.count_first(tx, target)
    twin = await message_store.find_twin(
        tx, None, text, request.media_urls, digest=figures.digest, due_at=due_at, within=TWIN_TIME, test=actor.test
    )
    hours = None if request.urgent is not None or actor.test else rules.quiet_hours
    waits_until = None if hours is None else hours.end_for(due_at)
    finishes_at = plans.finishes_at(due_at, segments, None if kind is None else tariff.rates[kind], hours)
    latest = request.do_not_send_after
    is_too_late = latest is not None and latest <= (finishes_at or waits_until or due_at)
    unknown = unknown_fields(text.content, figures)
    samples = await _samples(tx, target, text)
    return MessagePreview(
        recipients=figures.numbers,
        suppressed=figures.numbers - figures.textable + limited,
        encoding=taken.encoding,
        segments=taken.segments,
        total_segments=taken.segment_bound,
        estimated_cost_cents=round(segments * tariff.segment_price_cents),
        unknown_fields=unknown,
        sample=samples[0],
        replaced=draft.replaced(),
        opt_out_line_added=draft.has_line_added,
        left_out=LeftOut(
            no_consent=figures.numbers - figures.textable - figures.suppressed,
            suppressed=figures.suppressed,
            weekly_limit=limited,
        ),
        segment_counts=counts,
        finishes_at=finishes_at,
        samples=samples,
        first_texts=first,
        warnings=plans.warnings(
            draft, text, first, unknown, twin, is_too_late=is_too_late, waits_until=waits_until, limited=limited
        ),
        waits_until=waits_until,
    )


async def cancel(tx: Transaction, actor: Identity, message_id: UUID, *, action: str = "message.cancelled") -> Message:
    """Cancel a message: no page of it commits any more, and delivery closes what is not yet with the carrier.

    A cancelled one stays as it is. The audit log tells of it as ``action``.

    Raises:
        NotFound: the church has no such message.
        Conflict: nothing is left to cancel.
        Forbidden: a test key asks, and it is no test.
    """
    await check_kind(tx, actor, message_id)
    now = clock.now()
    test = await message_store.cancel(tx, message_id, now)
    if test is None:
        message = await fetch(tx, message_id)
        if message.status == "cancelled":
            return message
        raise Conflict("Nothing of this message is left to cancel.")
    completed = await progress.finish(tx, [message_id])
    cancelled = MessageCancelled(message_id=message_id, cancelled_at=now, test=test)
    act = acted(actor, action, "message", message_id)
    await outbox.add(tx, cancelled, *(event for _, event in completed), act)
    return await fetch(tx, message_id)


async def check_kind(tx: Transaction, actor: Identity, message_id: UUID) -> None:
    """Let a test key act on tests alone.

    Raises:
        NotFound: the church has no such message.
        Forbidden: a test key asks, and it is no test.
    """
    if actor.test and not (await fetch(tx, message_id)).test:
        raise Forbidden("A test key changes nothing but tests.")


def target_of(request: SendRequest) -> Target:
    """Whom a request is for."""
    return Target(request.target_type, tuple(request.target_ids), excluded_of(request.exclude))


def excluded_of(exclude: Exclude) -> Excluded:
    """Who gets no text, though a request names them."""
    return Excluded(tuple(exclude.member_ids), tuple(exclude.group_ids), tuple(exclude.branch_ids))


async def read_draft(tx: Transaction, request: SendRequest | DraftRequest) -> Draft:
    """What was asked to be sent, before it is written for the carrier.

    Raises:
        ValidationFailed: there is no such template.
    """
    source = await template_store.find_source(tx, request.template_id)
    content = request.content if request.template_id is None else source.content
    if content is None:
        raise ValidationFailed.field("templateId", "No such template")
    return Draft(
        content=content,
        template_version=source.version,
        has_media=bool(request.media_urls),
        smart=request.smart_encoding,
        church_name=source.church_name,
        opt_out_line=source.opt_out_line,
        rules=source.rules,
    )


async def _check_twins(tx: Transaction, message: NewMessage) -> None:
    await check_new(
        tx,
        message.id,
        message.text,
        message.media_urls,
        digest=message.audience_digest,
        due_at=message.due_at,
        test=message.test,
    )


async def check_new(
    tx: Transaction,
    message_id: UUID,
    text: Text,
    media_urls: list[str],
    *,
    digest: int,
    due_at: datetime,
    test: bool,
) -> None:
    """See that no other message says the same to the same people at nearly the same time.

    Raises:
        Conflict: one does.
    """
    await message_store.lock_text(tx, digest)
    twin = await message_store.find_twin(
        tx, message_id, text, media_urls, digest=digest, due_at=due_at, within=TWIN_TIME, test=test
    )
    if twin is not None:
        told = f"Message {twin} says the same to the same people within a minute of this one."
        raise Conflict(told, details=[FieldError("allowDuplicate", f"Must be true to send what {twin} sends again")])


async def _count(
    tx: Transaction, request: SendRequest, text: Text, kept: Collection[str] = ()
) -> tuple[Target, AudienceFigures]:
    target = await check_target(tx, request, kept)
    return target, await audience_store.count(tx, target, text)


async def check_target(tx: Transaction, request: SendRequest, kept: Collection[str] = ()) -> Target:
    """Whom a request is for.

    ``kept``: what was checked when it was given, of ``target_ids`` and ``exclude``. Who has gone since matches nobody.

    Raises:
        ValidationFailed: a target or the number is not the church's.
    """
    target = target_of(request)
    is_known, can_send = await audience_store.check(tx, target, request.number_id)
    errors = [] if is_known or "target_ids" in kept else [FieldError("targetIds", "One of them is not there")]
    unknown = [] if "exclude" in kept else await audience_store.check_excluded(tx, target.excluded)
    errors += [FieldError(f"exclude.{name}", "One of them is not there") for name in unknown]
    errors += [] if can_send else [FieldError("numberId", "No such number, or it cannot send now")]
    if errors:
        raise ValidationFailed(details=errors)
    return target


async def _samples(tx: Transaction, target: Target, text: Text) -> list[str]:
    """The text as up to three in the audience would get it, differently if it can be; at least one."""
    members = await audience_store.list_page(tx, target, b"", SAMPLED_NUMBERS)
    recipients = compose_page(members, text, UUID(int=0), clock.now())
    chosen = [each for each in recipients if each.left_out is None] or recipients[:1]
    texts = dict.fromkeys(sms.render(text.content, each.fields) for each in chosen)
    return list(texts)[:MOST_SAMPLES] or [sms.render(text.content, {})]
