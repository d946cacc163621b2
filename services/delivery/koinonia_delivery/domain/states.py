"""The states of a recipient, how far each is, and what a receipt makes of it; see ``docs/delivery-states.md``."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from koinonia.carrier.contract import CarrierStatus
from koinonia.carrier.errors import meaning
from koinonia.events.carrier import Receipt
from koinonia.events.common import RecipientStatus
from koinonia.events.delivery import BranchChanges, RecipientsUpdated

Kind = Literal["broadcast", "reply", "compliance"]
Reported = Literal["sent", "unconfirmed", "undelivered", "delivered"]

RANKS: dict[Reported, int] = {"sent": 1, "unconfirmed": 2, "undelivered": 3, "delivered": 4}
"""How much the carrier's word weighs; what only we have said weighs 0, so that any receipt outweighs it.

A phone that has got the text has got it: delivered is above undelivered. So a row ends in the same state whatever the
order of its receipts.
"""

_REPORTED: dict[CarrierStatus, Reported] = {
    CarrierStatus.SCHEDULED: "sent",
    CarrierStatus.QUEUED: "sent",
    CarrierStatus.SENDING: "sent",
    CarrierStatus.SENT: "sent",
    CarrierStatus.DELIVERED: "delivered",
    CarrierStatus.READ: "delivered",
    CarrierStatus.DELIVERY_FAILED: "undelivered",
    CarrierStatus.SENDING_FAILED: "undelivered",
    CarrierStatus.EXPIRED: "undelivered",
    CarrierStatus.DELIVERY_UNCONFIRMED: "unconfirmed",
}


def reported(status: CarrierStatus | str) -> Reported | None:
    """Our state for the carrier's word; None for a word that says nothing about a text of ours."""
    try:
        return _REPORTED.get(CarrierStatus(status))
    except ValueError:
        return None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier's word on one recipient, in our states."""

    recipient_id: UUID
    status: Reported
    occurred_at: datetime
    carrier_id: str
    error_code: str | None = None
    error_message: str | None = None
    traceparent: str | None = None  # of the text, as its receipt brought it back
    source: Literal["receipt", "look_up", "record"] = "receipt"  # how we know: told, asked by its id, found on record

    @property
    def rank(self) -> int:
        """How much it weighs."""
        return RANKS[self.status]


def verdict(receipt: Receipt) -> Verdict | None:
    """What a receipt says; None when it says nothing that we know."""
    status = reported(receipt.status)
    if status is None:
        return None
    failed = status == "undelivered"
    code = receipt.error_code if failed else None
    return Verdict(
        recipient_id=receipt.recipient_id,
        status=status,
        occurred_at=receipt.occurred_at,
        carrier_id=receipt.carrier_id,
        error_code=code,
        error_message=_sentence(code) if failed else None,
        traceparent=receipt.traceparent,
    )


def strongest(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict for each recipient, the weightiest, in the order of their ids: so that locks have one order."""
    best: dict[UUID, Verdict] = {}
    for each in verdicts:
        known = best.get(each.recipient_id)
        if known is None or (each.rank, each.occurred_at) > (known.rank, known.occurred_at):
            best[each.recipient_id] = each
    return [best[recipient_id] for recipient_id in sorted(best)]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one statement made of rows of one source."""

    church_id: UUID
    source_id: UUID
    kind: Kind
    was: RecipientStatus | None  # None: the row is new
    became: RecipientStatus
    branch_id: UUID | None = None  # whose people the rows are counted with
    rows: int = 1
    segments: int = 0  # of one row
    newly_accepted: bool = False
    failure_code: str | None = None  # the carrier's, of rows that it has just refused or not delivered
    test: bool = False  # all rows of a source are tests, or none


def summarise(changes: Iterable[Change]) -> list[tuple[UUID, RecipientsUpdated]]:
    """One event for each source, with its church: differences only, and what is to be metered.

    A row whose call is under way counts as queued, so the way from queued to sending and back says nothing.
    """
    sources: dict[tuple[UUID, UUID, Kind], list[Change]] = {}
    for change in changes:
        sources.setdefault((change.church_id, change.source_id, change.kind), []).append(change)
    events = []
    for (church_id, source_id, kind), group in sources.items():
        differences = _differences(group)
        accepted = [change for change in group if change.newly_accepted]
        if differences or accepted:
            event = RecipientsUpdated(
                source_id=source_id,
                kind=kind,
                changes=differences,
                accepted_recipients=sum(change.rows for change in accepted),
                accepted_segments=sum(change.rows * change.segments for change in accepted),
                errors=_errors(group),
                test=any(change.test for change in group),
                branches=_by_branch(group),
            )
            events.append((church_id, event))
    return events


def _differences(changes: Iterable[Change]) -> dict[RecipientStatus, int]:
    counts: dict[RecipientStatus, int] = {}
    for change in changes:
        became = counted(change.became)
        counts[became] = counts.get(became, 0) + change.rows
        if change.was is not None:
            was = counted(change.was)
            counts[was] = counts.get(was, 0) - change.rows
    return {status: count for status, count in counts.items() if count}


def _by_branch(changes: Iterable[Change]) -> tuple[BranchChanges, ...]:
    branches: dict[UUID, list[Change]] = {}
    for change in changes:
        if change.branch_id is not None:
            branches.setdefault(change.branch_id, []).append(change)
    told = ((branch_id, _differences(branches[branch_id])) for branch_id in sorted(branches))
    return tuple(BranchChanges(branch_id=branch_id, changes=changes) for branch_id, changes in told if changes)


def _errors(changes: Iterable[Change]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in changes:
        if change.failure_code is not None and change.was != change.became:
            counts[change.failure_code] = counts.get(change.failure_code, 0) + change.rows
    return counts


def counted(status: RecipientStatus) -> RecipientStatus:
    """The status under which others know a row."""
    return "queued" if status == "sending" else status


def _sentence(code: str | None) -> str:
    return meaning(code).sentence if code is not None else "It could not be delivered."
