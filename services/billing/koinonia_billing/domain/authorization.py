"""Whether a plan covers a broadcast."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DeclineReason = Literal["plan_limit", "no_subscription", "suspended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a church stands with its plan; segments."""

    status: str
    church_status: str
    period_end: datetime
    included: int
    used: int
    reserved: int  # for broadcasts that are not settled, beyond what they have used
    has_overage: bool

    @property
    def remaining(self) -> int:
        """What is neither used nor reserved."""
        return max(0, self.included - self.used - self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to a question; ``declined`` is None when the plan covers it."""

    declined: DeclineReason | None
    available: int  # segments that the question could have had


def decide(standing: Standing, *, bound: int, held: int, used: int, now: datetime) -> Decision:
    """Decide on a broadcast of at most ``bound`` segments that has used ``used`` and holds ``held`` reserved ones."""
    available = standing.remaining + held + used
    if standing.church_status != "active":
        return Decision(declined="suspended", available=0)
    if standing.status == "canceled" or (standing.status == "trialing" and now >= standing.period_end):
        return Decision(declined="no_subscription", available=0)
    if bound > available and not standing.has_overage:
        return Decision(declined="plan_limit", available=available)
    return Decision(declined=None, available=available)


def held_segments(bound: int, used: int) -> int:
    """What a reservation still holds after some of it was used."""
    return max(0, bound - used)


def credited_segments(bound: int, sent: int, in_flight: int) -> int:
    """What a stopped broadcast that had reserved ``bound`` cannot use any more."""
    return max(0, bound - sent - in_flight)


def credited_cents(*, overage_cents: int | None, included: int, taken: int, credited: int) -> int:
    """What ``credited`` segments would have cost on top of the ``taken`` ones, used or still reserved."""
    beyond = max(0, taken + credited - included) - max(0, taken - included)
    return beyond * (overage_cents or 0)


def cost_cents(*, price_cents: int, overage_cents: int | None, included: int, used: int) -> int:
    """What a period costs: the plan's price, and each segment beyond the included."""
    return price_cents + max(0, used - included) * (overage_cents or 0)
