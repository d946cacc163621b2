"""Messages as people ask for them: previewed, accepted, cancelled. Nothing is sent here."""

from uuid import UUID

from koinonia import clock, sms
from koinonia.api.messages import MOST_TEST_RECIPIENTS, Message, MessagePreview, SendRequest
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, FieldError, Forbidden, NotFound, ValidationFailed
from koinonia.events.messaging import MessageAccepted, MessageCancelled
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import progress
from koinonia_messaging.domain.audience import Target, compose_page
from koinonia_messaging.domain.messages import AudienceEmpty, AudienceFigures, check_length, outline, unknown_fields
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.store.messages import NewMessage

SAMPLED_NUMBERS = 20


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
        ValidationFailed: a target or the number not the church's, a text too long, a test's audience too large.
    """
    target, figures = await _count(tx, request)
    if figures.textable == 0:
        raise AudienceEmpty(details=[FieldError("targetIds", "Nobody in there can be texted")])
    if actor.test and figures.numbers > MOST_TEST_RECIPIENTS:
        raise ValidationFailed.field("targetIds", f"Over {MOST_TEST_RECIPIENTS} recipients, the most of a test key")
    taken = outline(request.content, bool(request.media_urls), figures)
    check_length(taken)
    message = NewMessage(
        id=new_id(),
        content=request.content,
        media_urls=request.media_urls,
        target=target,
        tags=request.tags,
        number_id=request.number_id,
        outline=taken,
        recipients=figures.numbers,
        created_at=clock.now(),
        scheduled_at=request.scheduled_at,
        test=actor.test,
    )
    accepted = MessageAccepted(
        message_id=message.id,
        recipient_count=figures.numbers,
        segment_bound=taken.segment_bound,
        scheduled_at=request.scheduled_at,
        test=actor.test,
    )
    details = {"targetType": target.kind, "recipients": str(figures.numbers)}
    shown = await message_store.insert(tx, message)
    await outbox.add(tx, accepted, acted(actor, "message.accepted", "message", message.id, **details))
    return shown


async def preview(tx: Transaction, request: SendRequest, segment_price_cents: float) -> MessagePreview:
    """Say what sending would do; an audience in which nobody can be texted is told by its figures.

    Raises:
        ValidationFailed: a target or the number is not the church's, or the text is too long.
    """
    target, figures = await _count(tx, request)
    taken = outline(request.content, bool(request.media_urls), figures)
    check_length(taken)
    return MessagePreview(
        recipients=figures.numbers,
        suppressed=figures.numbers - figures.textable,
        encoding=taken.encoding,
        segments=taken.segments,
        total_segments=taken.segment_bound,
        estimated_cost_cents=round(taken.segment_bound * segment_price_cents),
        unknown_fields=unknown_fields(request.content, figures),
        sample=await _sample(tx, target, request.content),
    )


async def cancel(tx: Transaction, actor: Identity, message_id: UUID) -> Message:
    """Cancel a message: no page of it commits any more, and delivery closes what is not yet with the carrier.

    A cancelled one stays as it is.

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
    action = acted(actor, "message.cancelled", "message", message_id)
    await outbox.add(tx, cancelled, *(event for _, event in completed), action)
    return await fetch(tx, message_id)


async def check_kind(tx: Transaction, actor: Identity, message_id: UUID) -> None:
    """Let a test key act on tests alone.

    Raises:
        NotFound: the church has no such message.
        Forbidden: a test key asks, and it is no test.
    """
    if actor.test and not (await fetch(tx, message_id)).test:
        raise Forbidden("A test key changes nothing but tests.")


async def _count(tx: Transaction, request: SendRequest) -> tuple[Target, AudienceFigures]:
    target = Target(request.target_type, tuple(request.target_ids))
    is_known, can_send = await audience_store.check(tx, target, request.number_id)
    errors = [] if is_known else [FieldError("targetIds", "One of them is not there")]
    errors += [] if can_send else [FieldError("numberId", "No such number, or it cannot send now")]
    if errors:
        raise ValidationFailed(details=errors)
    return target, await audience_store.count(tx, target, request.content)


async def _sample(tx: Transaction, target: Target, content: str) -> str:
    """The text as somebody in the audience would get it."""
    members = await audience_store.list_page(tx, target, b"", SAMPLED_NUMBERS)
    recipients = compose_page(members, content, UUID(int=0), clock.now())
    chosen = next((each for each in recipients if each.left_out is None), recipients[0] if recipients else None)
    return sms.render(content, chosen.fields if chosen else {})
