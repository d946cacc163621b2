"""A circuit breaker: after some failures in a row it stops asking a dependency, then lets exactly one call try.

One per dependency and process, used from one event loop. Its states, and what moves it:

1. closed: calls pass; ``failures`` of them failing in a row open it.
2. open: calls are refused at once with ``BreakerOpen``, for ``open_seconds``.
3. half open: the next call is the probe; all others are refused until it ends, or is passed before. Success closes,
   failure opens again, and a probe that ends without a verdict (it was cancelled) lets the next call be the probe.

A call that began before the last change of state says nothing about the present one: its result is not counted.

One line in the log tells of its opening, however many probes fail after it, and one of its closing.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog

from koinonia import metrics
from koinonia.errors import DependencyUnavailable, is_transient

log = structlog.get_logger()

State = Literal["closed", "open", "half_open"]


class BreakerOpen(DependencyUnavailable):
    """A part of the platform is away; try again in a moment."""

    def __init__(self, name: str, wait_seconds: float) -> None:
        super().__init__(retry_after_seconds=max(1, math.ceil(wait_seconds)))
        self.name = name
        self.wait_seconds = wait_seconds


class Call:
    """One call let through; ``fail()`` marks it failed where an answer, not an exception, says so.

    Attributes:
        is_probe: all others are refused until this one ends.
    """

    def __init__(self, generation: int, *, is_probe: bool = False) -> None:
        self.generation = generation
        self.is_probe = is_probe
        self.failed = False
        self.excused = False

    def fail(self) -> None:
        """Count this call as a failure of the dependency."""
        self.failed = True

    def excuse(self) -> None:
        """Let this call's end be no verdict: it was somebody else who failed."""
        self.excused = True


class Breaker:
    """The switch in front of one dependency.

    Args:
        failures: how many in a row open it.
        open_seconds: how long it stays open before the probe.
        is_failure: whether an exception means that the dependency is away; any other means that it answered.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        open_seconds: float = 5.0,
        is_failure: Callable[[BaseException], bool] = is_transient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.openings = 0
        self._failures = failures
        self._open_seconds = open_seconds
        self._is_failure = is_failure
        self._clock = clock
        self._failed_in_a_row = 0
        self._opened_at: float | None = None
        self._probing = False
        self._generation = 0
        metrics.switches.add(self)

    @property
    def state(self) -> State:
        """The state now; an open breaker whose time has passed is half open, even before its probe comes."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._probing or self._wait_seconds() <= 0 else "open"

    @contextmanager
    def guard(self) -> Iterator[Call]:
        """Let one call through, and count how it ends; its time limit stands inside, or its end is no verdict.

        Raises:
            BreakerOpen: the dependency is not asked now.
        """
        call = self._admit()
        try:
            yield call
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            self._end(call, failed=None)
            raise
        except BaseException as error:
            self._end(call, failed=None if call.excused else call.failed or self._is_failure(error))
            raise
        self._end(call, failed=None if call.excused else call.failed)

    def pass_probe(self, call: Call) -> None:
        """Close before the probe has ended: the dependency is there, and slow. How the probe ends is not counted."""
        if call.is_probe:
            self._end(call, failed=False)

    def _admit(self) -> Call:
        if self._opened_at is not None:
            if self._probing or self._wait_seconds() > 0:
                raise BreakerOpen(self.name, max(self._wait_seconds(), 0.0))
            self._probing = True
            self._generation += 1
        return Call(self._generation, is_probe=self._probing)

    def _wait_seconds(self) -> float:
        return 0.0 if self._opened_at is None else self._opened_at + self._open_seconds - self._clock()

    def _end(self, call: Call, *, failed: bool | None) -> None:
        if call.generation != self._generation:
            return
        if failed is None:
            self._probing = False
        elif failed:
            self._count_failure()
        else:
            self._close()

    def _count_failure(self) -> None:
        self._failed_in_a_row += 1
        if self._probing or self._failed_in_a_row >= self._failures:
            if self._opened_at is None:
                log.warning("breaker_opened", breaker=self.name, failures=self._failed_in_a_row)
            self._opened_at = self._clock()
            self._probing = False
            self._generation += 1
            self.openings += 1

    def _close(self) -> None:
        self._failed_in_a_row = 0
        if self._probing:
            log.info("breaker_closed", breaker=self.name)
            self._opened_at = None
            self._probing = False
            self._generation += 1
