"""Rates as operators write them, and the windows in which they are counted."""

import math
import re
from dataclasses import dataclass

_FORM = re.compile(r"(?P<amount>[1-9]\d{0,8})/(?P<count>[1-9]\d{0,4})?(?P<unit>[smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BLOCKS = 20  # a limit is taken in about so many blocks, each by one round trip


class RateInvalid(ValueError):
    """A rate is written as ``5/15m``: how many, in how many seconds, minutes, hours or days."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a window of so many seconds."""

    amount: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``5/15m``.

        Raises:
            RateInvalid: it is written otherwise.
        """
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise RateInvalid("expected a rate such as 5/15m")
        return cls(int(form["amount"]), int(form["count"] or 1) * _UNIT_SECONDS[form["unit"]])

    def times(self, factor: int) -> "Rate":
        """So many times as much in the same window."""
        return Rate(self.amount * factor, self.seconds)

    @property
    def block(self) -> int:
        """How many are taken at once from the shared count, so that not every request asks for itself."""
        return max(1, self.amount // _BLOCKS)

    def window(self, now: float) -> int:
        """The number of the window that a Unix time lies in; all gateways agree on it."""
        return int(now // self.seconds)

    def seconds_left(self, now: float) -> int:
        """Whole seconds until the next window begins; at least one."""
        return max(1, math.ceil((self.window(now) + 1) * self.seconds - now))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with a rate after one more request."""

    rate: Rate
    remaining: int  # below zero: this request is one too many
    seconds_left: int

    @property
    def exceeded(self) -> bool:
        return self.remaining < 0

    def headers(self) -> dict[str, str]:
        """Source: draft-ietf-httpapi-ratelimit-headers, and the three names of its versions up to 06."""
        left = max(0, self.remaining)
        return {
            "RateLimit": f'"default";r={left};t={self.seconds_left}',
            "RateLimit-Policy": f'"default";q={self.rate.amount};w={self.rate.seconds}',
            "RateLimit-Limit": str(self.rate.amount),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(self.seconds_left),
        }
