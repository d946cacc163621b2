"""Admins of a church: invited, joined, given another role, removed.

Whoever changes them holds the church's row, so that of two owners who remove one another at once one stays, and decides
by what the actor may now, not by what a request was let in with a moment ago.
"""

from uuid import UUID

import asyncpg

from koinonia import clock, emails
from koinonia.api.admins import AdminUser, InvitationAcceptance, InvitationRequest
from koinonia.api.common import Page, PageQuery
from koinonia.bus import outbox
from koinonia.db import Database, Transaction
from koinonia.db.cursor import decode_cursor, encode_cursor
from koinonia.errors import AuthenticationFailed, Conflict, Forbidden, NotFound
from koinonia.events.gateway import AdminChanged
from koinonia.ids import new_id
from koinonia.security import tokens
from koinonia.security.identity import Role
from koinonia.security.keys import Keys
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import admins as rules
from koinonia_gateway.store import admins as store
from koinonia_gateway.store import invitations, mfa, own_phones, sessions

_LISTING = "admins"


class OnlyOwners(Forbidden):
    """Only owners invite, change or remove owners."""


class LastOwner(Conflict):
    """A church keeps an owner, and this is the last one."""


class AdminKnown(Conflict):
    """Somebody with this e-mail address is an admin already, or invited."""


class InvitationOver(AuthenticationFailed):
    """This invitation was used, withdrawn or has expired."""


class LoginTaken(Conflict):
    """Somebody logs in with this e-mail address already."""


_REFUSALS = {"only_owners": OnlyOwners, "last_owner": LastOwner}


async def list_page(tx: Transaction, keys: Keys, query: PageQuery) -> Page[AdminUser]:
    """The church's admins and who is invited, newest first."""
    before = decode_cursor(_LISTING, query.cursor, tuple[UUID])[0] if query.cursor else None
    rows = await store.list_page(tx, before, query.limit + 1)
    page = rows[: query.limit]
    has_more = len(rows) > query.limit
    cursor = encode_cursor(_LISTING, (page[-1]["id"],)) if has_more else None
    return Page(data=[view(tx, keys, row) for row in page], has_more=has_more, next_cursor=cursor)


async def show(tx: Transaction, keys: Keys, admin_id: UUID) -> AdminUser:
    """An admin, or who is invited.

    Raises:
        NotFound: the church has none such (any more).
    """
    row = await store.find(tx, admin_id)
    if row is None:
        raise NotFound
    return view(tx, keys, row)


async def invite(tx: Transaction, keys: Keys, request: InvitationRequest, actor: Actor) -> AdminUser:
    """Invite somebody by e-mail. Nothing is asked of other churches, so that the answer cannot tell of them.

    Raises:
        OnlyOwners: a new owner, by somebody who is none.
        AdminKnown: this church has or has invited somebody with this e-mail.
    """
    church = await store.lock_church(tx)
    await _end_expired(tx)
    inviter, _ = await _decide(tx, actor, None, request.role)
    login_index = keys.login_index(request.email)
    if await store.is_known(tx, login_index):
        raise AdminKnown
    now, admin_id, token = clock.now(), new_id(), tokens.make_opaque()
    expires_at = now + rules.INVITATION_LIFE
    email_ciphertext = keys.encrypt(request.email, tx.tenant, "email")
    name = {"first_name": request.first_name, "last_name": request.last_name}
    await store.invite(tx, admin_id, **name, email_ciphertext=email_ciphertext, role=request.role, at=now)
    await invitations.insert(tx, admin_id, digest=token.digest, login_index=login_index, expires_at=expires_at)
    await emails.request(
        tx,
        keys,
        tx.tenant,
        "invitation",
        email_ciphertext=email_ciphertext,
        fields={
            "name": request.first_name,
            "church": church,
            "inviter": f"{inviter['first_name']} {inviter['last_name']}",
            "token": token.text,
            "valid_for": rules.INVITATION_LIFE_IN_WORDS,
        },
        email_id=new_id(),
        expires_at=expires_at,
    )
    changed = AdminChanged(admin_id=admin_id, version=1, role=request.role, status="invited")
    await outbox.add(tx, changed, actor.did("admin.invited", target=("admin", admin_id), role=request.role))
    return AdminUser(
        id=admin_id,
        email=request.email,
        **name,
        role=request.role,
        status="invited",
        created_at=now,
        invitation_expires_at=expires_at,
    )


async def join(
    tx: Transaction, keys: Keys, request: InvitationAcceptance, *, password_hash: str, actor: Actor
) -> AdminUser:
    """Give who was invited a login.

    Raises:
        InvitationOver: the token is not good any more.
    """
    await store.lock_church(tx)
    row = await store.join(
        tx,
        tokens.digest_opaque(request.token),
        first_name=request.first_name,
        last_name=request.last_name,
        password_hash=password_hash,
        at=clock.now(),
    )
    if row is None:
        raise InvitationOver
    act = actor.known_as(row["id"]).did("admin.joined", target=("admin", row["id"]), role=row["role"])
    await outbox.add(tx, _changed(row), act)
    return view(tx, keys, row)


