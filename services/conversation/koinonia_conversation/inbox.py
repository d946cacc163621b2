"""The inbox: texts come in and are threaded, replies go out, and their fate is shown.

A keyword that the law answers (STOP, START, HELP) is shown in its conversation, but is no work for anybody: it is not
unread and opens nothing.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from koinonia import clock
from koinonia.audit import acted
from koinonia.bus import Unreadable, outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, NotFound, ValidationFailed
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.common import RecipientStatus
from koinonia.events.conversation import ReplyRequested, ReplyRequestedForTest
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.messaging import MembersChanged
from koinonia.ids import derived_id, new_id
from koinonia.security import CiphertextInvalid, Keys
from koinonia.security.identity import Identity
from koinonia.sms import MOST_SEGMENTS, segments
from koinonia.sms.keywords import judge
from koinonia_conversation.domain.reply_status import RANKS, furthest
from koinonia_conversation.store import contacts, conversations, messages


async def receive(tx: Transaction, received: Envelope[MessageReceived], keys: Keys) -> None:
    """Put an inbound text into its conversation, once; three statements.

    Raises:
        Unreadable: its sender does not open for this church, so that nobody could be shown the conversation.
    """
    text = received.data
    try:
        keys.decrypt(text.phone_ciphertext, tx.tenant, "phone")
    except CiphertextInvalid as error:
        raise Unreadable("the sender does not open for this church") from error
    message_id = derived_id(text.occurred_at, received.id.bytes)
    needs_somebody = judge(text.text) is None
    conversation_id = await conversations.ensure(
        tx,
        new_id(),
        number_id=text.number_id,
        phone_index=text.phone_index,
        phone_ciphertext=text.phone_ciphertext,
        status="open" if needs_somebody else "closed",
        at=text.occurred_at,
    )
    if not await messages.insert_inbound(
        tx, message_id, conversation_id, content=text.text, media_urls=text.media_urls, at=text.occurred_at
    ):
        return
    await conversations.note_message(
        tx, conversation_id, message_id, text.occurred_at, unread=int(needs_somebody), opens=needs_somebody
    )


async def reply(tx: Transaction, conversation_id: UUID, content: str, actor: Identity) -> UUID:
    """Store a reply and ask delivery to send it; answers its id. Four statements.

    A test leaves the conversation itself as it is: nothing was said to anybody.

    Raises:
        NotFound: no such conversation.
        Conflict: the church's number is gone.
        ValidationFailed: the text is longer than the carrier takes.
    """
    if segments(content).segments > MOST_SEGMENTS:
        raise ValidationFailed.field("content", f"is longer than {MOST_SEGMENTS} segments")
    conversation = await conversations.find(tx, conversation_id)
    if conversation is None:
        raise NotFound
    if conversation["number_status"] == "released":
        raise Conflict("the church no longer has the number that this person wrote to")
    reply_id, now = new_id(), clock.now()
    await messages.insert_outbound(
        tx, reply_id, conversation_id, content=content, sent_by=actor.principal_id, at=now, test=actor.test
    )
    if not actor.test:
        await conversations.note_message(tx, conversation_id, reply_id, now, unread=0, opens=True)
    requested = ReplyRequestedForTest if actor.test else ReplyRequested
    wanted = requested(
        conversation_id=conversation_id,
        reply_id=reply_id,
        number_id=conversation["number_id"],
        member_id=conversation["member_id"],
        phone_index=conversation["phone_index"],
        phone_ciphertext=conversation["phone_ciphertext"],
        content=content,
        media_urls=(),
        requested_at=now,
    )
    await outbox.add(tx, wanted, acted(actor, "conversation.replied", "conversation", conversation_id))
    return reply_id


async def follow_replies(tx: Transaction, received: Sequence[Envelope[RecipientsUpdated]]) -> None:
    """Show how replies fare; one statement for a batch. Other texts than replies are not the inbox's."""
    changes: defaultdict[UUID, list[Mapping[RecipientStatus, int]]] = defaultdict(list)
    for event in received:
        if event.data.kind == "reply":
            changes[event.data.source_id].append(event.data.changes)
    found = {reply_id: furthest(each) for reply_id, each in sorted(changes.items())}
    reached = {reply_id: status for reply_id, status in found.items() if status is not None}
    if reached:
        await messages.advance(
            tx, list(reached), list(reached.values()), [RANKS[status] for status in reached.values()]
        )


async def follow_members(tx: Transaction, received: Envelope[MembersChanged]) -> None:
    """Know who the other side is."""
    await contacts.upsert(tx, received.data.members)


async def follow_number(tx: Transaction, received: Envelope[NumberChanged]) -> None:
    """Know which numbers the church has."""
    number = received.data
    await contacts.upsert_number(tx, number.number_id, number.version, number.status)
