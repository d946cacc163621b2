"""Rates per number: over its rate, a text is accepted and queued, for four hours at most; then 40318.

Source: developers.telnyx.com, docs/messaging/messages/rate-limiting and docs/messaging/10dlc/10dlc-rate-limits (a
charity's campaign: 2,400 segments a minute at AT&T), as of 2026-11.
"""

from typing import Literal

from koinonia.carrier.simulated.errors import TelnyxError
from koinonia.carrier.simulated.registry import Number

QUEUE_SECONDS = 4 * 3600.0
_US_LONG_CODE, _OTHER_LONG_CODE = 40.0, 0.1
_REAL = {"toll-free": 20.0, "short-code": 1000.0}


class Limits:
    """When each number is free again, on the monotonic clock."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def take(self, number: Number, parts: int, rate: Literal["none", "real"] | float, now: float) -> float:
        """Take the place of ``parts`` segments; how many seconds they wait for it."""
        if rate == "none":
            return 0.0
        start = max(now, self._free_at.get(number.phone, now))
        if start - now > QUEUE_SECONDS:
            raise TelnyxError(
                429, "40318", "Message queue full", "The sender has more than four hours of texts queued."
            )
        self._free_at[number.phone] = start + parts / (rate if isinstance(rate, float) else _real_rate(number))
        return start - now

    def clear(self) -> None:
        """Empty the queues."""
        self._free_at.clear()


def _real_rate(number: Number) -> float:
    if number.kind == "long-code":
        return _US_LONG_CODE if number.phone.startswith("+1") else _OTHER_LONG_CODE
    return _REAL[number.kind]
