"""Delivery's part of a recipient's trail, which is where every trail begins."""

from uuid import UUID

from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.trail import DeliveryPart, Part, Question
from koinonia_delivery.domain.trail import tell
from koinonia_delivery.store import trail as store


async def begin(tx: Transaction, recipient_id: UUID, source_id: UUID | None = None) -> DeliveryPart:
    """What delivery tells, and what the other services are asked; ``source_id``: only a recipient of this message.

    Raises:
        NotFound: there is no such recipient.
    """
    standing = await store.find_standing(tx, recipient_id, source_id)
    if standing is None:
        raise NotFound
    notes = await store.list_notes(tx, recipient_id)
    question = Question(
        recipient_id=standing.recipient_id,
        source_id=standing.source_id,
        kind=standing.kind,
        phone_index=standing.phone_index,
        status=standing.status,
        accepted_at=standing.accepted_at,
        until=standing.settled_at or standing.now,
    )
    part = Part(entries=tell(standing, notes), traceparent=standing.traceparent)
    return DeliveryPart(church_id=standing.church_id, question=question, part=part)
