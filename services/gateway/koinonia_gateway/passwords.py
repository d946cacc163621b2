"""Passwords: forgotten, set anew by mail, changed. A new one ends sessions, and kills every token for the one before.

Whoever logs in locks the same row of the admin as these do: a session that the old password opens is either there to be
ended, or finds that it comes too late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from koinonia import clock, emails
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import Conflict, ValidationFailed
from koinonia.ids import new_id
from koinonia.security import passwords as rules
from koinonia.security import tokens
from koinonia.security.keys import Keys
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import mfa as mfa_rules
from koinonia_gateway.store import mfa as mfa_store
from koinonia_gateway.store import passwords as store
from koinonia_gateway.store import sessions as session_store

RESET_LIFE: Final = timedelta(minutes=30)
_RESET_LIFE_SAID = "30 minutes"
_NOTICE_LIFE = timedelta(days=2)  # so long it is worth telling that a password is new


@dataclass(frozen=True, slots=True)
class Ended:
    """Sessions that ended with the password they were opened by."""

    church_id: UUID
    session_ids: Sequence[UUID]


async def forget(tx: Transaction, keys: Keys, login_index: bytes, actor: Actor) -> None:
    """Mail a token to whoever logs in with this e-mail, if anybody does. Across churches.

    Earlier ones stay good: else anybody could keep an admin from using any, by asking again and again.
    """
    token, expires_at = tokens.make_opaque(), clock.now() + RESET_LIFE
    account = await store.insert_reset(tx, login_index, token.digest, expires_at)
    if account is None:
        await outbox.add(tx, actor.did("password.reset_requested", outcome="failure"), church_id=None)
        return
    asked = actor.did("password.reset_requested", target=("admin", account["id"]))
    await outbox.add(tx, asked, church_id=account["church_id"])
    await emails.request(
        tx,
        keys,
        account["church_id"],
        "password-reset",
        email_ciphertext=account["email_ciphertext"],
        fields={**_known(account), "token": token.text, "valid_for": _RESET_LIFE_SAID},
        email_id=new_id(),
        expires_at=expires_at,
    )


async def find_reset(tx: Transaction, digest: bytes, actor: Actor) -> asyncpg.Record | None:
    """Whose password a token sets; None, and an act that failed, where it is not good. Across churches."""
    found = await store.find_reset(tx, digest, clock.now())
    if found is None:
        await outbox.add(tx, actor.did("password.reset", outcome="failure"), church_id=None)
    return found


async def reset(tx: Transaction, keys: Keys, digest: bytes, password_hash: str, actor: Actor) -> Ended | None:
    """Set the password anew, end all sessions, reopen a second factor that wrong codes have closed.

    None: the token is not good any more.
    """
    now = clock.now()
    admin = await store.reset(tx, digest, now, password_hash)
    if admin is None:
        return None
    if await mfa_store.reopen(tx, admin["id"], now, mfa_rules.REOPENED_UP_TO):
        await outbox.add(tx, actor.known_as(admin["id"]).did("mfa.reopened", target=("admin", admin["id"])))
    return await _changed(tx, keys, admin, "password.reset", actor)


async def change(
    tx: Transaction, keys: Keys, admin_id: UUID, version: int, password_hash: str, *, session_id: UUID, actor: Actor
) -> Ended:
    """Replace the password that the admin has just shown, and end all sessions but this one.

    Raises:
        Conflict: it is another one by now.
    """
    admin = await store.change(tx, admin_id, version, password_hash)
    if admin is None:
        raise Conflict("The password has been changed meanwhile.")
    return await _changed(tx, keys, admin, "password.changed", actor, keep=session_id)


def check_new(keys: Keys, password: str, field: str, whose: asyncpg.Record, church_id: UUID) -> None:
    """Refuse a new password that is easily guessed; ``whose`` has the admin's address and the church's name.

    Raises:
        ValidationFailed: it is, and why.
    """
    email = keys.decrypt(whose["email_ciphertext"], church_id, "email")
    problem = rules.problem(password, church_name=whose["church_name"], email=email)
    if problem is not None:
        raise ValidationFailed.field(field, problem)


async def _changed(
    tx: Transaction, keys: Keys, admin: asyncpg.Record, action: str, actor: Actor, *, keep: UUID | None = None
) -> Ended:
    ended = await session_store.end_all(tx, admin["id"], keep, "password", clock.now())
    who = actor if actor.kind == "session" else actor.known_as(admin["id"])
    await outbox.add(tx, who.did(action, target=("admin", admin["id"]), sessions=str(len(ended))))
    await emails.request(
        tx,
        keys,
        tx.tenant,
        "password-changed",
        email_ciphertext=admin["email_ciphertext"],
        fields=_known(admin),
        email_id=new_id(),
        expires_at=clock.now() + _NOTICE_LIFE,
    )
    return Ended(tx.tenant, ended)


def _known(admin: asyncpg.Record) -> dict[str, str]:
    return {"name": admin["first_name"], "church": admin["church_name"]}
