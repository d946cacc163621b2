"""An admin's own phone: a code is texted to it, and whoever shows the code has it. Drafts can be sent to it.

Whoever asks for a code, tries or removes one holds the admin's row and then the code's, so that two gateways count each
code and each wrong try, and take one once. A wrong one is counted only if the caller commits: it is answered, not
raised.
"""

from uuid import UUID

import asyncpg
import msgspec

from koinonia import clock
from koinonia.api.own_phones import OwnPhone
from koinonia.bus import outbox
from koinonia.db import Database, Transaction
from koinonia.errors import AuthenticationFailed, RateLimited, ValidationFailed
from koinonia.events.delivery import TextRequested
from koinonia.ids import new_id
from koinonia.security.identity import Identity
from koinonia.security.keys import Keys
from koinonia.security.phones import PhoneInvalid, normalise
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import own_phones as rules
from koinonia_gateway.store import admins, churches
from koinonia_gateway.store import own_phones as store

_PURPOSE = "own-phone"


async def show(tx: Transaction, keys: Keys, admin_id: UUID) -> OwnPhone:
    """The phone of an admin; one statement.

    Raises:
        AuthenticationFailed: the admin has just been removed.
    """
    row = await store.find(tx, admin_id)
    if row is None:
        raise AuthenticationFailed
    pending = row["pending_ciphertext"]
    if pending is not None and (row["expires_at"] <= clock.now() or row["failures"] >= rules.TRIES):
        pending = None
    return OwnPhone(
        phone=_opened(tx, keys, row["phone_ciphertext"]),
        confirmed_at=row["confirmed_at"],
        pending_phone=_opened(tx, keys, pending),
        code_expires_at=row["expires_at"] if pending is not None else None,
    )


async def ask(tx: Transaction, keys: Keys, admin_id: UUID, phone: str, actor: Actor) -> OwnPhone:
    """Have a code texted to a phone, in place of one that was asked for before.

    Raises:
        AuthenticationFailed: the admin has just been removed.
        ValidationFailed: there is no such phone.
        RateLimited: there were five codes within the hour.
    """
    before, church = await _lock(tx, admin_id), await churches.find(tx)
    if church is None:
        raise AuthenticationFailed
    try:
        number = normalise(phone, church["region"])
    except PhoneInvalid:
        raise ValidationFailed.field("phone", "Is not a phone number that can get texts") from None
    now = clock.now()
    counted = rules.next_count(before["counted_since"], before["codes"], now) if before is not None else (now, 1)
    if counted[1] > rules.CODES:
        wait = counted[0] + rules.COUNTED - now
        raise RateLimited("Too many codes; try again later.", retry_after_seconds=int(wait.total_seconds()) + 1)
    code, expires_at = rules.make_code(), now + rules.CODE_LIFE
    index, ciphertext = keys.index(number, tx.tenant, "phone"), keys.encrypt(number, tx.tenant, "phone")
    await store.save_code(
        tx,
        admin_id,
        phone_ciphertext=ciphertext,
        phone_index=index,
        code_signature=keys.sign(_PURPOSE, rules.signed(admin_id, index, code)),
        expires_at=expires_at,
        counted=counted,
    )
    text = TextRequested(
        text_id=new_id(),
        purpose="code",
        number_id=None,
        phone_index=index,
        phone_ciphertext=ciphertext,
        content=rules.text_of(church["name"], code),
        media_urls=(),
        requested_at=now,
        do_not_send_after=expires_at,
    )
    await outbox.add(tx, text, actor.did("own_phone.code_asked", target=("admin", admin_id)))
    return await show(tx, keys, admin_id)


async def confirm(tx: Transaction, keys: Keys, admin_id: UUID, code: str, actor: Actor) -> OwnPhone | None:
    """Keep the phone to which this code went; None: it is wrong, too old, tried too often, or there is none.

    Raises:
        AuthenticationFailed: the admin has just been removed.
    """
    row, now, target = await _lock(tx, admin_id), clock.now(), ("admin", admin_id)
    if not _is_good(row) or row is None:
        await outbox.add(tx, actor.did("own_phone.confirmed", target=target, outcome="failure"))
        return None
    if not keys.verify(_PURPOSE, rules.signed(admin_id, row["phone_index"], code), row["code_signature"]):
        await store.note_failure(tx, admin_id)
        await outbox.add(tx, actor.did("own_phone.confirmed", target=target, outcome="failure"))
        return None
    await store.confirm(tx, admin_id, row["phone_ciphertext"], row["phone_index"], now)
    await outbox.add(tx, actor.did("own_phone.confirmed", target=target))
    return await show(tx, keys, admin_id)


async def remove(tx: Transaction, admin_id: UUID, actor: Actor) -> None:
    """Forget an admin's phone, and a code that is under way; where there is none, nothing is done.

    Raises:
        AuthenticationFailed: the admin has just been removed.
    """
    await _lock(tx, admin_id)
    if await store.remove(tx, admin_id):
        await outbox.add(tx, actor.did("own_phone.removed", target=("admin", admin_id)))


async def known(database: Database, caller: Identity) -> Identity:
    """The caller with the phone that they have confirmed, for the service that texts it."""
    if caller.principal_kind != "session":
        return caller
    async with database.tenant(caller.church_id) as tx:
        row = await store.find(tx, caller.principal_id)
    if row is None or row["phone_index"] is None:
        return caller
    return msgspec.structs.replace(
        caller, own_phone_index=row["phone_index"], own_phone_ciphertext=row["phone_ciphertext"]
    )


def _is_good(row: asyncpg.Record | None) -> bool:
    if row is None or row["code_signature"] is None:
        return False
    return bool(row["failures"] < rules.TRIES and clock.now() < row["expires_at"])


async def _lock(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """The admin's last code; the admin is locked before it."""
    if not await admins.lock(tx, admin_id):
        raise AuthenticationFailed
    return await store.lock_code(tx, admin_id)


def _opened(tx: Transaction, keys: Keys, ciphertext: bytes | None) -> str | None:
    return None if ciphertext is None else keys.decrypt(ciphertext, tx.tenant, "phone")
