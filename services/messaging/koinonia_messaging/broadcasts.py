"""A message's way from its time to delivery: asked for, authorized or declined, streamed page by page."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from koinonia import clock
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope, Event
from koinonia.events.billing import MessageAuthorized, MessageDeclined
from koinonia.events.messaging import MessageDispatched, MessageDue, RecipientsResolved, RecipientsResolvedForTest
from koinonia_messaging import approvals, progress
from koinonia_messaging.domain.audience import AudienceMember, Page, compose_page, page_of
from koinonia_messaging.domain.figures import church_day
from koinonia_messaging.domain.messages import AudienceFigures, outline
from koinonia_messaging.domain.weekly import limit_at
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import broadcasts as broadcast_store
from koinonia_messaging.store import plans as plan_store
from koinonia_messaging.store import projections as projection_store
from koinonia_messaging.store import weekly as weekly_store
from koinonia_messaging.store.broadcasts import Broadcast

log = structlog.get_logger()


async def ask_when_due(tx: Transaction, message_id: UUID) -> bool:
    """Count a due message's audience again, and ask billing; False when another replica does or did.

    One that has come to need approval waits for that first.
    """
    broadcast = await broadcast_store.lock_due(tx, message_id, clock.now())
    if broadcast is None:
        return False
    figures = await audience_store.count(tx, broadcast.target, broadcast.text)
    if not await approvals.hold(tx, broadcast, figures):
        await _ask(tx, broadcast, figures, at_least=0)
    return True


async def authorize(tx: Transaction, received: Envelope[MessageAuthorized]) -> bool:
    """Let a message be streamed; False when this answers not its last question: it was cancelled, or asked anew."""
    answer, now = received.data, clock.now()
    day = church_day(now, await projection_store.find_timezone(tx))
    return await broadcast_store.authorize(tx, answer.message_id, answer.version, answer.segment_bound, at=now, day=day)


async def decline(tx: Transaction, received: Envelope[MessageDeclined]) -> None:
    """Stop a message that the plan does not cover: all of it, or what a surplus would have added."""
    answer = received.data
    row = await broadcast_store.decline(tx, answer.message_id, answer.version, answer.reason)
    if row is None or row["status"] == "declined":
        return
    completed = await progress.finish(tx, [answer.message_id])
    dispatched = MessageDispatched(
        message_id=answer.message_id,
        dispatched_at=row["dispatched_at"],
        recipient_count=row["streamed_recipients"],
        test=row["test"],
    )
    await outbox.add(tx, dispatched, *(event for _, event in completed))


async def stream_page(tx: Transaction, message_id: UUID, page_numbers: int = audience_store.PAGE_NUMBERS) -> bool:
    """Publish the next page of a message's audience; False when there was nothing to do or somebody was faster.

    1. The page is read after the cursor.
    2. The cursor moves, if it still stands where it stood and the message is still being sent: else nothing is written.
    3. The chunk goes into the outbox, in the transaction of the cursor. A crash before the commit leaves all of it to
       be done again, with the same recipient ids.

    A page that would pass what was authorized is not published: billing is asked for more, and streaming rests.
    """
    broadcast = await broadcast_store.find_streaming(tx, message_id)
    if broadcast is None or broadcast.dispatched_at is None:
        return False
    if broadcast.weekly_limit is not None:
        await weekly_store.lock(tx)
    members = await audience_store.list_page(tx, broadcast.target, broadcast.cursor, page_numbers)
    limited = await _limited(tx, broadcast, members)
    recipients = compose_page(members, broadcast.text, broadcast.id, broadcast.dispatched_at, limited)
    page = page_of(recipients, broadcast.text, broadcast.cursor)
    needed = broadcast.streamed_bound + page.segments
    if needed > broadcast.authorized_bound:
        figures = await audience_store.count(tx, broadcast.target, broadcast.text)
        return await _ask(tx, broadcast, figures, at_least=needed)
    is_last = len(page.recipients) < page_numbers
    if not await broadcast_store.advance(tx, broadcast, page, is_last=is_last):
        log.info("page_overtaken", message_id=str(message_id))
        return False
    texted = [each.phone_index for each in page.recipients if each.gets_text]
    if not broadcast.test:
        await plan_store.note_texted(tx, texted)
    if broadcast.weekly_limit is not None:
        await weekly_store.note(tx, texted, broadcast.id, clock.now(), broadcast.resend_of)
    await outbox.add(tx, *await _events(tx, broadcast, page, is_last=is_last))
    return True


async def _limited(tx: Transaction, broadcast: Broadcast, members: Sequence[AudienceMember]) -> frozenset[bytes]:
    """Whose numbers have had as many texts this week as the church allows."""
    limit = limit_at(broadcast.weekly_limit, clock.now(), urgent=broadcast.urgent, test=broadcast.test)
    if limit is None:
        return frozenset()
    numbers = list({member.phone_index for member in members})
    return await weekly_store.list_limited(tx, numbers, limit, broadcast.resend_of)


async def _ask(tx: Transaction, broadcast: Broadcast, figures: AudienceFigures, *, at_least: int) -> bool:
    taken = outline(broadcast.text, figures)
    bound = max(taken.segment_bound, at_least)
    recipients = max(figures.numbers, broadcast.streamed_recipients)
    if not await broadcast_store.ask(tx, broadcast, segment_bound=bound, recipients=recipients):
        return False
    await outbox.add(
        tx,
        MessageDue(
            message_id=broadcast.id,
            version=broadcast.version + 1,
            recipient_count=recipients,
            segment_bound=bound,
            test=broadcast.test,
        ),
    )
    return True


async def _events(tx: Transaction, broadcast: Broadcast, page: Page, *, is_last: bool) -> list[Event]:
    assert broadcast.dispatched_at is not None  # noqa: S101 - stream_page has looked
    events: list[Event] = []
    if page.recipients:
        resolved = RecipientsResolvedForTest if broadcast.test else RecipientsResolved
        events.append(
            resolved(
                message_id=broadcast.id,
                dispatched_at=broadcast.dispatched_at,
                content=broadcast.text.content,
                media_urls=tuple(broadcast.media_urls),
                recipients=page.recipients,
                number_id=broadcast.number_id,
                do_not_send_after=broadcast.do_not_send_after,
                urgent=broadcast.urgent,
            )
        )
    if is_last:
        total = broadcast.streamed_recipients + len(page.recipients)
        events.append(
            MessageDispatched(
                message_id=broadcast.id,
                dispatched_at=broadcast.dispatched_at,
                recipient_count=total,
                test=broadcast.test,
            )
        )
        events += [event for _, event in await progress.finish(tx, [broadcast.id])]
    return events
