"""API keys: made, listed, rotated, revoked.

Who does so is looked at again under the church's lock, which whoever changes admins holds too: neither an admin who was
removed a moment ago nor a key that was revoked leaves a key behind. Owners get an e-mail of the first that somebody
makes in an hour.
"""

from datetime import timedelta
from uuid import UUID

import asyncpg

from koinonia import clock, emails
from koinonia.api.auth import ApiKey, ApiKeyCreated, ApiKeyRequest
from koinonia.api.common import Page, PageQuery
from koinonia.api.endpoint import MANAGERS
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.db.cursor import decode_cursor, encode_cursor
from koinonia.errors import AuthenticationFailed, Conflict, Forbidden, NotFound, ValidationFailed
from koinonia.ids import derived_id, new_id
from koinonia.security import api_keys as secrets
from koinonia.security.keys import Keys
from koinonia_gateway.audit import Actor
from koinonia_gateway.store import admins
from koinonia_gateway.store import api_keys as store

_LISTING = "api_keys"
_NOTICE_LIFE = timedelta(days=2)  # so long it is worth telling that there is a new key


class NotItself(Forbidden):
    """A key rotates itself and no other."""


async def list_page(tx: Transaction, query: PageQuery) -> Page[ApiKey]:
    """The church's keys, newest first."""
    before = decode_cursor(_LISTING, query.cursor, tuple[UUID])[0] if query.cursor else None
    rows = await store.list_page(tx, before, query.limit + 1)
    page = rows[: query.limit]
    has_more = len(rows) > query.limit
    cursor = encode_cursor(_LISTING, (page[-1]["id"],)) if has_more else None
    return Page(data=[_view(row) for row in page], has_more=has_more, next_cursor=cursor)


async def create(tx: Transaction, keys: Keys, request: ApiKeyRequest, actor: Actor) -> ApiKeyCreated:
    """Make a key; its text is in this answer and nowhere else.

    Raises:
        AuthenticationFailed: the actor is no admin any more.
        Forbidden: the actor has another role by now.
        ValidationFailed: it would have expired already.
    """
    church, acting = await _lock(tx, actor)
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
        admin_id=_admin_of(actor),
    )
    if row is None:
        raise NotFound
    await outbox.add(
        tx, actor.did("api_key.created", target=("api_key", row["id"]), role=request.role, kind=request.kind)
    )
    await _tell_owners(tx, keys, church, actor, acting, key_name=request.name)
    return ApiKeyCreated(api_key=_view(row), key=text)


async def rotate(tx: Transaction, keys: Keys, key_id: UUID, overlap: timedelta, actor: Actor) -> ApiKeyCreated:
    """Make a key's successor, of the same name, kind, role and expiry; both open until the overlap ends.

    Raises:
        AuthenticationFailed: the actor is no admin, or no key, any more.
        Forbidden: the actor has another role by now, or is another key.
        NotFound: there is no such key.
        Conflict: it has a successor already, or has expired.
    """
    church, acting = await _lock(tx, actor)
    old = await store.find(tx, key_id)
    if old is None:
        raise NotFound
    if actor.kind == "api_key" and actor.id != key_id:
        raise NotItself
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
        admin_id=_admin_of(actor),
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
    await _tell_owners(tx, keys, church, actor, acting, key_name=old["name"])
    return ApiKeyCreated(api_key=_view(row), key=text)


async def revoke(tx: Transaction, key_id: UUID, actor: Actor) -> None:
    """End a key; its successor stays.

    Raises:
        AuthenticationFailed: the actor is no admin, or no key, any more.
        Forbidden: the actor has another role by now.
        NotFound: there is no such key.
    """
    await _lock(tx, actor)
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


async def _lock(tx: Transaction, actor: Actor) -> tuple[str, asyncpg.Record]:
    """Let nobody change admins or keys until the transaction ends; answers the church's name, and the actor's row.

    Raises:
        AuthenticationFailed: the admin was removed, or the key revoked, a moment ago.
        Forbidden: the role is another by now.
    """
    church = await admins.lock_church(tx)
    if actor.id is None:
        raise AuthenticationFailed
    row = await (store if actor.kind == "api_key" else admins).find(tx, actor.id)
    if row is None:
        raise AuthenticationFailed
    if row["role"] not in MANAGERS:
        raise Forbidden
    return church, row


async def _tell_owners(
    tx: Transaction, keys: Keys, church: str, actor: Actor, maker: asyncpg.Record, *, key_name: str
) -> None:
    """Mail to each owner that a key was made: whoever sits at an open browser, or has stolen a key, could.

    Of what one person makes in an hour, and of what all keys do, one e-mail tells: nobody fills a mailbox with them.
    """
    name, whose = f"A program with the API key “{key_name}”", b"programs"  # it rotates itself, and has another id then
    if actor.kind == "session":
        name, whose = f"{maker['first_name']} {maker['last_name']}", maker["id"].bytes
    said = {"church": church, "maker": name, "key": key_name}
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    for owner in (await admins.list_deciding(tx)).values():
        await emails.request(
            tx,
            keys,
            tx.tenant,
            "api-key-made",
            email_ciphertext=owner["email_ciphertext"],
            fields={"name": owner["first_name"], **said},
            email_id=derived_id(hour, tx.tenant.bytes, b"api-key-made", owner["id"].bytes, whose),
            expires_at=clock.now() + _NOTICE_LIFE,
        )


def _admin_of(actor: Actor) -> UUID | None:
    return actor.id if actor.kind == "session" else None


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
        created_by=row["created_by"],
    )
