"""The second factor: an authenticator app is turned on and off, its codes are taken once, and recovery codes beside it.

Whoever begins, tries a code or changes anything holds the admin's row, then the factor's, until it is judged: two
gateways take a code once and count each wrong one, and who is removed meanwhile is left no secret. A wrong one is
counted only if the caller commits: it is answered, not raised.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from koinonia import clock, emails
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import AuthenticationFailed, Conflict, RateLimited
from koinonia.events.delivery import EmailTemplate
from koinonia.ids import new_id
from koinonia.security import recovery_codes, totp
from koinonia.security.keys import Keys
from koinonia_gateway import accounts
from koinonia_gateway.accounts import Opened
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import mfa as rules
from koinonia_gateway.store import admins
from koinonia_gateway.store import mfa as store
from koinonia_gateway.store import sessions as session_store

NOTICE_LIFE = timedelta(days=3)  # an older notice tells nobody anything


@dataclass(frozen=True, slots=True)
class Proof:
    """What somebody shows: a code of the app, or a recovery code."""

    text: str
    kind: Literal["totp", "recovery_code"] = "totp"

    @classmethod
    def of(cls, text: str) -> "Proof":
        """Either, told apart by its length."""
        return cls(text, "totp" if len(text) == 6 else "recovery_code")


@dataclass(frozen=True, slots=True)
class Person:
    """An admin in a session: one that acts, or one that awaits the second factor."""

    admin_id: UUID
    session_id: UUID
    actor: Actor


@dataclass(frozen=True, slots=True)
class Begun:
    """A secret that has yet to be confirmed, and the URL that puts it into an app."""

    secret: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The factor was turned on or off: the session that goes on, and those that ended."""

    opened: Opened
    ended: tuple[UUID, ...]
    recovery_codes: tuple[str, ...] = ()


async def begin(tx: Transaction, keys: Keys, person: Person) -> Begun:
    """Make a secret, in place of one that was never confirmed.

    Raises:
        Conflict: it is on.
        AuthenticationFailed: the admin has just been removed.
    """
    admin_id = person.admin_id
    await _lock(tx, admin_id)
    row = await _row_of(tx, admin_id)
    secret = totp.make_secret()
    if not await store.begin(tx, admin_id, keys.encrypt(secret, tx.tenant, "totp_secret"), clock.now()):
        raise Conflict("The second factor is on already; turn it off first.")
    await outbox.add(tx, person.actor.did("mfa.begun", target=("admin", admin_id)))
    return Begun(secret, totp.url(secret, keys.decrypt(row["email_ciphertext"], tx.tenant, "email")))


async def confirm(tx: Transaction, keys: Keys, person: Person, code: str) -> Changed | None:
    """Turn the factor on, end the admin's other sessions, let this one go on verified; None: the code is wrong.

    Wrong codes do not close it, as it is off: the caller counts them.

    Raises:
        Conflict: it is on, or was not begun.
        AuthenticationFailed: the session has just ended.
    """
    now, admin_id, actor = clock.now(), person.admin_id, person.actor
    factor = await _lock(tx, admin_id)
    if factor is None or factor["confirmed_at"] is not None:
        raise Conflict("There is no second factor to be confirmed.")
    step = totp.step_of(_secret(tx, keys, factor), code, now)
    if step is None:
        await outbox.add(tx, actor.did("mfa.enabled", target=("admin", admin_id), outcome="failure"))
        return None
    await store.confirm(tx, admin_id, step, now)
    codes = await _new_recovery_codes(tx, admin_id)
    row = await _row_of(tx, admin_id)
    opened, ended = await accounts.begin_anew(tx, keys, row, person.session_id, mfa_verified=True, actor=actor)
    await _notify(tx, keys, row, "mfa-on")
    await outbox.add(tx, actor.did("mfa.enabled", target=("admin", admin_id)))
    return Changed(opened=opened, ended=ended, recovery_codes=codes)


async def verify(tx: Transaction, keys: Keys, person: Person, proof: Proof) -> Opened | None:
    """Let a login in that awaits its second factor; None: the code is wrong.

    Raises:
        AuthenticationFailed: the login has been let in before, has ended or run out.
        RateLimited: too many were wrong.
    """
    factor = await _lock(tx, person.admin_id)
    is_on = factor is not None and factor["confirmed_at"] is not None
    if not is_on or not await session_store.awaits(tx, person.session_id, person.admin_id, clock.now()):
        raise AuthenticationFailed
    row = await _row_of(tx, person.admin_id)
    if not await _is_proven(tx, keys, row, factor, proof=proof, actor=person.actor):
        return None
    opened = await accounts.admit(tx, keys, row, person.session_id)
    if opened is None:
        raise AuthenticationFailed
    act = person.actor.did("login.succeeded", target=("session", person.session_id), factor=proof.kind)
    await outbox.add(tx, act)
    return opened


async def renew_recovery_codes(tx: Transaction, keys: Keys, person: Person, proof: Proof) -> tuple[str, ...] | None:
    """Eight new recovery codes, in place of all others; None: the code is wrong.

    Raises:
        Conflict: the factor is off.
        RateLimited: too many codes were wrong.
    """
    admin_id, actor = person.admin_id, person.actor
    factor, row = await _lock(tx, admin_id), await _row_of(tx, admin_id)
    if not await _is_proven(tx, keys, row, factor, proof=proof, actor=actor):
        return None
    codes = await _new_recovery_codes(tx, admin_id)
    await outbox.add(tx, actor.did("mfa.recovery_codes_renewed", target=("admin", admin_id)))
    return codes


