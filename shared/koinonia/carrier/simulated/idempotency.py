"""Idempotency keys as Telnyx documents them: 24 hours, successful answers only, other bytes 422, 409 while running.

Source: developers.telnyx.com, docs/development/api-fundamentals/idempotency. It does not publish the error codes of the
409 and the 422; those here are stand-ins, and clients must not depend on them.
"""

import hashlib
import re
from datetime import datetime, timedelta

import msgspec

from koinonia import clock
from koinonia.carrier.simulated.errors import TelnyxError, malformed
from koinonia.carrier.simulated.record import Text

KEPT = timedelta(hours=24)
_WELL_FORMED = re.compile(r"[A-Za-z0-9_:-]{1,255}")


class _Use(msgspec.Struct):
    body: bytes  # its hash
    at: datetime
    text: Text | None = None  # None: still running


class Keys:
    """The keys used in the last 24 hours, oldest first."""

    def __init__(self) -> None:
        self._uses: dict[str, _Use] = {}

    def begin(self, key: str, body: bytes) -> Text | None:
        """Take a key for a new request; the text that an earlier one made, if this is its repeat.

        Raises:
            TelnyxError: the key is malformed (400), its first use is running (409), or it had another body (422).
        """
        if not _WELL_FORMED.fullmatch(key):
            raise malformed("The Idempotency-Key header is not well-formed.")
        now = clock.now()
        self._forget_old(now)
        digest = hashlib.blake2b(body, digest_size=16).digest()
        use = self._uses.get(key)
        if use is None:
            self._uses[key] = _Use(digest, now)
            return None
        if use.body != digest:
            raise TelnyxError(422, "10027", "Idempotency key reused", "The key was used with another request.")
        if use.text is None:
            raise TelnyxError(409, "10028", "Idempotency key in use", "The first request with this key is running.")
        return use.text

    def finish(self, key: str, text: Text) -> None:
        """Keep the result."""
        if (use := self._uses.get(key)) is not None:
            use.text = text

    def forget(self, key: str) -> None:
        """Give the key back: its request did not succeed."""
        self._uses.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._uses.clear()

    def _forget_old(self, now: datetime) -> None:
        while self._uses:
            oldest = next(iter(self._uses))
            if now - self._uses[oldest].at < KEPT:
                return
            del self._uses[oldest]
