"""Rates as operators write them, and the windows in which they are counted."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FORM = re.compile(r"(?P<amount>[1-9]\d{0,8})/(?P<count>[1-9]\d{0,4})?(?P<unit>[smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FACTOR = re.compile(r"(?P<plan>[a-z0-9_-]{1,50})=(?P<factor>[1-9]\d{0,3})")
BLOCKS = 20  # a limit is taken in about so many blocks, each by one round trip
_LAST_BLOCKS = 10  # a block is no more than this part of what is left


class RateInvalid(ValueError):
    """A rate is written as ``5/15m``: how many, in how many seconds, minutes, hours or days."""


def parse_factors(text: str) -> Mapping[str, int]:
    """Read ``standard=2,large=5``: by plan, how many times its churches' limits are the usual ones.

    Raises:
        RateInvalid: it is written otherwise, or names a plan twice.
    """
    forms = [_FACTOR.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    factors = {form["plan"]: int(form["factor"]) for form in forms if form is not None}
    if len(factors) != len(forms):
        raise RateInvalid("expected factors such as standard=2,large=5")
    return factors


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

    def block(self, left: int) -> int:
        """How many are taken at once from a shared count that had so many left: not every request asks for itself.

        Towards the end the blocks shrink, so that what is left is not held by a gateway that does not need it.
        """
        return max(1, min(self.amount // BLOCKS, left // _LAST_BLOCKS))

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
    policy: str = "default"

    @property
    def exceeded(self) -> bool:
        return self.remaining < 0

    @property
    def left(self) -> int:
        return max(0, self.remaining)

    def headers(self) -> dict[str, str]:
        """What the caller is told of it."""
        return headers_of([self])


def headers_of(standings: Sequence[Standing]) -> dict[str, str]:
    """What a caller is told of the limits that a request counted against; in the old names, of the one nearest its end.

    Source: draft-ietf-httpapi-ratelimit-headers, and the three names of its versions up to 06.
    """
    nearest = min(standings, key=lambda each: each.remaining)
    return {
        "RateLimit": ", ".join(f'"{each.policy}";r={each.left};t={each.seconds_left}' for each in standings),
        "RateLimit-Policy": ", ".join(
            f'"{each.policy}";q={each.rate.amount};w={each.rate.seconds}' for each in standings
        ),
        "RateLimit-Limit": str(nearest.rate.amount),
        "RateLimit-Remaining": str(nearest.left),
        "RateLimit-Reset": str(nearest.seconds_left),
    }
