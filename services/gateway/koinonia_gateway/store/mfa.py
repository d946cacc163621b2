"""Second factors: an admin's authenticator app, and the recovery codes beside it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement

_BEGIN = statement(
    "totp_factors.begin",
    """
    INSERT INTO totp_factors (admin_id, church_id, totp_secret_ciphertext, created_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (admin_id) DO UPDATE
    SET totp_secret_ciphertext = excluded.totp_secret_ciphertext, created_at = excluded.created_at
    WHERE totp_factors.confirmed_at IS NULL
    """,
)


async def begin(tx: Transaction, admin_id: UUID, secret_ciphertext: bytes, at: datetime) -> bool:
    """Keep a secret that has yet to be confirmed, in place of another such; False: the factor is on."""
    return await tx.execute(_BEGIN, admin_id, tx.tenant, secret_ciphertext, at) == 1


_LOCK = statement(
    "totp_factors.lock",
    """
    SELECT totp_secret_ciphertext, confirmed_at, failures, closed_until
    FROM totp_factors
    WHERE admin_id = $1
    FOR UPDATE
    """,
)


async def lock(tx: Transaction, admin_id: UUID) -> asyncpg.Record | None:
    """The factor, on or not yet, of a locked admin; nobody else tries a code of it until the transaction ends."""
    return await tx.fetch_row(_LOCK, admin_id)


_CONFIRM = statement(
    "totp_factors.confirm",
    "UPDATE totp_factors SET confirmed_at = $3, last_step = $2 WHERE admin_id = $1 AND confirmed_at IS NULL",
)


async def confirm(tx: Transaction, admin_id: UUID, step: int, at: datetime) -> None:
    """Turn a factor on; the code that did it is used up."""
    await tx.execute(_CONFIRM, admin_id, step, at)


_TAKE_STEP = statement(
    "totp_factors.take_step",
    """
    UPDATE totp_factors
    SET last_step = $2, failures = 0, closed_until = NULL
    WHERE admin_id = $1 AND last_step < $2
    """,
)


async def take_step(tx: Transaction, admin_id: UUID, step: int) -> bool:
    """Use a code's step up; False: it was used, or a later one was."""
    return await tx.execute(_TAKE_STEP, admin_id, step) == 1


_USE_RECOVERY_CODE = statement(
    "recovery_codes.use",
    """
    WITH used AS (
        UPDATE recovery_codes
        SET used_at = $3
        WHERE admin_id = $1 AND digest = $2 AND used_at IS NULL
        RETURNING admin_id
    )
    UPDATE totp_factors
    SET failures = 0, closed_until = NULL
    FROM used
    WHERE totp_factors.admin_id = used.admin_id
    RETURNING (SELECT count(*) - 1 FROM recovery_codes WHERE admin_id = $1 AND used_at IS NULL)
    """,
)


async def use_recovery_code(tx: Transaction, admin_id: UUID, digest: bytes, at: datetime) -> int | None:
    """Use a recovery code up; answers how many are left, None: it is none, or was used."""
    left: int | None = await tx.fetch_value(_USE_RECOVERY_CODE, admin_id, digest, at)
    return left


_NOTE_FAILURE = statement(
    "totp_factors.note_failure", "UPDATE totp_factors SET failures = $2, closed_until = $3 WHERE admin_id = $1"
)


async def note_failure(tx: Transaction, admin_id: UUID, failures: int, closed_until: datetime | None) -> None:
    """Count a wrong code of a locked factor."""
    await tx.execute(_NOTE_FAILURE, admin_id, failures, closed_until)


_REOPEN = statement(
    "totp_factors.reopen",
    "UPDATE totp_factors SET closed_until = NULL WHERE admin_id = $1 AND closed_until > $2 AND failures <= $3",
)


async def reopen(tx: Transaction, admin_id: UUID, now: datetime, most_failures: int) -> bool:
    """Look at codes again at once, unless more were wrong in a row; they stay counted. False: it stays as it is."""
    return await tx.execute(_REOPEN, admin_id, now, most_failures) == 1


_REPLACE_RECOVERY_CODES = statement(
    "recovery_codes.replace",
    """
    WITH gone AS (
        DELETE FROM recovery_codes WHERE admin_id = $1
    )
    INSERT INTO recovery_codes (admin_id, church_id, digest)
    SELECT $1, $2, digest FROM unnest($3::bytea[]) AS digest
    """,
)


async def replace_recovery_codes(tx: Transaction, admin_id: UUID, digests: Sequence[bytes]) -> None:
    """Put new recovery codes in the place of all that there are, used or not; the factor must be locked."""
    await tx.execute(_REPLACE_RECOVERY_CODES, admin_id, tx.tenant, list(digests))


_DELETE = statement("totp_factors.delete", "DELETE FROM totp_factors WHERE admin_id = $1")


async def delete(tx: Transaction, admin_id: UUID) -> bool:
    """Remove a factor with its recovery codes; False: there was none."""
    return await tx.execute(_DELETE, admin_id) == 1
