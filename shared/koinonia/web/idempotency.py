"""Idempotency keys: the same request twice has its effect once, and gets its first answer again for 24 hours.

A key belongs to church, principal and path, and is written in the transaction of its effect. Two guards make one effect
of two twins:

1. Running together: the second does not get the try-lock and is refused with 409 at once; nobody waits.
2. One after the other, so close that the second's snapshot is older than the first's commit while the lock is free
   again: the second finds no row, does its work, and its own row meets the first's: the write touches no row, the
   work is rolled back, 409.

No answer is stored, only its status and the id of what was made: the answer is rebuilt from that.
"""

import hashlib
import re
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from koinonia.db import Transaction, statement
from koinonia.errors import Conflict, IdempotencyMismatch, ValidationFailed

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

_SANE = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A request's key, where it holds, and what the request was."""

    principal_id: UUID
    path: str
    key: str
    body_hash: bytes

    @property
    def stored(self) -> str:
        """What is stored of the key: a client may have made it of a phone or an address."""
        return hashlib.sha256(self.key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Replay:
    """The first answer: its status, and what was made."""

    status: int
    made_id: UUID | None


class BodyHash:
    """What a request is, in 32 bytes: its type, its query, and its body as that comes."""

    def __init__(self, request: web.Request) -> None:
        content_type = request.headers.get("Content-Type", "")
        self._hash = hashlib.sha256(content_type.encode(errors="replace") + b"\n")
        self._hash.update(request.query_string.encode(errors="replace") + b"\n")

    def update(self, part: bytes) -> None:
        self._hash.update(part)

    def digest(self) -> bytes:
        return self._hash.digest()


def key_of(request: web.Request, principal_id: UUID, body_hash: BodyHash) -> Key | None:
    """The key that the request carries, or None."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _SANE.fullmatch(key):
        raise ValidationFailed.field(HEADER, "Must be 1 to 255 visible ASCII characters")
    return Key(
        principal_id=principal_id,
        path=f"{request.method} {request.path}",
        key=key,
        body_hash=body_hash.digest(),
    )


CLAIM = statement(
    "idempotency.claim",
    """
    SELECT
        pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', 'idempotency', $1, $2, $3, $4), 0)) AS free,
        earlier.body_hash,
        earlier.status,
        earlier.result_id
    FROM (VALUES (1)) AS always
    LEFT JOIN idempotency_keys AS earlier
        ON earlier.church_id = $1::text::uuid
        AND earlier.principal_id = $2::text::uuid
        AND earlier.path = $3
        AND earlier.key = $4
        AND earlier.created_at > now() - interval '24 hours'
    """,
)


async def claim(tx: Transaction, key: Key) -> Replay | None:
    """Take the key for this transaction, or find the answer that it had.

    Raises:
        Conflict: the same request is still running.
        IdempotencyMismatch: the key was used for another request.
    """
    row = await tx.fetch_row(CLAIM, str(tx.tenant), str(key.principal_id), key.path, key.stored)
    if row is None or row["body_hash"] is None:
        if row is None or not row["free"]:
            raise Conflict("The same request is still running.")
        return None
    if row["body_hash"] != key.body_hash:
        raise IdempotencyMismatch
    return Replay(row["status"], row["result_id"])


STORE = statement(
    "idempotency.store",
    """
    INSERT INTO idempotency_keys AS kept (church_id, principal_id, path, key, body_hash, status, result_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (church_id, principal_id, path, key) DO UPDATE
    SET body_hash = excluded.body_hash,
        status = excluded.status,
        result_id = excluded.result_id,
        created_at = excluded.created_at
    WHERE kept.created_at <= now() - interval '24 hours'
    """,
)


async def store(tx: Transaction, key: Key, status: int, made_id: UUID | None) -> None:
    """Keep the answer of the request that this transaction carries out.

    Raises:
        Conflict: a twin was faster; this transaction must be rolled back.
    """
    stored = await tx.execute(STORE, tx.tenant, key.principal_id, key.path, key.stored, key.body_hash, status, made_id)
    if stored == 0:
        raise Conflict("The same request was just carried out.")


_FORGET = statement(
    "idempotency.forget",
    """
    DELETE FROM idempotency_keys
    WHERE ctid = ANY (
        ARRAY(
            SELECT ctid
            FROM idempotency_keys
            WHERE created_at <= now() - interval '24 hours'
            ORDER BY created_at
            LIMIT $1
        )
    )
    """,
)


async def forget(tx: Transaction, limit: int) -> int:
    """Delete keys that no longer hold, ``limit`` at most, of all churches; returns how many."""
    return await tx.execute(_FORGET, limit)
