"""What becomes of texts whose fate is open: leases that ended, unknown outcomes, and texts without a last receipt.

The carrier is asked outside any transaction; what it says is applied as a receipt is, by rank.
"""

import asyncio
from datetime import timedelta
from typing import Literal

import structlog

from koinonia import clock, metrics
from koinonia.carrier.contract import Carrier, CarrierError
from koinonia.carrier.errors import meaning
from koinonia.db import Database
from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.keys import Keys
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.states import Reported, Verdict, reported
from koinonia_delivery.receipts import Receipts
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store import doubts as store
from koinonia_delivery.store.doubts import Doubt

log = structlog.get_logger()

REAP_ROWS = 500
LOOK_UPS = 20
LOOK_UP_WAIT_SECONDS = 60.0
LONGEST_QUEUE_SECONDS = 4 * 3600.0
"""How long the carrier may keep a text in its queue: before that, its records prove nothing by their silence."""
SCAN_ROWS = 5000
CLOCK_SKEW = timedelta(seconds=10)

_LOST = "The sending process ended before the carrier had answered."
_UNCONFIRMED = "Nobody could tell whether it was delivered."


Silence = Literal["nothing", "later"]
"""``nothing``: it cannot be known; ``later``: ask again."""


class Doubts:
    """Settles what neither an answer nor a receipt has settled."""

    def __init__(
        self, database: Database, carrier: Carrier, keys: Keys, receipts: Receipts, settings: DeliverySettings
    ) -> None:
        self._database = database
        self._carrier = carrier
        self._keys = keys
        self._receipts = receipts
        self._settings = settings

    async def reap_leases(self) -> int:
        """Make unknown what ended workers held; answers how many rows."""
        async with self._database.across_churches() as tx:
            changes = await store.reap(
                tx,
                REAP_ROWS,
                _LOST,
                self._settings.unknown_outcome_wait,
                resend=self._settings.telnyx_idempotency,
            )
            await announce(tx, changes)
        count = sum(change.rows for change in changes)
        if count:
            metrics.leases_ended_total.add(count)
            log.warning("leases_ended", recipients=count)
        return count

    async def scan_overdue(self) -> None:
        """Note the texts that have waited for their last receipt for longer than the deadline."""
        deadline = self._settings.receipt_deadline
        more = True
        while more:
            async with self._database.across_churches() as tx:
                before = clock.now() - timedelta(seconds=deadline)
                more = await store.scan_overdue(tx, before, SCAN_ROWS, deadline)

    async def look_up(self) -> int:
        """Ask the carrier about texts whose look-up is due; answers how many."""
        async with self._database.across_churches() as tx:
            doubts = await store.take(tx, LOOK_UPS, LOOK_UP_WAIT_SECONDS, resend=self._settings.telnyx_idempotency)
        answers = await asyncio.gather(*(self._ask(doubt) for doubt in doubts))
        verdicts = [answer for answer in answers if isinstance(answer, Verdict)]
        given_up = [doubt for doubt, answer in zip(doubts, answers, strict=True) if answer == "nothing"]
        if verdicts:
            async with self._database.across_churches() as tx:
                await self._receipts.apply_verdicts(tx, verdicts)
        if given_up:
            async with self._database.across_churches() as tx:
                await announce(tx, await store.give_up(tx, given_up, _UNCONFIRMED))
            log.warning("recipients_unconfirmed", recipients=len(given_up))
        return len(doubts)

    async def _ask(self, doubt: Doubt) -> Verdict | Silence:
        try:
            return await (self._ask_state(doubt) if doubt.state == "overdue" else self._ask_records(doubt))
        except (CarrierError, CiphertextInvalid) as error:
            log.warning("look_up_failed", recipient_id=str(doubt.recipient_id), reason=type(error).__name__)
            return "later"

    async def _ask_state(self, doubt: Doubt) -> Verdict | Silence:
        state = await self._carrier.look_up(doubt.carrier_id) if doubt.carrier_id is not None else None
        status = reported(state.status) if state is not None else None
        if state is None or status is None or status == "sent":
            return "nothing"
        code = state.error_code if status == "undelivered" else None
        return Verdict(
            recipient_id=doubt.recipient_id,
            status=status,
            occurred_at=state.completed_at or clock.now(),
            carrier_id=state.carrier_id,
            error_code=code,
            error_message=meaning(code).sentence if code is not None else None,
            source="look_up",
        )

    async def _ask_records(self, doubt: Doubt) -> Verdict | Silence:
        if doubt.sender is None or doubt.webhook_url is None or doubt.group_started_at is None:
            return "later"  # never: the table's check says so
        records = await self._carrier.find_records(
            sender=doubt.sender,
            recipient=self._keys.decrypt(doubt.phone_ciphertext, doubt.church_id, "phone"),
            since=doubt.group_started_at - CLOCK_SKEW,
        )
        found = next((record for record in records if record.webhook_url == doubt.webhook_url), None)
        if found is None:
            return "nothing" if doubt.age_seconds > LONGEST_QUEUE_SECONDS else "later"
        return Verdict(
            recipient_id=doubt.recipient_id,
            status=_certain(reported(found.status)),
            occurred_at=found.created_at,
            carrier_id=found.carrier_id,
            source="record",
        )


def _certain(status: Reported | None) -> Reported:
    """What a record proves: its word for a text on its way is the one for a text without a receipt."""
    return status if status in ("delivered", "undelivered") else "sent"
