"""The carrier's receipts: applied in batches by rank, so that repeats and any order end in the same state."""

from collections.abc import Sequence
from uuid import UUID, uuid5

import msgspec
import structlog

from koinonia import metrics, telemetry
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.carrier import Receipt, StatusReceived
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.states import Change, Verdict, strongest, verdict
from koinonia_delivery.store import receipts as receipt_store

log = structlog.get_logger()

ROWS = 500  # in one statement
ALARM_SECONDS = 600.0
FORGET_SECONDS = 86_400.0
_RETRY_SECONDS = 3.0
_NAMESPACE = UUID("6f0f7a52-9d0c-5d0e-8b57-2a3d9f6b1c44")


class Receipts:
    """Applies receipts; ``deadline_seconds`` is how long a sent one may stay without its last receipt."""

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds

    async def apply(self, tx: Transaction, received: Sequence[Envelope[StatusReceived]]) -> None:
        """Apply a batch of any churches; those whose row is not there yet are parked one by one."""
        receipts = [receipt for envelope in received for receipt in envelope.data.receipts]
        telemetry.link(receipt.traceparent for receipt in receipts)
        missing = await self.apply_receipts(tx, receipts)
        if missing:
            metrics.receipts_total.add(len(missing), {"effect": "parked"})
            parked = {_parking_id(each): each for each in missing}
            rows = [(key, each.recipient_id, msgspec.json.encode(each)) for key, each in parked.items()]
            await receipt_store.park(tx, rows, _RETRY_SECONDS)

    async def apply_receipts(self, tx: Transaction, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Apply receipts and announce what changed; answers those whose row is not there."""
        verdicts = [found for receipt in receipts if (found := verdict(receipt)) is not None]
        metrics.receipts_total.add(len(receipts) - len(verdicts), {"effect": "ignored"})
        present = await self.apply_verdicts(tx, verdicts)
        return [each for each in receipts if verdict(each) is not None and each.recipient_id not in present]

    async def apply_verdicts(self, tx: Transaction, verdicts: Sequence[Verdict]) -> set[UUID]:
        """Apply the weightiest verdict on each recipient; answers which recipients are there."""
        chosen = strongest(verdicts)
        if not chosen:
            return set()
        changes: list[Change] = []
        present: set[UUID] = set()
        traceparents: dict[UUID, str | None] = {}
        for start in range(0, len(chosen), ROWS):
            page = chosen[start : start + ROWS]
            changed, found, traces = await receipt_store.apply(tx, page, self._deadline_seconds)
            changes += changed
            present |= found
            traceparents |= traces
        await announce(tx, changes, traceparents)
        for change in changes:
            metrics.receipts_total.add(1, {"effect": "applied", "status": change.became})
        metrics.receipts_total.add(len(present) - len(changes), {"effect": "repeated"})
        return present

    async def try_parked(self, tx: Transaction, limit: int = 100) -> int:
        """Try parked receipts again; answers how many were looked at. After a day one is dropped and counted."""
        due = await receipt_store.take_parked(tx, limit)
        if not due:
            return 0
        receipts = {key: msgspec.json.decode(body, type=Receipt) for key, body, _ in due}
        missing = {_parking_id(each) for each in await self.apply_receipts(tx, list(receipts.values()))}
        too_old = [key for key, _, age_seconds in due if key in missing and age_seconds > FORGET_SECONDS]
        late = sum(1 for key, _, age_seconds in due if key in missing and age_seconds > ALARM_SECONDS)
        if late:
            log.error("receipts_parked_too_long", receipts=late)
        if too_old:
            metrics.receipts_total.add(len(too_old), {"effect": "dropped"})
            log.error("receipts_dropped", receipts=len(too_old))
        await receipt_store.drop_parked(tx, [key for key in receipts if key not in missing] + too_old)
        return len(due)


def _parking_id(receipt: Receipt) -> UUID:
    """The same receipt again is parked once."""
    return uuid5(_NAMESPACE, f"{receipt.recipient_id} {receipt.status} {receipt.carrier_id}")
