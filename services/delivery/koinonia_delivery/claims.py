"""Claiming: a transaction that takes recipients for calls which begin at once, and commits before any of them does.

Its statements come in this order, and each needs the one before it:

1. the clocks of numbers are locked, those that others hold are skipped: what is taken for a number is taken by one;
2. the churches' advisory locks are taken shared, in sorted order: a hold or withdrawal that is being stored is waited
   for, and none commits before this claim has;
3. candidates are read, with suppressions, consents and holds, by a snapshot that is younger than those locks; the time
   is read here, once;
4. the chosen ones become ``sending`` under a lease, and their clocks advance;
5. what shall never go is closed, and announced.

While our knowledge of opt-outs is older than 15 seconds, the first finds nothing.
"""

import math
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from koinonia.db import Database, Transaction
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.choosing import HORIZON_SECONDS, Candidate, Choice, Clock, choose
from koinonia_delivery.domain.texts import LEFT_OUT_SENTENCES
from koinonia_delivery.store import claims as store
from koinonia_delivery.store.claims import Claimed

WebhookUrl = Callable[[UUID, str | None], str]
"""Of a recipient and its traceparent: where its receipts go."""
POSTPONE_SECONDS = 5.0
"""When a held recipient is looked at again."""
CLOSINGS = {
    "suppressed": ("suppressed", LEFT_OUT_SENTENCES["suppressed"]),
    "withdrawn": ("suppressed", "This person's consent was withdrawn."),
    "cancelled": ("cancelled", None),
    "expired": ("expired", "It could not be sent in time."),
}
"""Of what shall never go: its state, and what the church reads."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed recipient, and when its call begins, counted from the claim."""

    claimed: Claimed
    begins_after_seconds: float


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one claim brought, at a time by ``time.monotonic``. ``progressed``: there may be more to claim at once."""

    claimed_at: float = 0.0
    calls: list[Call] = []
    progressed: bool = False


async def claim(
    database: Database, places: int, *, lease_seconds: float, webhook_url: WebhookUrl, resend: bool
) -> Claim:
    """Take up to ``places`` recipients. ``webhook_url`` makes a recipient's URL for receipts, at its first attempt;
    ``resend``: unknown ones are sent again, since the carrier honours keys.
    """
    async with database.across_churches() as tx:
        clocks = await store.lock_clocks(tx, places, HORIZON_SECONDS)
        if not clocks:
            return Claim()
        await store.share_churches(tx, list({clock.church_id for clock in clocks.values()}))
        per_number = math.ceil(2 * places / len(clocks))
        claimed_at = time.monotonic()
        now, candidates = await store.pick(tx, list(clocks), per_number, resend=resend)
        if now is None:
            return Claim()
        choice = choose(clocks, candidates, now=now, places=places)
        claimed: list[Claimed] = []
        if choice.taken:
            chosen = [_fix(taken.candidate, clocks, webhook_url) for taken in choice.taken]
            claimed = await store.take(tx, chosen, choice.next_free_at, now, lease_seconds)
        await _put_aside(tx, choice)
    waits = {taken.candidate.recipient_id: taken.begins_after_seconds for taken in choice.taken}
    calls = [Call(claimed=each, begins_after_seconds=waits[each.recipient_id]) for each in claimed]
    return Claim(claimed_at=claimed_at, calls=calls, progressed=bool(calls or choice.closed or choice.doubtful))


async def _put_aside(tx: Transaction, choice: Choice) -> None:
    if not (choice.closed or choice.postponed or choice.doubtful):
        return
    closed = [(candidate.recipient_id, *CLOSINGS[obstacle]) for candidate, obstacle in choice.closed]
    postponed = [candidate.recipient_id for candidate in choice.postponed]
    doubtful = [candidate.recipient_id for candidate in choice.doubtful]
    await announce(tx, await store.put_aside(tx, closed, postponed, POSTPONE_SECONDS, doubtful))


def _fix(candidate: Candidate, clocks: dict[UUID, Clock], webhook_url: WebhookUrl) -> tuple[Candidate, Clock, str]:
    return candidate, clocks[candidate.number_id], webhook_url(candidate.recipient_id, candidate.traceparent)
