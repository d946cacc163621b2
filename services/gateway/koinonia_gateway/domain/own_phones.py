"""Codes that are texted to an admin's own phone: how long they are good, and how many there are."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

CODE_LIFE = timedelta(minutes=10)
TRIES = 5  # of one code
CODES = 5  # of one admin in an hour: with their tries, 25 guesses at a million
COUNTED = timedelta(hours=1)


def make_code() -> str:
    """Six digits that nobody can foresee."""
    return f"{secrets.randbelow(1_000_000):06}"


def signed(admin_id: UUID, phone_index: bytes, code: str) -> bytes:
    """What is signed in place of the code, which is nowhere stored: it is good for this admin and phone alone."""
    return admin_id.bytes + phone_index + code.encode()


def text_of(church: str, code: str) -> str:
    """The text that brings a code."""
    return (
        f"{church}: {code} is your code to confirm this phone. It works for 10 minutes. "
        "If you did not ask for it, ignore this text."
    )


def next_count(counted_since: datetime, codes: int, now: datetime) -> tuple[datetime, int]:
    """Since when codes are counted, and how many they are with one more."""
    return (now, 1) if now >= counted_since + COUNTED else (counted_since, codes + 1)
