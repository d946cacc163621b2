"""How a call to the carrier ended, and what follows for the recipient, its number and its church."""

from typing import Literal
from uuid import UUID

import msgspec

from koinonia.carrier.contract import Accepted, CarrierError, OutcomeUnknown, Refused, Rejected
from koinonia.resilience.backoff import Backoff, RetryAfter

Result = Literal["accepted", "rejected", "refused", "held", "unknown", "returned"]
"""``refused``: certainly not done, tried again later, up to a limit. ``held``: likewise, as all that comes from its
number, its church or the platform, and without a limit, since a person must act. ``returned``: the call was not begun.
"""

REFUSED = Backoff(base_seconds=1.0, max_seconds=300.0)
REFUSALS = 50
"""So often a text is refused for now by the carrier before it expires: three to four hours at the longest waits."""
SPENT_SENTENCE = "The carrier did not take it in time, however often it was tried."
HELD_SECONDS = 60.0
"""How long a number or a church rests when the carrier will not take anything from it until a person acts."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    number_id: UUID
    attempt: int
    result: Result
    carrier_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    opted_out: bool = False  # the carrier has been told STOP by this person
    wait_seconds: float = 0.0  # before the next attempt
    pause_seconds: float = 0.0  # of the number, or of all numbers of the church
    pauses_church: bool = False
    pauses_account: bool = False  # the platform's access itself: nobody can send
    traceparent: str | None = None
    correlation_id: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt it was."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    number_id: UUID
    attempt: int
    traceparent: str | None = None
    correlation_id: str | None = None


def accepted(attempt: Attempt, answer: Accepted) -> Outcome:
    """The carrier has taken it."""
    return _outcome(attempt, "accepted", carrier_id=answer.carrier_id)


def returned(attempt: Attempt) -> Outcome:
    """The call was not begun: it goes back to where it stood in its person's order."""
    return _outcome(attempt, "returned")


def failed(attempt: Attempt, error: CarrierError, unknown_wait_seconds: float, backoff: Backoff = REFUSED) -> Outcome:
    """The carrier's error, and how long to wait for what."""
    if isinstance(error, Rejected):
        return _outcome(
            attempt,
            "rejected",
            error_code=error.carrier_code,
            error_message=error.message,
            opted_out=error.opted_out,
        )
    if isinstance(error, Refused):
        return _refused(attempt, error, backoff)
    if not isinstance(error, OutcomeUnknown):
        raise TypeError(f"no way for a call to end: {type(error).__name__}")
    return _outcome(
        attempt,
        "unknown",
        error_code=error.carrier_code,
        error_message=error.message,
        wait_seconds=unknown_wait_seconds,
    )


def unknown(attempt: Attempt, unknown_wait_seconds: float) -> Outcome:
    """The call was cut off by ourselves."""
    return failed(attempt, OutcomeUnknown("The call was cut off."), unknown_wait_seconds)


def _refused(attempt: Attempt, error: Refused, backoff: Backoff) -> Outcome:
    retry_after = RetryAfter(float(error.retry_after_seconds)) if error.retry_after_seconds is not None else None
    held = error.scope != "call"
    if held:
        pause = max(HELD_SECONDS, retry_after.seconds if retry_after else 0.0)
    else:
        pause = retry_after.seconds if retry_after else 0.0
    return _outcome(
        attempt,
        "held" if held else "refused",
        error_code=error.carrier_code,
        error_message=error.message,
        wait_seconds=backoff.delay_seconds(max(attempt.attempt, 1), retry_after),
        pause_seconds=pause,
        pauses_church=error.scope == "church",
        pauses_account=error.scope == "account",
    )


def _outcome(
    attempt: Attempt,
    result: Result,
    *,
    carrier_id: str | None = None,
    error_code: str | None = None,
    error_message: str | None = None,
    opted_out: bool = False,
    wait_seconds: float = 0.0,
    pause_seconds: float = 0.0,
    pauses_church: bool = False,
    pauses_account: bool = False,
) -> Outcome:
    return Outcome(
        recipient_id=attempt.recipient_id,
        church_id=attempt.church_id,
        source_id=attempt.source_id,
        number_id=attempt.number_id,
        attempt=attempt.attempt,
        result=result,
        carrier_id=carrier_id,
        error_code=error_code,
        error_message=error_message,
        opted_out=opted_out,
        wait_seconds=wait_seconds,
        pause_seconds=pause_seconds,
        pauses_church=pauses_church,
        pauses_account=pauses_account,
        traceparent=attempt.traceparent,
        correlation_id=attempt.correlation_id,
    )
