"""Settling: what calls ended in becomes rows, events and pauses, a batch in one transaction."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from koinonia.db import Database
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store import outcomes as store

log = structlog.get_logger()

BATCH = 500


async def settle(database: Database, outcomes: Sequence[Outcome], settings: DeliverySettings) -> None:
    """Write how calls ended. What a receipt or a later attempt has settled meanwhile stays as it is."""
    pauses = _pauses(outcomes)
    async with database.across_churches() as tx:
        changes = await store.settle(
            tx,
            outcomes,
            pauses,
            resend=settings.telnyx_idempotency,
            receipt_deadline_seconds=settings.receipt_deadline,
        )
        await announce(
            tx,
            changes,
            {each.source_id: each.traceparent for each in outcomes},
            {each.source_id: each.correlation_id for each in outcomes},
        )
    for number_id, church_id, seconds in pauses:
        whose = {"church_id": str(church_id)} if church_id else {"number_id": str(number_id)}
        log.warning("sending_paused", seconds=seconds, **whose)


def _pauses(outcomes: Sequence[Outcome]) -> list[tuple[UUID, UUID | None, float]]:
    """The longest pause of each number, or of all numbers of its church."""
    longest: dict[tuple[UUID, UUID | None], float] = {}
    for outcome in outcomes:
        if outcome.pause_seconds > 0 and not outcome.pauses_account:
            key = (outcome.number_id, outcome.church_id if outcome.pauses_church else None)
            longest[key] = max(longest.get(key, 0.0), outcome.pause_seconds)
    return [(number_id, church_id, seconds) for (number_id, church_id), seconds in longest.items()]
