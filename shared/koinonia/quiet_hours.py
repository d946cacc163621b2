"""Quiet hours: between which moments a church begins no broadcast. Delivery keeps them, messaging plans by them.

They are worked out from wall times whenever somebody asks, and stored nowhere: whoever was down for a week, or meets a
new rule of a time zone, is right at once.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import count
from zoneinfo import ZoneInfo

import msgspec

_DAY = timedelta(days=1)


class QuietTime(msgspec.Struct, frozen=True):
    """Quiet from ``begins_at`` until before ``ends_at``, in UTC."""

    begins_at: datetime
    ends_at: datetime


class QuietHours(msgspec.Struct, frozen=True):
    """Each day's, as what clocks in the zone show: ``HH:MM``; into the next day where ``until`` is not the later.

    While clocks show a quiet time it is quiet. So a time that comes twice, when clocks are set back, begins them at its
    first coming and ends them at its last; one that is skipped does so when the clocks jump over it.
    """

    timezone: str  # IANA name; one that this machine does not know is read as UTC, or nobody's texts would go
    start: str
    until: str

    def following(self, moment: datetime) -> Iterator[QuietTime]:
        """The quiet time that ``moment`` lies in, or else the next one, and all that follow; some time between each.

        Hours of nearly a whole day leave none where clocks are changed in it: two nights are one then.
        """
        today = moment.astimezone(_zone(self.timezone)).date()
        last: QuietTime | None = None
        for days in count(-2):
            quiet = _of_day(self, today + days * _DAY)
            if moment >= quiet.ends_at or quiet.begins_at >= quiet.ends_at:
                continue
            if last is not None and quiet.begins_at <= last.ends_at:
                quiet = QuietTime(last.begins_at, quiet.ends_at)
            elif last is not None:
                yield last
            last = quiet

    def next(self, moment: datetime) -> QuietTime:
        """The quiet time that ``moment`` lies in, or else the next one."""
        return next(self.following(moment))

    def end_for(self, moment: datetime) -> datetime | None:
        """Until when a text waits that is ready at ``moment``; None: it need not."""
        quiet = self.next(moment)
        return quiet.ends_at if quiet.begins_at <= moment else None


@lru_cache(maxsize=10_000)
def _of_day(hours: QuietHours, day: date) -> QuietTime:
    zone = _zone(hours.timezone)
    start, until = time.fromisoformat(hours.start), time.fromisoformat(hours.until)
    last_day = day + _DAY if until <= start else day
    return QuietTime(
        _moment(datetime.combine(day, start), zone, last=False),
        _moment(datetime.combine(last_day, until), zone, last=True),
    )


def _moment(wall: datetime, zone: ZoneInfo, *, last: bool) -> datetime:
    """When clocks first, or ``last``, show a time; where they skip it: when they jump."""
    at = wall.replace(tzinfo=zone, fold=int(last)).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == wall:
        return at
    # By the offset after the jump it lies before it, and the other way round (PEP 495).
    before, after = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; no name; a folder of zones
        return ZoneInfo("UTC")
