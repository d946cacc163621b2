"""Accounts: a church registers, an admin logs in, a session is renewed and ends."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia import clock
from koinonia.api.auth import Admin, Church, RegisterRequest, Session
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import AuthenticationFailed, Conflict
from koinonia.events.gateway import AdminChanged, ChurchChanged
from koinonia.ids import new_id
from koinonia.security import tokens
from koinonia.security.keys import Keys
from koinonia.security.tokens import OpaqueToken, SessionToken
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import mfa as mfa_rules
from koinonia_gateway.domain import sessions as rules
from koinonia_gateway.domain.sessions import Judgement
from koinonia_gateway.store import admins, churches
from koinonia_gateway.store import sessions as session_store

REGION = "US"  # how national phone numbers are read, until a church may say otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session as its browser gets it."""

    session: Session
    access: SessionToken
    refresh: OpaqueToken
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What became of a refresh token that was shown; ``opened`` when it was good."""

    judgement: Judgement
    opened: Opened | None = None
    ended_session_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """A login that awaits the second factor: what its browser shows with the code."""

    token: SessionToken


async def register(
    tx: Transaction, keys: Keys, request: RegisterRequest, *, password_hash: str, actor: Actor
) -> Opened:
    """Make a church, its owner and a session; four statements.

    Raises:
        Conflict: somebody logs in with this e-mail already.
    """
    now, admin_id = clock.now(), new_id()
    await churches.insert(tx, name=request.church_name, timezone=request.timezone, region=REGION, at=now)
    made = await admins.insert(
        tx,
        admin_id,
        first_name=request.first_name,
        last_name=request.last_name,
        email_ciphertext=keys.encrypt(request.email, tx.tenant, "email"),
        login_index=keys.login_index(request.email),
        password_hash=password_hash,
        role="owner",
        at=now,
    )
    if not made:
        raise Conflict("Somebody logs in with this e-mail address already.")
    changed = ChurchChanged(
        church_id=tx.tenant,
        version=1,
        name=request.church_name,
        timezone=request.timezone,
        status="active",
        region=REGION,
    )
    who = actor.known_as(admin_id)
    opened = await _open(tx, admin_id, _registered(tx.tenant, admin_id, request, now), who)
    founder = AdminChanged(admin_id=admin_id, version=1, role="owner", status="active")
    await outbox.add(tx, changed, founder, who.did("church.registered", target=("church", tx.tenant)))
    return opened


async def log_in(
    tx: Transaction,
    keys: Keys,
    admin_id: UUID,
    *,
    password_version: int,
    new_password_hash: str | None,
    actor: Actor,
) -> Opened | Awaited | None:
    """Begin a session of an admin whose password was right, or await the second factor.

    None: the account has just gone, or has another password.
    """
    row = await admins.lock_with_church(tx, admin_id, password_version)
    if row is None:
        return None
    if new_password_hash is not None:
        await admins.update_password_hash(tx, admin_id, new_password_hash)
    who = actor.known_as(admin_id)
    if row["mfa_enabled"]:
        return await _await_mfa(tx, row, who)
    opened = await _open(tx, admin_id, view(keys, row), who)
    await outbox.add(tx, who.did("login.succeeded", target=("session", opened.access.session_id)))
    return opened


async def renew(tx: Transaction, keys: Keys, digest: bytes, actor: Actor) -> Renewal:
    """Replace a refresh token by a new one; a replayed one ends its family, so the caller must commit either way.

    That alone is recorded: a good one comes every ten minutes of a session, and one that is over is a browser that
    comes back late.
    """
    row = await session_store.lock_token(tx, digest)
    if row is None:
        return Renewal(judgement="over")
    now = clock.now()
    judgement = rules.judge(
        now=now, expires_at=row["expires_at"], replaced_at=row["replaced_at"], session_ended_at=row["ended_at"]
    )
    session_id, admin_id = row["session_id"], row["admin_id"]
    if judgement == "replayed":
        await session_store.end(tx, session_id, "replay", now)
        ended = actor.did("session.replayed", target=("session", session_id), outcome="failure")
        await outbox.add(tx, ended)
        return Renewal(judgement=judgement, ended_session_id=session_id)
    who = await admins.find_with_church(tx, admin_id)
    if judgement == "over" or who is None:
        return Renewal(judgement="over")
    refresh = tokens.make_opaque()
    refresh_expires_at = rules.refresh_expiry(now, row["session_expires_at"])
    await session_store.replace_token(tx, digest, refresh.digest, at=now, expires_at=refresh_expires_at)
    session = view(keys, who)
    opened = Opened(
        session=session,
        access=_access(session, session_id, now, row["session_expires_at"], mfa_verified=row["mfa_verified"]),
        refresh=refresh,
        refresh_expires_at=refresh_expires_at,
    )
    return Renewal(judgement="good", opened=opened)


async def log_out(tx: Transaction, session_id: UUID, actor: Actor) -> None:
    """End a session; one that has ended stays so."""
    admin_id = await session_store.end(tx, session_id, "logout", clock.now())
    if admin_id is not None:
        await outbox.add(tx, actor.known_as(admin_id).did("logout", target=("session", session_id)))


async def admit(tx: Transaction, keys: Keys, row: asyncpg.Record, session_id: UUID) -> Opened | None:
    """Begin a session that awaited the second factor; None: it has begun before, has ended or run out.

    ``row`` is of ``admins.find_with_church``.
    """
    now, refresh, session = clock.now(), tokens.make_opaque(), view(keys, row)
    expires_at = rules.session_expiry(now)
    refresh_expires_at = rules.refresh_expiry(now, expires_at)
    begun = await session_store.admit(
        tx,
        session_id,
        row["id"],
        at=now,
        expires_at=expires_at,
        digest=refresh.digest,
        refresh_expires_at=refresh_expires_at,
    )
    if not begun:
        return None
    access = _access(session, session_id, now, expires_at, mfa_verified=True)
    return Opened(session=session, access=access, refresh=refresh, refresh_expires_at=refresh_expires_at)


async def begin_anew(
    tx: Transaction, keys: Keys, row: asyncpg.Record, session_id: UUID, *, mfa_verified: bool, actor: Actor
) -> tuple[Opened, tuple[UUID, ...]]:
    """End every session of an admin whose second factor has changed, and let this one go on as a new one.

    It lives no longer than the one it replaces. Answers the ended ones too; ``row`` is of ``admins.find_with_church``.

    Raises:
        AuthenticationFailed: the session has just ended.
    """
    expires_at = await session_store.find_expiry(tx, session_id, row["id"])
    ended = await session_store.end_all(tx, row["id"], None, "mfa", clock.now())
    if expires_at is None or session_id not in ended:
        raise AuthenticationFailed
    opened = await _open(tx, row["id"], view(keys, row), actor, expires_at=expires_at, mfa_verified=mfa_verified)
    return opened, tuple(ended)


def view(keys: Keys, row: asyncpg.Record) -> Session:
    """Who is logged in, from a row of ``admins.find_with_church``."""
    church = Church(
        id=row["church_id"], name=row["church_name"], timezone=row["timezone"], created_at=row["church_created_at"]
    )
    admin = Admin(
        id=row["id"],
        church_id=row["church_id"],
        email=keys.decrypt(row["email_ciphertext"], row["church_id"], "email"),
        first_name=row["first_name"],
        last_name=row["last_name"],
        role=row["role"],
        mfa_enabled=row["mfa_enabled"],
        created_at=row["created_at"],
    )
    return Session(church=church, admin=admin)


async def _await_mfa(tx: Transaction, row: asyncpg.Record, actor: Actor) -> Awaited:
    now, session_id = clock.now(), new_id()
    expires_at = now + mfa_rules.PROOF_LIFE
    await session_store.insert_awaiting(
        tx,
        session_id,
        row["id"],
        user_agent=actor.user_agent[:300],
        address=actor.address,
        at=now,
        expires_at=expires_at,
    )
    await outbox.add(tx, actor.did("login.awaits_mfa", target=("session", session_id)))
    token = SessionToken(
        type="mfa",
        admin_id=row["id"],
        session_id=session_id,
        church_id=tx.tenant,
        role=row["role"],
        mfa_verified=False,
        expires_at=expires_at,
    )
    return Awaited(token)


async def _open(
    tx: Transaction,
    admin_id: UUID,
    session: Session,
    actor: Actor,
    *,
    expires_at: datetime | None = None,
    mfa_verified: bool = False,
) -> Opened:
    now, session_id, refresh = clock.now(), new_id(), tokens.make_opaque()
    expires_at = expires_at or rules.session_expiry(now)
    refresh_expires_at = rules.refresh_expiry(now, expires_at)
    await session_store.insert(
        tx,
        session_id,
        admin_id,
        user_agent=actor.user_agent[:300],
        address=actor.address,
        at=now,
        expires_at=expires_at,
        digest=refresh.digest,
        refresh_expires_at=refresh_expires_at,
        mfa_verified=mfa_verified,
    )
    access = _access(session, session_id, now, expires_at, mfa_verified=mfa_verified)
    return Opened(session=session, access=access, refresh=refresh, refresh_expires_at=refresh_expires_at)


def _registered(church_id: UUID, admin_id: UUID, request: RegisterRequest, now: datetime) -> Session:
    church = Church(id=church_id, name=request.church_name, timezone=request.timezone, created_at=now)
    admin = Admin(
        id=admin_id,
        church_id=church_id,
        email=request.email,
        first_name=request.first_name,
        last_name=request.last_name,
        role="owner",
        mfa_enabled=False,
        created_at=now,
    )
    return Session(church=church, admin=admin)


def _access(
    session: Session, session_id: UUID, now: datetime, session_expires_at: datetime, *, mfa_verified: bool
) -> SessionToken:
    return SessionToken(
        type="access",
        admin_id=session.admin.id,
        session_id=session_id,
        church_id=session.church.id,
        role=session.admin.role,
        mfa_verified=mfa_verified,
        expires_at=rules.access_expiry(now, session_expires_at),
    )
