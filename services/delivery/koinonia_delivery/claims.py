"""Claiming: a transaction that takes recipients for calls which begin at once, and commits before any of them does.

Its statements come in this order, and each needs the one before it:

1. the lanes of churches are locked, those that others hold are skipped: what is taken for a church is taken by one.
   Then their advisory locks are taken shared, in sorted order: a hold or withdrawal that is being stored is waited for,
   and none commits before this claim has;
2. clocks and candidates are read, with suppressions, consents and holds, by a snapshot that is younger than those
   locks; the time is read here, once, and quiet hours are judged by it;
3. the chosen ones become ``sending`` under a lease, clocks advance, and each lane sleeps until it can do something;
4. what shall never go is closed, and announced; what is put off wakes its lane.

While our knowledge of opt-outs is older than 15 seconds, the first finds nothing.
"""

import math
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from koinonia.db import Database, Transaction
from koinonia.events.common import RecipientStatus
from koinonia_delivery.announcing import announce
from koinonia_delivery.domain.choosing import BEGIN_SECONDS, Candidate, Choice, Clock, choose
from koinonia_delivery.domain.texts import LEFT_OUT_SENTENCES
from koinonia_delivery.store import claims as store
from koinonia_delivery.store.claims import Claimed

WebhookUrl = Callable[[UUID, str | None], str]
"""Of a recipient and its traceparent: where its receipts go."""
SPARE = 1.25
POSTPONE_SECONDS = 5.0
"""When a held recipient is looked at again."""
CLOSINGS: dict[str, tuple[RecipientStatus, str | None]] = {
    "suppressed": ("suppressed", LEFT_OUT_SENTENCES["suppressed"]),
    "withdrawn": ("suppressed", "This person's consent was withdrawn."),
    "cancelled": ("cancelled", None),
    "expired": ("expired", "It could not be sent in time."),
}
"""Of what shall never go: its state, and what the church reads."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed recipient, and between which moments by ``time.monotonic`` its call begins, or not at all."""

    claimed: Claimed
    begins_at: float
    latest_at: float


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What one claim brought, in the order in which the calls shall begin.

    ``progressed``: there may be more to claim at once; else ``wake_seconds``: until the next lane wakes, below 0 while
    another has it locked, None while nothing waits or may go.
    """

    calls: list[Call] = []
    progressed: bool = False
    wake_seconds: float | None = None


async def claim(
    database: Database, places: int, *, lease_seconds: float, webhook_url: WebhookUrl, resend: bool
) -> Claim:
    """Take up to ``places`` recipients. ``webhook_url`` makes a recipient's URL for receipts, at its first attempt;
    ``resend``: unknown ones are sent again, since the carrier honours keys.
    """
    async with database.across_churches() as tx:
        lanes = await store.lock_lanes(tx, places)
        if not lanes:
            return Claim(wake_seconds=await store.next_wake_seconds(tx))
        # Some more than their share: something may stand in the way of a few, or another church may have less.
        per_number = math.ceil(SPARE * places / len(lanes))
        began_at = time.monotonic()
        picked = await store.pick(tx, lanes, per_number, resend=resend)
        read_at = time.monotonic()
        choice = choose(list(lanes), picked.clocks, picked.candidates, now=picked.now, places=places)
        chosen = [_fix(taken.candidate, picked.clocks, webhook_url) for taken in choice.taken]
        claimed = await store.take(tx, chosen, choice, picked.now, lease_seconds)
        await _put_aside(tx, choice)
    by_id = {each.recipient_id: each for each in claimed}
    # The database read its time between the two: by its clock no call begins too early, nor too late.
    calls = [
        Call(
            claimed=by_id[taken.candidate.recipient_id],
            begins_at=read_at + taken.begins_after_seconds,
            latest_at=began_at + taken.begins_after_seconds + BEGIN_SECONDS,
        )
        for taken in choice.taken
        if taken.candidate.recipient_id in by_id
    ]
    return Claim(calls=calls, progressed=True)


async def _put_aside(tx: Transaction, choice: Choice) -> None:
    if not (choice.closed or choice.paused or choice.postponed or choice.doubtful):
        return
    closed = [(candidate.recipient_id, *CLOSINGS[obstacle]) for candidate, obstacle in choice.closed]
    postponed = [candidate.recipient_id for candidate in choice.postponed]
    doubtful = [candidate.recipient_id for candidate in choice.doubtful]
    paused = [candidate.recipient_id for candidate in choice.paused]
    await announce(tx, await store.put_aside(tx, closed, postponed, POSTPONE_SECONDS, doubtful, paused=paused))


def _fix(candidate: Candidate, clocks: dict[UUID, Clock], webhook_url: WebhookUrl) -> tuple[Candidate, Clock, str]:
    return candidate, clocks[candidate.number_id], webhook_url(candidate.recipient_id, candidate.traceparent)