def check_invitation(row: asyncpg.Record) -> None:
    """Whether an invitation, a row of ``invitations.find``, can be accepted.

    Raises:
        InvitationOver: it has expired.
        LoginTaken: its e-mail is somebody's login by now, here or elsewhere.
    """
    if row["expires_at"] <= clock.now():
        raise InvitationOver
    if row["is_taken"]:
        raise LoginTaken


async def end_expired_invitations(database: Database, limit: int) -> int:
    """Withdraw the invitations that have expired, of so many churches at most; answers of how many."""
    async with database.across_churches() as tx:
        church_ids = await invitations.list_churches_with_expired(tx, clock.now(), limit)
    for church_id in church_ids:
        async with database.tenant(church_id) as tx:
            await store.lock_church(tx)
            await _end_expired(tx)
    return len(church_ids)


async def _end_expired(tx: Transaction) -> None:
    """Withdraw the church's invitations that have expired: nobody can accept them, and they name who did not come."""
    for row in await store.remove_expired(tx, clock.now()):
        act = Actor.system().did("admin.invitation_expired", target=("admin", row["id"]), role=row["role"])
        await outbox.add(tx, _changed(row), act)


async def change_role(tx: Transaction, keys: Keys, admin_id: UUID, role: Role, actor: Actor) -> AdminUser:
    """Give an admin, or who is invited, another role.

    Raises:
        NotFound: the church has none such.
        OnlyOwners: it takes an owner.
        LastOwner: the church would have no owner.
    """
    await store.lock_church(tx)
    _, before = await _decide(tx, actor, admin_id, role)
    if before is None:
        raise NotFound
    if before["role"] == role:
        return view(tx, keys, before)
    row = await store.update_role(tx, admin_id, role)
    if row is None:
        raise NotFound
    details = {"before": before["role"], "after": role}
    await outbox.add(tx, _changed(row), actor.did("admin.role_changed", target=("admin", admin_id), **details))
    return view(tx, keys, row)


async def remove(tx: Transaction, admin_id: UUID, actor: Actor) -> list[UUID]:
    """Remove an admin with all sessions, or withdraw an invitation; answers which sessions ended.

    Raises:
        NotFound: the church has none such.
        OnlyOwners: it takes an owner.
        LastOwner: the church would have no owner.
    """
    await store.lock_church(tx)
    _, before = await _decide(tx, actor, admin_id, None)
    if before is None:
        raise NotFound
    await store.lock(tx, admin_id)
    await invitations.delete(tx, admin_id)
    await mfa.delete(tx, admin_id)
    await own_phones.remove(tx, admin_id)
    ended = await sessions.delete_of_admin(tx, admin_id)
    version = await store.remove(tx, admin_id)
    changed = AdminChanged(admin_id=admin_id, version=version, role=before["role"], status="removed")
    await outbox.add(tx, changed, actor.did("admin.removed", target=("admin", admin_id), role=before["role"]))
    return ended


async def _decide(
    tx: Transaction, actor: Actor, admin_id: UUID | None, after: Role | None
) -> tuple[asyncpg.Record, asyncpg.Record | None]:
    """Whether the actor may do that to the admin (None: who is invited now); answers both rows. The church is locked.

    Raises:
        AuthenticationFailed: the actor was removed a moment ago.
    """
    if actor.id is None:
        raise AuthenticationFailed
    ids = [actor.id] if admin_id is None else [actor.id, admin_id]
    rows = await store.list_deciding(tx, *ids)
    acting, before = rows.get(actor.id), rows.get(admin_id) if admin_id is not None else None
    if acting is None or acting["status"] != "active":
        raise AuthenticationFailed
    if acting["role"] not in ("owner", "admin"):
        raise Forbidden
    owners = [row["id"] for row in rows.values() if row["role"] == "owner" and row["status"] == "active"]
    refusal = rules.judge(
        actor=acting["role"],
        before=before["role"] if before is not None else None,
        after=after,
        is_last_owner=owners == [admin_id],
    )
    if refusal is not None:
        raise _REFUSALS[refusal]
    return acting, before


def _changed(row: asyncpg.Record) -> AdminChanged:
    return AdminChanged(admin_id=row["id"], version=row["version"], role=row["role"], status=row["status"])


def view(tx: Transaction, keys: Keys, row: asyncpg.Record) -> AdminUser:
    """An admin, from a row of the store."""
    return AdminUser(
        id=row["id"],
        email=keys.decrypt(row["email_ciphertext"], tx.tenant, "email"),
        first_name=row["first_name"],
        last_name=row["last_name"],
        role=row["role"],
        status=row["status"],
        created_at=row["created_at"],
        invitation_expires_at=row["invitation_expires_at"],
    )
