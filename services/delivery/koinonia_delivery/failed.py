"""Whom a message did not reach, told page by page to who would send it to them again.

Each page is an event that answers an event: nothing is kept here, a repeat is answered once, and memory stays flat.
"""

from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.delivery import FailedListed
from koinonia.events.messaging import FailedRequested
from koinonia_delivery.store import broadcasts, recipients

PAGE_RECIPIENTS = 500


async def answer(tx: Transaction, received: Envelope[FailedRequested]) -> None:
    """List the next of them. Of a message that is not known, or was archived, there are none."""
    question = received.data
    _, dispatched_at = await broadcasts.find_dispatched_at(tx, question.source_id)
    found = (
        []
        if dispatched_at is None
        else await recipients.list_failed(
            tx, question.source_id, dispatched_at, after=question.after, limit=PAGE_RECIPIENTS
        )
    )
    listed = FailedListed(
        message_id=question.message_id,
        source_id=question.source_id,
        after=question.after,
        member_ids=tuple(dict.fromkeys(member_id for row in found for member_id in row.member_ids)),
        last=found[-1].id if len(found) == PAGE_RECIPIENTS else None,
    )
    await outbox.add(tx, listed)
