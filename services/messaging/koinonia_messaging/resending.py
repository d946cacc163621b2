"""Again to those whom a message did not reach.

Who that is, delivery knows. So the new message is accepted at once, and gathers its audience by asking page by page:

1. The message and the first question are written together.
2. Delivery answers a question with a page of members, by an event.
3. The page is kept, and the next question is written with it; after the last page the message is due as any other.

A crash leaves each step undone or done whole. An answer that comes twice writes the same rows; one that the message no
longer waits for, since it was cancelled, changes nothing.
"""

from uuid import UUID

from koinonia import clock
from koinonia.api.messages import Message
from koinonia.audit import acted
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict
from koinonia.events import Envelope
from koinonia.events.delivery import FailedListed
from koinonia.events.messaging import FailedRequested, MessageAccepted
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_messaging import messages
from koinonia_messaging.domain.audience import Target, Text
from koinonia_messaging.domain.messages import Outline
from koinonia_messaging.store import messages as message_store
from koinonia_messaging.store import projections as projection_store
from koinonia_messaging.store import resending as store
from koinonia_messaging.store.messages import NewMessage


async def resend_failed(tx: Transaction, actor: Identity, message_id: UUID) -> Message:
    """Accept a message's text anew for those whom it did not reach. Billing is asked when they are gathered.

    Raises:
        NotFound: the church has no such message.
        Conflict: it is under way or was cancelled, everybody was reached, or it was sent again already.
        Forbidden: a test key asks, and it is no test.
    """
    await messages.check_kind(tx, actor, message_id)
    source = await messages.fetch(tx, message_id)
    counts = source.counts
    people = counts.failed + counts.undelivered + counts.expired
    if source.status != "completed":  # there is one such: who fails after it was asked for would get none
        raise Conflict(f"This message is {source.status}: whom it does not reach, is not known yet.")
    if people == 0:
        raise Conflict("Nobody's copy has failed.")
    now, rules = clock.now(), await projection_store.find_rules(tx)
    bound = people * source.segments
    message = NewMessage(
        id=new_id(),
        text=Text(source.content, bool(source.media_urls), source.smart_encoding),
        media_urls=source.media_urls,
        target=Target("individual", (), messages.excluded_of(source.exclude)),
        tags=source.tags,
        number_id=source.number_id,
        outline=Outline(source.encoding, source.segments, bound),
        recipients=people,
        created_at=now,
        scheduled_at=None,
        test=source.test,
        requested_by=actor.principal_id,
        undo_until=rules.undo_until(now),
        resend_of=message_id,
        template_id=source.template_id,
        template_version=source.template_version,
    )
    if not await store.is_free(tx, message_id):
        raise Conflict("It was sent again already: ask for those whom that one did not reach.")
    shown = await message_store.insert(tx, message)
    accepted = MessageAccepted(
        message_id=message.id, recipient_count=people, segment_bound=bound, scheduled_at=None, test=source.test
    )
    asked = FailedRequested(message_id=message.id, source_id=message_id)
    act = acted(actor, "message.resent", "message", message.id, source=str(message_id))
    await outbox.add(tx, accepted, asked, act)
    return shown


async def gather(tx: Transaction, received: Envelope[FailedListed]) -> bool:
    """Keep a page of those who are sent to again, and ask for the next; whether that was the last."""
    page = received.data
    if not await store.lock_gathering(tx, page.message_id):
        return False
    await store.add_members(tx, page.message_id, page.member_ids)
    if page.last is None:
        await store.end_gathering(tx, page.message_id)
        return True
    asked = FailedRequested(message_id=page.message_id, source_id=page.source_id, after=page.last)
    await outbox.add(tx, asked)
    return False
