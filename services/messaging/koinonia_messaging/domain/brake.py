"""When a broadcast pauses itself: many of its texts have just failed.

Answers and receipts are judged apart, since receipts come long after: early refusals are not a share of the few texts
whose receipts are there already.
"""

import msgspec


class Brake(msgspec.Struct, frozen=True, kw_only=True):
    """How many in a row are judged together, and which share of failures among them is too much."""

    sample: int = 100
    share: float = 0.3


USUAL = Brake()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier has said of a broadcast so far, or had when a window began."""

    answers: int = 0  # accepted or refused for good
    refusals: int = 0
    receipts: int = 0  # last ones: delivered, undelivered, unconfirmed
    undelivered: int = 0


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """Why a broadcast pauses itself."""

    kind: str  # what the carrier said of them
    failed: int
    of: int


def judge(brake: Brake, window: Tally, now: Tally) -> tuple[Failures | None, Tally]:
    """What is too much since the window began, if anything; and the window to go on with: full ones begin anew."""
    answers, refusals = now.answers - window.answers, now.refusals - window.refusals
    receipts, undelivered = now.receipts - window.receipts, now.undelivered - window.undelivered
    found = None
    if answers >= brake.sample:
        window = msgspec.structs.replace(window, answers=now.answers, refusals=now.refusals)
        if refusals >= brake.share * answers:
            found = Failures(kind="were refused by the carrier", failed=refusals, of=answers)
    if receipts >= brake.sample:
        window = msgspec.structs.replace(window, receipts=now.receipts, undelivered=now.undelivered)
        if found is None and undelivered >= brake.share * receipts:
            found = Failures(kind="could not be delivered", failed=undelivered, of=receipts)
    return found, window


def reason(failures: Failures, sentence: str | None) -> str:
    """What the church reads; ``sentence`` is the most frequent error's."""
    said = f"{failures.failed} of the last {failures.of} texts {failures.kind}."
    return said if sentence is None else f"{said} Most often: {sentence}"
