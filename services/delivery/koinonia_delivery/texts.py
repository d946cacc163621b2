"""Texts to one person that somebody waits for: replies out of conversations, what the law wants to be said, and what an
admin gets on a phone of their own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from koinonia import telemetry
from koinonia.bus import FactMissing
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.compliance import ComplianceReplyRequested
from koinonia.events.conversation import ReplyRequested
from koinonia.events.delivery import TextRequested
from koinonia.ids import derived_id
from koinonia_delivery.announcing import announce
from koinonia_delivery.chunks import number_fact
from koinonia_delivery.domain.priorities import PERSON
from koinonia_delivery.domain.states import Kind
from koinonia_delivery.domain.texts import LEFT_OUT_SENTENCES, Rendered, render_text, whole_text
from koinonia_delivery.store import broadcasts, recipients, suppressions
from koinonia_delivery.store.recipients import NewRecipient, Source


async def reply(tx: Transaction, received: Envelope[ReplyRequested]) -> None:
    """Send an admin's reply, or simulate a test's. To a person who has opted out it is not sent, and says so.

    Raises:
        FactMissing: the church has no number yet.
    """
    wanted = received.data
    await _store(
        tx,
        received,
        source_id=wanted.reply_id,
        kind="reply",
        number_id=wanted.number_id,
        media_urls=wanted.media_urls,
        rendered=render_text(wanted.content, {}, wanted.media_urls),
        due_at=wanted.requested_at,
        member_ids=[wanted.member_id] if wanted.member_id is not None else [],
        phone=(wanted.phone_index, wanted.phone_ciphertext),
        passes_suppression=False,
        test=wanted.test,
    )


async def answer(tx: Transaction, received: Envelope[ComplianceReplyRequested]) -> None:
    """Send compliance's own text. The confirmation of an opt-out alone passes the suppression that it confirms.

    Raises:
        FactMissing: the church has no number yet; or this welcomes back a person of whom we know the opt-out, but not
            yet compliance's answer to the text that ended it.
    """
    wanted = received.data
    if wanted.purpose == "start" and not await suppressions.is_answered(
        tx, wanted.inbound_event_id, wanted.phone_index
    ):
        raise FactMissing(answer_fact(wanted.inbound_event_id))
    await _store(
        tx,
        received,
        source_id=wanted.inbound_event_id,
        kind="compliance",
        number_id=wanted.number_id,
        media_urls=(),
        rendered=render_text(wanted.content, {}, ()),
        due_at=wanted.requested_at,
        member_ids=[],
        phone=(wanted.phone_index, wanted.phone_ciphertext),
        passes_suppression=wanted.purpose == "stop",
    )


async def send(tx: Transaction, received: Envelope[TextRequested]) -> None:
    """Send what another service asks for, from the number that it names or the church's default.

    Its rows are of the kind ``reply``: a text to one person that goes before broadcasts, and is metered as one. They
    are listed with no member, whoever's phone it is.

    Raises:
        FactMissing: the church has no number yet.
    """
    wanted = received.data
    await _store(
        tx,
        received,
        source_id=wanted.text_id,
        kind="reply",
        number_id=wanted.number_id,
        media_urls=wanted.media_urls,
        rendered=whole_text(wanted.content, wanted.media_urls),
        due_at=wanted.requested_at,
        do_not_send_after=wanted.do_not_send_after,
        # No member's id: a copy that names nobody is listed with every member who has its phone, and a code that can
        # be read there confirms a phone that is not its reader's.
        member_ids=[wanted.text_id],
        phone=(wanted.phone_index, wanted.phone_ciphertext),
        passes_suppression=False,
    )


def answer_fact(inbound_event_id: UUID) -> str:
    """The fact that compliance has answered an inbound text."""
    return f"answer:{inbound_event_id}"


async def _store(
    tx: Transaction,
    received: Envelope[Any],
    *,
    source_id: UUID,
    kind: Kind,
    number_id: UUID | None,
    media_urls: Sequence[str],
    rendered: Rendered,
    due_at: datetime,
    member_ids: Sequence[UUID],
    phone: tuple[bytes, bytes],
    passes_suppression: bool,
    do_not_send_after: datetime | None = None,
    test: bool = False,
) -> None:
    sender = await broadcasts.choose_number(tx, number_id)
    if sender is None:
        raise FactMissing(number_fact(tx.tenant))
    source = Source(
        source_id=source_id,
        kind=kind,
        number_id=sender,
        media_urls=media_urls,
        priority=PERSON,
        due_at=due_at,
        passes_suppression=passes_suppression,
        do_not_send_after=do_not_send_after,
        traceparent=telemetry.current_traceparent(),
        correlation_id=telemetry.correlation_id(),
        test=test,
    )
    row = NewRecipient(
        # The event's own: the same event again is the same row, in whichever partition it lies.
        id=derived_id(received.time, received.id.bytes, kind.encode()),
        member_ids=member_ids,
        phone_index=phone[0],
        phone_ciphertext=phone[1],
        text=rendered.text,
        encoding=rendered.encoding,
        segments=rendered.segments,
    )
    await announce(tx, await recipients.store(tx, source, [row], LEFT_OUT_SENTENCES["suppressed"]))
