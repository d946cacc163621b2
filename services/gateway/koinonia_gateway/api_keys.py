"""API keys: made, listed, rotated, revoked."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from koinonia import clock
from koinonia.api.auth import ApiKey, ApiKeyCreated, ApiKeyRequest
from koinonia.api.common import Page, PageQuery
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.db.cursor import decode_cursor, encode_cursor
from koinonia.errors import Conflict, NotFound, ValidationFailed
from koinonia.ids import new_id
from koinonia.security import api_keys as secrets
from koinonia_gateway.audit import Actor
from koinonia_gateway.store import api_keys as store

_LISTING = "api_keys"


async def list_page(tx: Transaction, query: PageQuery) -> Page[ApiKey]:
    """The church's keys, newest first."""
    before = decode_cursor(_LISTING, query.cursor, tuple[UUID])[0] if query.cursor else None
    rows = await store.list_page(tx, before, query.limit + 1)
    page = rows[: query.limit]
    has_more = len(rows) > query.limit
    cursor = encode_cursor(_LISTING, (page[-1]["id"],)) if has_more else None
    return Page(data=[_view(row) for row in page], has_more=has_more, next_cursor=cursor)


async def create(tx: Transaction, request: ApiKeyRequest, actor: Actor) -> ApiKeyCreated:
    """Make a key; its text is in this answer and nowhere else.

    Raises:
        ValidationFailed: it would have expired already.
    """
    now = clock.now()
    if request.expires_at is not None and request.expires_at <= now:
        raise ValidationFailed.field("expiresAt", "Must be in the future")
    text, key = secrets.make(request.kind)
    row = await store.insert(
        tx,
        new_id(),
        public_id=key.public_id,
        secret_digest=key.secret_digest,
        name=request.name,
        role=request.role,
        kind=key.kind,
        at=now,
        expires_at=request.expires_at,
    )
    if row is None:
        raise NotFound
    await outbox.add(
        tx, actor.did("api_key.created", target=("api_key", row["id"]), role=request.role, kind=request.kind)
    )
    return ApiKeyCreated(api_key=_view(row), key=text)


async def rotate(tx: Transaction, key_id: UUID, overlap: timedelta, actor: Actor) -> ApiKeyCreated:
    """Make a key's successor, of the same name, kind, role and expiry; both open until the overlap ends.

    Raises:
        NotFound: there is no such key.
        Conflict: it has a successor already, or has expired.
    """
    old = await store.find(tx, key_id)
    if old is None:
        raise NotFound
    now = clock.now()
    text, key = secrets.make(old["kind"])
    row = await store.rotate(
        tx,
        key_id,
        new_id(),
        public_id=key.public_id,
        secret_digest=key.secret_digest,
        at=now,
        ends_at=now + overlap,
    )
    if row is None:
        raise Conflict("This key was rotated already, or has ended.")
    overlap_seconds = str(int(overlap.total_seconds()))
    await outbox.add(
        tx,
        actor.did(
            "api_key.rotated", target=("api_key", key_id), successor=str(row["id"]), overlapSeconds=overlap_seconds
        ),
    )
    return ApiKeyCreated(api_key=_view(row), key=text)


async def revoke(tx: Transaction, key_id: UUID, actor: Actor) -> None:
    """End a key.

    Raises:
        NotFound: there is no such key.
    """
    if not await store.revoke(tx, key_id, clock.now()):
        raise NotFound
    await outbox.add(tx, actor.did("api_key.revoked", target=("api_key", key_id)))


async def show_again(tx: Transaction, key_id: UUID) -> ApiKeyCreated:
    """A key that was made before: without its secret.

    Raises:
        NotFound: it was revoked since.
    """
    row = await store.find(tx, key_id)
    if row is None:
        raise NotFound
    return ApiKeyCreated(api_key=_view(row), key=None)


def _view(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        prefix=f"koi_{row['kind']}_{row['public_id']}",
        role=row["role"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        successor_id=row["successor_id"],
    )
