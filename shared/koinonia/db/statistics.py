"""Counts of statements and their time: per request or event, and for budgets in tests.

A ``StatementLog`` is opened around a piece of work (a request, an event, a test); every statement of that context,
other than BEGIN, COMMIT and the naming of role and tenant, is noted in it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
    metrics.statement_seconds.record(seconds, {"statement": name})
    if seconds > SLOW_SECONDS:
        log.warning("statement_slow", statement=name, milliseconds=round(seconds * 1000))
