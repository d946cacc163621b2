"""The platform's clock: the only place where Python asks what time it is, so that tests can move it.

Times are aware and in UTC. Comparisons that must agree with Postgres use its clock, in SQL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset = timedelta()
_frozen_at: datetime | None = None


def now() -> datetime:
    """The present, in UTC."""
    return _frozen_at if _frozen_at is not None else datetime.now(UTC) + _offset


@contextmanager
def shifted(seconds: float) -> Iterator[None]:
    """Let time run on, but ``seconds`` ahead (or behind, when negative)."""
    global _offset
    before = _offset
    _offset = before + timedelta(seconds=seconds)
    try:
        yield
    finally:
        _offset = before


@contextmanager
def frozen(at: datetime) -> Iterator[None]:
    """Hold time still at ``at``, which must be aware."""
    global _frozen_at
    if at.tzinfo is None:
        raise ValueError("the clock holds aware times only")
    before, _frozen_at = _frozen_at, at.astimezone(UTC)
    try:
        yield
    finally:
        _frozen_at = before
