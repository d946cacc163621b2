"""Chunks: a page of a broadcast's audience becomes rows, with work for those who shall get the text."""

from uuid import UUID

import structlog

from koinonia import telemetry
from koinonia.bus import FactMissing
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.messaging import RecipientsResolved, ResolvedRecipient
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.priorities import BROADCAST, URGENT_BROADCAST
from koinonia_delivery.domain.texts import LEFT_OUT_SENTENCES, render_text
from koinonia_delivery.store import broadcasts, recipients
from koinonia_delivery.store.recipients import NewRecipient, Source

log = structlog.get_logger()


async def store(tx: Transaction, received: Envelope[RecipientsResolved]) -> None:
    """Store a chunk; a repeated one, or one of two streamers, adds nothing and announces nothing.

    Rows of a broadcast that was cancelled before are stored as ``cancelled``, left-out and suppressed numbers as
    ``suppressed``: counters equal rows. Those of a paused one wait aside until it is resumed.

    Raises:
        FactMissing: the church has no number yet.
    """
    chunk = received.data
    opened = await broadcasts.open_for_chunk(
        tx, chunk.message_id, chunk.dispatched_at, chunk.number_id, test=chunk.test
    )
    if opened.number_id is None and opened.cancelled_at is None:
        raise FactMissing(number_fact(tx.tenant))
    source = Source(
        source_id=chunk.message_id,
        kind="broadcast",
        number_id=opened.number_id,
        media_urls=chunk.media_urls,
        priority=URGENT_BROADCAST if chunk.urgent else BROADCAST,
        due_at=chunk.dispatched_at,
        is_cancelled=opened.cancelled_at is not None,
        is_paused=opened.paused_at is not None,
        do_not_send_after=chunk.do_not_send_after,
        traceparent=telemetry.current_traceparent(),
        correlation_id=telemetry.correlation_id(),
        test=chunk.test,
    )
    rows = [_row(chunk, each) for each in chunk.recipients]
    changes = await recipients.store(tx, source, rows, LEFT_OUT_SENTENCES["suppressed"])
    await announce(tx, changes)
    log.info("chunk_stored", message_id=str(chunk.message_id), recipients=sum(change.rows for change in changes))


def number_fact(church_id: UUID) -> str:
    """The fact that a church has a number to send from."""
    return f"number:{church_id}"


def _row(chunk: RecipientsResolved, each: ResolvedRecipient) -> NewRecipient:
    rendered = render_text(chunk.content, each.fields, chunk.media_urls)
    left_out = "weekly_limit" if each.over_limit else each.left_out
    return NewRecipient(
        id=each.recipient_id,
        member_ids=each.member_ids,
        phone_index=each.phone_index,
        phone_ciphertext=each.phone_ciphertext,
        text=rendered.text,
        encoding=rendered.encoding,
        segments=rendered.segments,
        branch_id=each.branch_id,
        left_out=left_out,
        left_out_sentence=LEFT_OUT_SENTENCES[left_out] if left_out is not None else None,
    )
