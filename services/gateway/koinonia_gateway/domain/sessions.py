"""How long a session lives, and what a refresh token that is shown means."""

from datetime import datetime, timedelta
from typing import Literal

ACCESS_LIFE = timedelta(minutes=10)
IDLE_LIFE = timedelta(hours=24)
WHOLE_LIFE = timedelta(days=30)

Judgement = Literal["good", "replayed", "over"]
"""``good``: it is replaced by a new one; ``replayed``: its family ends; ``over``: it does nothing."""


def session_expiry(now: datetime) -> datetime:
    """When a session that begins now ends in any case."""
    return now + WHOLE_LIFE


def refresh_expiry(now: datetime, session_expires_at: datetime) -> datetime:
    """When a refresh token that is made now ends: after a day unused, and with its session."""
    return min(now + IDLE_LIFE, session_expires_at)


def used_after(now: datetime) -> datetime:
    """When a session must have been used last, not to be over by now."""
    return now - IDLE_LIFE


def access_expiry(now: datetime, session_expires_at: datetime) -> datetime:
    """When an access token that is made now ends."""
    return min(now + ACCESS_LIFE, session_expires_at)


def judge(
    *, now: datetime, expires_at: datetime, replaced_at: datetime | None, session_ended_at: datetime | None
) -> Judgement:
    """What a known refresh token is good for. A replaced one is a replay, however old it is."""
    if session_ended_at is not None:
        return "over"
    if replaced_at is not None:
        return "replayed"
    return "good" if now < expires_at else "over"
