"""Admins' own phones, and the codes that confirm them. Whoever writes holds the admin's row."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_FIND = statement(
    "own_phones.find",
    """
    SELECT
        own_phones.phone_ciphertext, own_phones.phone_index, own_phones.confirmed_at,
        phone_codes.phone_ciphertext AS pending_ciphertext, phone_codes.expires_at, phone_codes.failures
    FROM admins
    LEFT JOIN own_phones ON own_phones.admin_id = admins.id
    LEFT JOIN phone_codes ON phone_codes.admin_id = admins.id
    WHERE admins.id = $1
    """,
)


async def find(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """An admin's phone, and the one to which a code went; either may be missing."""
    return await tx.fetch_row(_FIND, admin_id)


_LOCK_CODE = statement(
    "phone_codes.lock",
    """
    SELECT phone_ciphertext, phone_index, code_signature, expires_at, failures, counted_since, codes
    FROM phone_codes
    WHERE admin_id = $1
    FOR UPDATE
    """,
)


async def lock_code(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """The last code of a locked admin; nobody else tries it until the transaction ends."""
    return await tx.fetch_row(_LOCK_CODE, admin_id)


_SAVE_CODE = statement(
    "phone_codes.save",
    """
    INSERT INTO phone_codes (
        admin_id, church_id, phone_ciphertext, phone_index, code_signature, expires_at, counted_since, codes
    )
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (admin_id) DO UPDATE
    SET phone_ciphertext = excluded.phone_ciphertext,
        phone_index = excluded.phone_index,
        code_signature = excluded.code_signature,
        expires_at = excluded.expires_at,
        failures = 0,
        counted_since = excluded.counted_since,
        codes = excluded.codes
    """,
)


async def save_code(
    tx: Transaction,
    admin_id: UUID,
    *,
    phone_ciphertext: bytes,
    phone_index: bytes,
    code_signature: bytes,
    expires_at: datetime,
    counted: tuple[datetime, int],
) -> None:
    """Keep a new code in place of the last; ``counted``: since when, and how many."""
    values = (phone_ciphertext, phone_index, code_signature, expires_at, *counted)
    await tx.execute(_SAVE_CODE, admin_id, tx.tenant, *values)


_NOTE_FAILURE = statement(
    "phone_codes.note_failure", "UPDATE phone_codes SET failures = failures + 1 WHERE admin_id = $1"
)


async def note_failure(tx: Transaction, admin_id: UUID) -> None:
    """Count a wrong try."""
    await tx.execute(_NOTE_FAILURE, admin_id)


_WITHDRAWN = "SET phone_ciphertext = NULL, phone_index = NULL, code_signature = NULL"
_CONFIRM = statement(
    "own_phones.confirm",
    f"""
    WITH used AS (
        UPDATE phone_codes {_WITHDRAWN} WHERE admin_id = $1
    )
    INSERT INTO own_phones (admin_id, church_id, phone_ciphertext, phone_index, confirmed_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (admin_id) DO UPDATE
    SET phone_ciphertext = excluded.phone_ciphertext,
        phone_index = excluded.phone_index,
        confirmed_at = excluded.confirmed_at
    """,
)


async def confirm(tx: Transaction, admin_id: UUID, phone_ciphertext: bytes, phone_index: bytes, at: datetime) -> None:
    """Keep a phone as its admin's, in place of another; its code is used up."""
    await tx.execute(_CONFIRM, admin_id, tx.tenant, phone_ciphertext, phone_index, at)


_REMOVE = statement(
    "own_phones.remove",
    f"""
    WITH withdrawn AS (
        UPDATE phone_codes {_WITHDRAWN} WHERE admin_id = $1
    )
    DELETE FROM own_phones WHERE admin_id = $1
    """,
)


async def remove(tx: Transaction, admin_id: UUID) -> bool:
    """Forget an admin's phone, and the one that has yet to be confirmed; False: none was confirmed."""
    return await tx.execute(_REMOVE, admin_id) == 1


_DELETE_EXPIRED_CODES = statement(
    "phone_codes.delete_expired",
    """
    DELETE FROM phone_codes
    WHERE admin_id = ANY (ARRAY(SELECT admin_id FROM phone_codes WHERE expires_at < $1 ORDER BY expires_at LIMIT $2))
        AND expires_at < $1
    """,
)


async def delete_expired_codes(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete codes that expired before a time, with their counts; answers how many. Across churches."""
    return await tx.execute(_DELETE_EXPIRED_CODES, before, limit)
