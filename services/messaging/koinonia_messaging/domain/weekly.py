"""A church's weekly limit: no more broadcasts than so many reach a number in seven days. Urgent ones pass over it."""

from datetime import datetime, timedelta

import msgspec

WEEK = timedelta(days=7)


class WeeklyLimit(msgspec.Struct, frozen=True):
    """Of which texts a number gets no more."""

    texts: int
    since: datetime  # what it had until then counts no more


def limit_at(texts: int | None, at: datetime, *, urgent: bool, test: bool) -> WeeklyLimit | None:
    """The limit that a text of that time is held to; a test reaches nobody. None: to none."""
    return None if texts is None or urgent or test else WeeklyLimit(texts, at - WEEK)
