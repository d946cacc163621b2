"""How the status of a reply moves: it follows delivery's differences, forward only."""

from collections.abc import Iterable, Mapping

from koinonia.events.common import RecipientStatus

RANKS: Mapping[RecipientStatus, int] = {
    # What only we have said, of which any word of the carrier's knows more.
    "queued": 0,
    "sending": 1,
    "unknown": 2,
    "failed": 3,
    "suppressed": 3,
    "cancelled": 3,
    "expired": 3,
    # The carrier's words, as delivery ranks them: a phone that has got the text has got it.
    "sent": 4,
    "unconfirmed": 5,
    "undelivered": 6,
    "delivered": 7,
}


def furthest(changes: Iterable[Mapping[RecipientStatus, int]]) -> RecipientStatus | None:
    """The furthest status that one reply came into, by any of several events, whatever their order; None: into none."""
    entered = [status for change in changes for status, count in change.items() if count > 0]
    return max(entered, key=RANKS.__getitem__, default=None)
