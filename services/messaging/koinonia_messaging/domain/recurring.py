"""What a recurring message does when its time has come: which slot runs, which are passed over, what comes next."""

from collections import deque
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from koinonia_messaging.domain.recurrence import instant, parse, slots, wall_time

MissedRuns = Literal["once", "skip"]
ON_TIME = timedelta(minutes=15)
"""A run that begins so late is on time; a later one was missed."""
SHOWN_RUNS = 5
PASSED_KEPT = 100
"""Of the slots that are passed over at a time, the last so many are told."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and the wall time of its beginning, in a zone."""

    rrule: str
    timezone: str
    start_at: datetime  # wall time

    @property
    def zone(self) -> ZoneInfo:
        """The zone; those of the schedules that are kept have been checked."""
        return ZoneInfo(self.timezone)

    def at(self, slot: datetime) -> datetime:
        """When a slot is, in UTC."""
        return instant(slot, self.zone)

    def upcoming(self, now: datetime) -> list[datetime]:
        """The next slots after ``now``; none: it has ended.

        Raises:
            BadRule: the rule cannot be kept.
        """
        zone = self.zone
        rule = parse(self.rrule, zone)
        # A wall time that the clocks skip is later than it says: look from a day before on.
        found = slots(rule, self.start_at, wall_time(now, zone) - timedelta(days=1))
        return list(islice((slot for slot in found if instant(slot, zone) > now), SHOWN_RUNS))


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the slots whose time has come. ``passed``: in order, no message is made for them."""

    run: datetime | None
    passed: tuple[datetime, ...]
    upcoming: tuple[datetime, ...]


def take_turn(schedule: Schedule, since: datetime, now: datetime, missed_runs: MissedRuns) -> Turn:
    """Judge the slots from ``since`` on that are due: one message at most, however many were missed."""
    zone = schedule.zone
    due: deque[datetime] = deque(maxlen=PASSED_KEPT + 1)
    for slot in slots(parse(schedule.rrule, zone), schedule.start_at, since):
        if instant(slot, zone) > now:
            break
        due.append(slot)
    upcoming = tuple(schedule.upcoming(now))
    if not due:
        return Turn(run=None, passed=(), upcoming=upcoming)
    goes = missed_runs == "once" or now - instant(due[-1], zone) <= ON_TIME
    return Turn(run=due[-1] if goes else None, passed=tuple(due)[:-1] if goes else tuple(due), upcoming=upcoming)