async def disable(
    tx: Transaction, keys: Keys, person: Person, proof: Proof, *, password_is_right: bool
) -> Changed | Literal["password", "code"]:
    """Turn the factor off, end the admin's other sessions, let this one go on unverified; or say what is wrong.

    A wrong password counts as a wrong code does: else a stolen session could try passwords here.

    Raises:
        Conflict: it is off.
        RateLimited: too many tries were wrong.
        AuthenticationFailed: the session has just ended.
    """
    admin_id, actor = person.admin_id, person.actor
    factor, row = await _lock(tx, admin_id), await _row_of(tx, admin_id)
    if not await _is_proven(tx, keys, row, factor, proof=proof if password_is_right else None, actor=actor):
        return "code" if password_is_right else "password"
    await store.delete(tx, admin_id)
    row = await _row_of(tx, admin_id)
    opened, ended = await accounts.begin_anew(tx, keys, row, person.session_id, mfa_verified=False, actor=actor)
    await _notify(tx, keys, row, "mfa-off")
    await outbox.add(tx, actor.did("mfa.disabled", target=("admin", admin_id)))
    return Changed(opened=opened, ended=ended)


async def reset(tx: Transaction, keys: Keys, admin_id: UUID, actor: Actor, *, operator: str) -> bool:
    """Turn the factor off for somebody who lost it, and end every session; False: it was off, and not begun.

    ``operator`` is the name of who does it on the platform's machine.
    """
    await _lock(tx, admin_id)
    row = await _row_of(tx, admin_id)
    if not await store.delete(tx, admin_id):
        return False
    await session_store.end_all(tx, admin_id, None, "mfa", clock.now())
    if row["mfa_enabled"]:
        await _notify(tx, keys, row, "mfa-off")
    await outbox.add(tx, actor.did("mfa.reset", target=("admin", admin_id), operator=operator))
    return True


async def _lock(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """The factor, on or not yet; the admin is locked before it.

    Raises:
        AuthenticationFailed: the admin was removed.
    """
    if not await admins.lock(tx, admin_id):
        raise AuthenticationFailed
    return await store.lock(tx, admin_id)


async def _is_proven(
    tx: Transaction,
    keys: Keys,
    row: asyncpg.Record,
    factor: asyncpg.Record | None,
    *,
    proof: Proof | None,
    actor: Actor,
) -> bool:
    """Use up what is shown, or count a wrong try of the locked factor; no proof is a wrong one.

    Raises:
        Conflict: the factor is off.
        RateLimited: it is closed, and nothing is looked at.
    """
    now = clock.now()
    if factor is None or factor["confirmed_at"] is None:
        raise Conflict("The second factor is off.")
    if rules.is_closed(factor["closed_until"], now):
        wait = factor["closed_until"] - now
        raise RateLimited("Too many wrong codes; try again later.", retry_after_seconds=int(wait.total_seconds()) + 1)
    if proof is not None and await _is_taken(tx, keys, row, factor, proof=proof, actor=actor):
        return True
    failures = factor["failures"] + 1
    closed_until, target = rules.closed_until(failures, now), ("admin", row["id"])
    await store.note_failure(tx, row["id"], failures, closed_until)
    acts = [actor.did("mfa.failed", target=target, outcome="failure")]
    if closed_until is not None:
        acts.append(actor.did("mfa.closed", target=target, failures=str(failures)))
    await outbox.add(tx, *acts)
    return False


async def _is_taken(
    tx: Transaction,
    keys: Keys,
    row: asyncpg.Record,
    factor: asyncpg.Record,
    *,
    proof: Proof,
    actor: Actor,
) -> bool:
    now = clock.now()
    if proof.kind == "totp":
        step = totp.step_of(_secret(tx, keys, factor), proof.text, now)
        return step is not None and await store.take_step(tx, row["id"], step)
    left = await store.use_recovery_code(tx, row["id"], recovery_codes.digest(proof.text), now)
    if left is None:
        return False
    await _notify(tx, keys, row, "recovery-code-used", codes_left=str(left))
    await outbox.add(tx, actor.did("mfa.recovery_code_used", target=("admin", row["id"]), left=str(left)))
    return True


async def _new_recovery_codes(tx: Transaction, admin_id: UUID) -> tuple[str, ...]:
    codes = recovery_codes.make()
    await store.replace_recovery_codes(tx, admin_id, [recovery_codes.digest(code) for code in codes])
    return tuple(codes)


async def _notify(tx: Transaction, keys: Keys, row: asyncpg.Record, template: EmailTemplate, **fields: str) -> None:
    await emails.request(
        tx,
        keys,
        tx.tenant,
        template,
        email_ciphertext=row["email_ciphertext"],
        fields={"name": row["first_name"], "church": row["church_name"], **fields},
        email_id=new_id(),
        expires_at=clock.now() + NOTICE_LIFE,
    )


async def _row_of(tx: Transaction, admin_id: UUID) -> asyncpg.Record:
    row = await admins.find_with_church(tx, admin_id)
    if row is None:
        raise AuthenticationFailed
    return row


def _secret(tx: Transaction, keys: Keys, factor: asyncpg.Record) -> str:
    return keys.decrypt(factor["totp_secret_ciphertext"], tx.tenant, "totp_secret")
