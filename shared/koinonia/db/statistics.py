"""Counts of statements and their time: per request or event, and for budgets in tests.

A ``StatementLog`` is opened around a piece of work (a request, an event, a test); every statement of that context,
other than BEGIN, COMMIT and the naming of role and tenant, is noted in it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

from koinonia import metrics

SLOW_SECONDS = 0.1
REPEATED_COUNT = 10

log = structlog.get_logger()

_current: ContextVar["StatementLog | None"] = ContextVar("statement_log", default=None)
_observers: list["StatementLog"] = []


class StatementLog:
    """What one piece of work asked of the database."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self.seconds = 0.0

    @property
    def count(self) -> int:
        return self.by_name.total()

    @property
    def repeated(self) -> list[str]:
        """Names of statements that ran more than ten times: most likely one per row."""
        return [name for name, count in self.by_name.items() if count > REPEATED_COUNT]


@dataclass(slots=True)
class Timing:
    """How often a statement ran in this process, and how long."""

    calls: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0

    @property
    def mean_ms(self) -> float:
        return round(self.seconds / self.calls * 1000, 2)

    @property
    def longest_ms(self) -> float:
        return round(self.longest_seconds * 1000, 2)


_timings: dict[str, Timing] = {}  # names are constants of the code


def slowest(count: int) -> list[tuple[str, Timing]]:
    """The statements of this process with the longest single run, the slowest first."""
    return sorted(_timings.items(), key=lambda each: each[1].longest_seconds, reverse=True)[:count]


@contextmanager
def statement_log() -> Iterator[StatementLog]:
    """Note the statements of this context, and of tasks started in it."""
    noted = StatementLog()
    token = _current.set(noted)
    try:
        yield noted
    finally:
        _current.reset(token)


@contextmanager
def all_statements() -> Iterator[StatementLog]:
    """Note the statements of the whole process: for budgets in tests."""
    noted = StatementLog()
    _observers.append(noted)
    try:
        yield noted
    finally:
        _observers.remove(noted)


def note(name: str, seconds: float) -> None:
    """Count one statement that has run."""
    current = _current.get()
    for noted in (current, *_observers) if current is not None else _observers:
        noted.by_name[name] += 1
        noted.seconds += seconds
    timing = _timings.get(name)
    if timing is None:
        timing = _timings[name] = Timing()
    timing.calls += 1
    timing.seconds += seconds
    timing.longest_seconds = max(timing.longest_seconds, seconds)
    metrics.statement_seconds.record(seconds, {"statement": name})
    if seconds > SLOW_SECONDS:
        log.warning("statement_slow", statement=name, milliseconds=round(seconds * 1000))
