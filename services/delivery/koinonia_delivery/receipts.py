"""The carrier's receipts: applied in batches by rank, so that repeats and any order end in the same state."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from uuid import UUID, uuid5

import asyncpg
import msgspec
import structlog

from koinonia import clock, metrics, telemetry
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
        # Some events together that fail are handed in again one by one; so does one of them with its receipts.
        missing = await (self.apply_receipts if len(received) > 1 else self._apply_row_by_row)(tx, receipts)
        if missing:
            metrics.receipts_total.add(len(missing), {"effect": "parked"})
            parked = {_parking_id(each): each for each in missing}
            rows = [(key, each.recipient_id, msgspec.json.encode(each)) for key, each in parked.items()]
            await receipt_store.park(tx, rows, _RETRY_SECONDS)
        tx.after_commit(partial(_note_lag, received))

    async def _apply_row_by_row(self, tx: Transaction, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Apply receipts together, or else each by itself; one that Postgres refuses is answered as not there yet.

        So it is parked, alarms and is dropped like one without its row, and holds up no other.
        """
        try:
            async with tx.savepoint():
                return await self.apply_receipts(tx, receipts)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(receipts) == 1:
                log.error("receipt_refused", recipient_id=str(receipts[0].recipient_id), reason=type(error).__name__)
                return list(receipts)
        return [each for receipt in receipts for each in await self._apply_row_by_row(tx, [receipt])]

    async def apply_receipts(self, tx: Transaction, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Apply receipts and announce what changed; answers those whose row is not there yet.

        Those of archived months are counted and dropped: nobody waits for them any more.
        """
        verdicts = [found for receipt in receipts if (found := verdict(receipt)) is not None]
        metrics.receipts_total.add(len(receipts) - len(verdicts), {"effect": "ignored"})
        present = await self.apply_verdicts(tx, verdicts)
        missing = [each for each in receipts if verdict(each) is not None and each.recipient_id not in present]
        if not missing:
            return []
        archived = await receipt_store.list_archived(tx, [each.recipient_id for each in missing])
        metrics.receipts_total.add(sum(each.recipient_id in archived for each in missing), {"effect": "archived"})
        return [each for each in missing if each.recipient_id not in archived]

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
        for status, count in Counter(change.became for change in changes).items():
            metrics.receipts_total.add(count, {"effect": "applied", "status": status})
        metrics.receipts_total.add(len(present) - len(changes), {"effect": "repeated"})
        return present

    async def try_parked(self, tx: Transaction, limit: int = 100) -> int:
        """Try parked receipts again; answers how many were looked at. After a day one is dropped and counted."""
        due = await receipt_store.take_parked(tx, limit)
        if not due:
            return 0
        receipts = {key: msgspec.json.decode(body, type=Receipt) for key, body, _ in due}
        missing = {_parking_id(each) for each in await self._apply_row_by_row(tx, list(receipts.values()))}
        too_old = [key for key, _, age_seconds in due if key in missing and age_seconds > FORGET_SECONDS]
        late = sum(1 for key, _, age_seconds in due if key in missing and age_seconds > ALARM_SECONDS)
        if late:
            log.error("receipts_parked_too_long", receipts=late)
        if too_old:
            metrics.receipts_total.add(len(too_old), {"effect": "dropped"})
            log.error("receipts_dropped", receipts=len(too_old))
        await receipt_store.drop_parked(tx, [key for key in receipts if key not in missing] + too_old)
        return len(due)


def _note_lag(received: Sequence[Envelope[StatusReceived]]) -> None:
    """One figure for each event and not for each receipt, which would cost more than to decode it."""
    now = clock.now()
    for envelope in received:
        oldest = min(receipt.occurred_at for receipt in envelope.data.receipts)
        metrics.receipt_lag_seconds.record(max(0.0, (now - oldest).total_seconds()))


def _parking_id(receipt: Receipt) -> UUID:
    """The same receipt again is parked once."""
    return uuid5(_NAMESPACE, f"{receipt.recipient_id} {receipt.status} {receipt.carrier_id}")
