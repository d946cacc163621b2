"""How handing over an e-mail ended, and what follows for it."""

from typing import Literal
from uuid import UUID

import msgspec

from koinonia.resilience.backoff import Backoff

Ending = Literal["sent", "refused", "rejected", "unknown", "away", "unreadable", "returned"]
"""``away``: the server takes nothing from us now. ``unreadable``: this process lacks a key or the template, another may
have it. ``returned``: it was not begun. These three say nothing about the e-mail, and wait until it expires.
"""
Status = Literal["queued", "sent", "failed"]

REFUSALS = 10
"""So often an e-mail is refused for now before it fails."""
UNKNOWNS = 3
"""So often nobody knows whether it went before it fails: each time somebody may have got it once more."""
REFUSED = Backoff(base_seconds=60.0, max_seconds=1800.0)
"""Long: a server that greets the unknown with a refusal wants to see them again in some minutes."""
AWAY = Backoff(base_seconds=2.0, max_seconds=60.0)
UNREADABLE_SECONDS = 60.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of an attempt makes of an e-mail."""

    email_id: UUID
    attempt: int
    status: Status
    code: str | None = None
    refused: bool = False
    unknown: bool = False
    wait_seconds: float = 0.0  # before the next attempt


def judge(
    email_id: UUID,
    ending: Ending,
    *,
    attempt: int,
    refusals: int,
    unknowns: int,
    code: str | None = None,
    retry_after_seconds: float = 0.0,
) -> Outcome:
    """What becomes of an e-mail. ``refusals`` and ``unknowns``: those before this attempt."""
    refused, unknown = ending == "refused", ending == "unknown"
    status: Status = "queued"
    if ending == "sent":
        status = "sent"
    elif ending == "rejected" or (refused and refusals + 1 >= REFUSALS) or (unknown and unknowns + 1 >= UNKNOWNS):
        status = "failed"
    return Outcome(
        email_id=email_id,
        attempt=attempt,
        status=status,
        code=None if ending in {"sent", "returned"} else code or ending,
        refused=refused,
        unknown=unknown,
        wait_seconds=max(_wait_seconds(ending, attempt, refusals + unknowns), retry_after_seconds),
    )


def _wait_seconds(ending: Ending, attempt: int, failures: int) -> float:
    if ending in {"refused", "unknown"}:
        return REFUSED.delay_seconds(failures + 1)
    if ending == "unreadable":
        return UNREADABLE_SECONDS
    return AWAY.delay_seconds(min(attempt, 10)) if ending in {"away", "returned"} else 0.0
