"""How many calls at once a dependency bears, found out by its answer times; it decides, and calls nothing.

Of ``size`` calls under way, size × shortest / measured are being worked on, and the others stand in a queue (Little's
law; after TCP Vegas). So while there is work and next to no queue it grows, and when answers get slow it shrinks.

1. A window is as many answers as there are places, and fifty and a tenth of a second at least. ``measured`` is its
   median: one lucky answer says nothing, for answers differ by nature.
2. ``shortest`` is the lowest median since the last breath.
3. A breath, every few seconds: the floor's places for a window, so that the answer time without a queue is known anew.
   A dependency that has become slower or faster for good is judged by what it is now.
4. Until the first queue it doubles.
5. A window in which places stayed free (there was little work, or rates bound it) says nothing about the size.

Source: L. S. Brakmo, L. L. Peterson, TCP Vegas (1995); the breath is BBR's ProbeRTT (RFC draft-cardwell-iccrg-bbr).
"""

import math
import time
from collections.abc import Callable
from statistics import median

FLOOR = 16
WINDOW_SECONDS, WINDOW_ANSWERS = 0.1, 50
BREATH_SECONDS = 10.0
GROW_SHARE, SHRINK_SHARE = 1 / 3, 1 / 2
"""The queue as a share of the places: below the first it grows, above the second it shrinks, by a tenth.

So at most as many wait as are being worked on. With narrower bounds it takes the noise of a busy machine for a queue: a
tenth and a quarter brought it down to its floor there, and the throughput to a quarter.
"""


class Limit:
    """The number of places for calls, from ``floor`` to ``most``; it begins at the floor.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, most: int, *, floor: int = FLOOR, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._floor = min(floor, most)
        self._clock = clock
        self._grown = self._floor  # the size outside breaths
        self._is_starting = True
        self._breathing = False
        self._breathed_at = self._window_began_at = clock()
        self._shortest = math.inf
        self._answers: list[float] = []
        self._fullest = 0

    @property
    def size(self) -> int:
        """How many calls may be under way now."""
        return self._floor if self._breathing else self._grown

    def note(self, seconds: float, under_way: int) -> None:
        """A call was answered so long after it began; ``under_way`` were there when it began, itself included."""
        if under_way > self.size:
            return  # it began before the size shrank
        self._answers.append(seconds)
        self._fullest = max(self._fullest, under_way)
        now = self._clock()
        if len(self._answers) >= max(self.size, WINDOW_ANSWERS) and now - self._window_began_at >= WINDOW_SECONDS:
            self._judge(median(self._answers), was_full=self._fullest >= 0.9 * self.size, now=now)
            self._answers.clear()
            self._fullest = 0
            self._window_began_at = now

    def _judge(self, measured: float, *, was_full: bool, now: float) -> None:
        if self._breathing:
            self._shortest = measured
            self._breathing = False
            self._breathed_at = now
            return
        self._shortest = min(self._shortest, measured)
        if not was_full:
            return
        queue = self._grown * (1 - self._shortest / measured) if measured > 0 else 0.0
        self._is_starting = self._is_starting and queue < GROW_SHARE * self._grown
        step = max(1, self._grown // 10)
        if queue < GROW_SHARE * self._grown:
            self._grown = min(self._most, self._grown + (self._grown if self._is_starting else step))
        elif queue > SHRINK_SHARE * self._grown:
            self._grown = max(self._floor, self._grown - step)
        self._breathing = now - self._breathed_at >= BREATH_SECONDS
