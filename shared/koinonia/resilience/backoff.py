"""How long to wait before trying again: exponential with full jitter, and what the other side asked for.

It decides, and sleeps nowhere.
"""

import random as chance
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from koinonia import clock

LONGEST_RETRY_AFTER_SECONDS = 3600.0


class RetryAfter(msgspec.Struct, frozen=True):
    """The wait that a server asked for, at most an hour: more is a mistake, and would put work to sleep for days."""

    seconds: float

    @classmethod
    def parse(cls, header: str | None) -> "RetryAfter | None":
        """Read a ``Retry-After`` header, seconds or an HTTP date; None when there is none that can be read.

        Source: RFC 9110, section 10.2.3.
        """
        seconds = _seconds(header.strip()) if header else None
        if seconds is None:
            return None
        return cls(min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS))


def _seconds(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (_aware(at) - clock.now()).total_seconds()


def _aware(at: datetime) -> datetime:
    # "-0000" in the date means: UTC, zone unknown; Python answers it with a naive time.
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """A growing wait: a random share of ``base_seconds`` × ``factor`` per failure, capped at ``max_seconds``.

    Full jitter spreads those who failed together over the whole wait, so that they do not come back together.
    """

    base_seconds: float = 0.1
    max_seconds: float = 30.0
    factor: float = 2.0
    random: Callable[[], float] = chance.random

    def delay_seconds(self, attempt: int, retry_after: RetryAfter | None = None) -> float:
        """The wait after the ``attempt``-th failure, counted from 1; never shorter than what the server asked for."""
        wait = self.ceiling_seconds(attempt) * self.random()
        return wait if retry_after is None else retry_after.seconds + wait

    def ceiling_seconds(self, attempt: int) -> float:
        """The longest wait after the ``attempt``-th failure."""
        if attempt < 1:
            raise ValueError("attempts count from 1")
        try:
            return min(self.max_seconds, self.base_seconds * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_seconds
