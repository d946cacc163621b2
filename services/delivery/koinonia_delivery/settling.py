"""Settling: what calls ended in becomes rows, events and pauses, a batch in one transaction."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from koinonia import metrics
from koinonia.bus import outbox
from koinonia.db import Database, Transaction
from koinonia_delivery.announcing import announce
from koinonia_delivery.churches import number_changed
from koinonia_delivery.domain.outcomes import HELD_SECONDS, Outcome
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store import numbers
from koinonia_delivery.store import outcomes as store
from koinonia_delivery.store import refusals as refusal_store
from koinonia_delivery.store.refusals import Changed, Refusal

log = structlog.get_logger()

BATCH = 500


async def settle(database: Database, outcomes: Sequence[Outcome], settings: DeliverySettings) -> None:
    """Write how calls ended. What a receipt or a later attempt has settled meanwhile stays as it is."""
    if pauses := _pauses(outcomes):
        # By itself and first: it locks lanes before numbers, as a claim does, and holds nothing else meanwhile.
        async with database.across_churches() as tx:
            await numbers.rest(tx, pauses)
    async with database.across_churches() as tx:
        changes = await store.settle(
            tx,
            outcomes,
            resend=settings.telnyx_idempotency,
            receipt_deadline_seconds=settings.receipt_deadline,
            refusal_limit=settings.refusal_limit,
        )
        await announce(
            tx,
            changes,
            {each.source_id: each.traceparent for each in outcomes},
            {each.source_id: each.correlation_id for each in outcomes},
        )
        await _note_refusals(tx, outcomes)
    for church_id, number_id, seconds in pauses:
        whose = {"number_id": str(number_id)} if number_id else {"church_id": str(church_id)}
        log.warning("sending_paused", seconds=seconds, **whose)


def _pauses(outcomes: Sequence[Outcome]) -> list[tuple[UUID, UUID | None, float]]:
    """The longest pause of each number, or of all numbers (None) of its church."""
    longest: dict[tuple[UUID, UUID | None], float] = {}
    for outcome in outcomes:
        if outcome.pause_seconds > 0 and not outcome.pauses_account:
            key = (outcome.church_id, None if outcome.pauses_church else outcome.number_id)
            longest[key] = max(longest.get(key, 0.0), outcome.pause_seconds)
    return [(church_id, number_id, seconds) for (church_id, number_id), seconds in longest.items()]


async def _note_refusals(tx: Transaction, outcomes: Sequence[Outcome]) -> None:
    """Show what the carrier refuses as a whole, alarm once for each, and end what it takes again."""
    held = [each for each in outcomes if each.result == "held"]
    refused = {each.number_id for each in held}
    accepted = {each.number_id for each in outcomes if each.result == "accepted"} - refused
    changed: list[Changed] = []
    if accepted:
        changed += await refusal_store.accept(tx, sorted(accepted), HELD_SECONDS / 2)
    refusals = {
        (each.number_id, each.pauses_church): Refusal(
            number_id=each.number_id,
            church_id=each.church_id if each.pauses_church else None,
            code=each.error_code,
            reason=each.error_message or "The carrier refuses it.",
        )
        for each in held
        if not each.pauses_account
    }
    if refusals:
        news = await refusal_store.refuse(tx, list(refusals.values()))
        for each in news:
            tx.after_commit(lambda each=each: _alarm("number", number_id=str(each.number.id)))  # type: ignore[misc]
        changed += news
    account = next((each for each in held if each.pauses_account), None)
    if account is not None and await refusal_store.refuse_account(
        tx, account.error_code, account.error_message or "The carrier refuses it."
    ):
        tx.after_commit(lambda: _alarm("account", code=account.error_code))
    envelopes = [
        # One that rests for another reason too, rests on: nothing has changed for others.
        outbox.envelope(tx, number_changed(each.number), church_id=each.church_id)
        for each in changed
        if each.number.status == "active"
    ]
    if envelopes:
        await outbox.add_envelopes(tx, *envelopes)


def _alarm(scope: str, **details: str | None) -> None:
    log.error("sending_held_by_carrier", scope=scope, **details)
    metrics.pauses_total.add(1, {"scope": scope, "cause": "carrier"})
