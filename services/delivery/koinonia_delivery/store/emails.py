"""E-mails, from the wish to some days after their end."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.events.delivery import EmailRequested
from koinonia_delivery.domain.mailing import UNKNOWNS, Outcome

EMAIL_CHANNEL = "delivery_emails"


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """An e-mail that was claimed: to be sent, or closed by the claim itself."""

    id: UUID
    church_id: UUID
    template: str
    status: str  # sending, expired or failed
    attempt: int
    refusals: int
    unknowns: int
    created_at: datetime
    email_ciphertext: bytes | None
    fields_ciphertext: bytes | None
    error_code: str | None


_INSERT = statement(
    "emails.insert",
    """
    WITH added AS (
        INSERT INTO emails (id, church_id, template, email_ciphertext, fields_ciphertext, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT pg_notify($7, '') FROM added
    """,
)


async def insert(tx: Transaction, wish: EmailRequested) -> None:
    """Store a wish of the tenant's, once, and wake the workers."""
    await tx.fetch_value(
        _INSERT,
        wish.email_id,
        tx.tenant,
        wish.template,
        wish.email_ciphertext,
        wish.fields_ciphertext,
        wish.expires_at,
        EMAIL_CHANNEL,
    )


# One whose worker let its lease end may have gone: nobody knows. One that kills every worker ends that way.
_CLAIM = statement(
    "emails.claim",
    """
    WITH due AS MATERIALIZED (
        SELECT
            emails.id,
            emails.unknowns + (emails.status = 'sending')::integer AS unknowns,
            CASE
                WHEN emails.expires_at <= clock_timestamp() THEN 'expired'
                WHEN emails.unknowns + (emails.status = 'sending')::integer >= $3 THEN 'failed'
                ELSE 'sending'
            END AS next
        FROM emails
        WHERE emails.settled_at IS NULL AND emails.due_at <= clock_timestamp()
        ORDER BY emails.due_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE emails
    SET status = due.next, unknowns = due.unknowns,
        attempt = emails.attempt + (due.next = 'sending')::integer,
        due_at = clock_timestamp() + make_interval(secs => $2),
        settled_at = CASE WHEN due.next <> 'sending' THEN clock_timestamp() END,
        error_code = CASE WHEN emails.status = 'sending' THEN 'lost' ELSE emails.error_code END,
        email_ciphertext = CASE WHEN due.next <> 'expired' THEN emails.email_ciphertext END,
        fields_ciphertext = CASE WHEN due.next <> 'expired' THEN emails.fields_ciphertext END
    FROM due
    WHERE emails.id = due.id
    RETURNING emails.id, emails.church_id, emails.template, emails.status, emails.attempt, emails.refusals,
        emails.unknowns, emails.created_at, emails.email_ciphertext, emails.fields_ciphertext, emails.error_code
    """,
)


async def claim(tx: Transaction, places: int, lease_seconds: float) -> list[Claimed]:
    """Take up to ``places`` e-mails that are due, across churches; close those whose time or tries are over."""
    rows = await tx.fetch(_CLAIM, places, lease_seconds, UNKNOWNS)
    return [Claimed(**dict(row)) for row in rows]


_RENEW = statement(
    "emails.renew",
    """
    UPDATE emails
    SET due_at = clock_timestamp() + make_interval(secs => $3)
    WHERE id = $1 AND attempt = $2 AND status = 'sending'
    """,
)


async def renew(tx: Transaction, claimed: Claimed, lease_seconds: float) -> bool:
    """Lengthen the lease of an attempt; whether it is still the last one's, and the e-mail there."""
    return await tx.execute(_RENEW, claimed.id, claimed.attempt, lease_seconds) == 1


_SETTLE = statement(
    "emails.settle",
    """
    UPDATE emails
    SET status = outcome.status, error_code = outcome.code,
        refusals = emails.refusals + outcome.refused::integer,
        unknowns = emails.unknowns + outcome.unknown::integer,
        due_at = clock_timestamp() + make_interval(secs => outcome.wait_seconds),
        settled_at = CASE WHEN outcome.status <> 'queued' THEN clock_timestamp() END,
        email_ciphertext = CASE WHEN outcome.status <> 'sent' THEN emails.email_ciphertext END,
        fields_ciphertext = CASE WHEN outcome.status <> 'sent' THEN emails.fields_ciphertext END
    FROM (
        SELECT $3::text AS status, $4::text AS code, $5::boolean AS refused, $6::boolean AS unknown,
            $7::double precision AS wait_seconds
    ) AS outcome
    WHERE emails.id = $1 AND emails.attempt = $2 AND emails.status = 'sending'
    """,
)


async def settle(tx: Transaction, outcome: Outcome) -> bool:
    """Write how an attempt ended; whether its word still counted: it was the last."""
    count = await tx.execute(
        _SETTLE,
        outcome.email_id,
        outcome.attempt,
        outcome.status,
        outcome.code,
        outcome.refused,
        outcome.unknown,
        outcome.wait_seconds,
    )
    return count == 1


_FORGET = statement(
    "emails.forget",
    """
    DELETE FROM emails
    WHERE id = ANY (
        ARRAY(SELECT id FROM emails WHERE settled_at < clock_timestamp() - $1::interval ORDER BY settled_at LIMIT $2)
    )
    """,
)


async def forget(tx: Transaction, days: int, limit: int) -> int:
    """Delete e-mails that ended so many days ago, ``limit`` at most; answers how many."""
    return await tx.execute(_FORGET, timedelta(days=days), limit)


_DELETE_OLDER = statement(
    "emails.delete_older",
    """
    DELETE FROM emails
    WHERE id = ANY (ARRAY(SELECT id FROM emails WHERE created_at < $1 LIMIT $2))
    """,
)


async def delete_older(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete the tenant's e-mails that were asked for before a time, open ones too; answers how many."""
    return await tx.execute(_DELETE_OLDER, before, limit)


_COUNT = statement(
    "emails.count",
    """
    SELECT
        (SELECT count(*) FROM emails WHERE settled_at IS NULL) AS waiting,
        (SELECT count(*) FROM emails WHERE status = 'failed') AS failed
    """,
)


async def count(tx: Transaction) -> dict[str, float]:
    """How many wait, and how many failed and are kept."""
    (row,) = await tx.fetch(_COUNT)
    return dict(row)


class Listed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An e-mail as an operator sees it."""

    id: UUID
    church_id: UUID
    template: str
    status: str
    attempt: int
    unknowns: int  # attempts of which nobody knows whether the server has it
    error_code: str | None
    created_at: datetime
    expires_at: datetime


_LIST_OPEN = statement(
    "emails.list_open",
    """
    SELECT id, church_id, template, status, attempt, unknowns, error_code, created_at, expires_at
    FROM emails
    WHERE settled_at IS NULL OR status = 'failed'
    ORDER BY created_at DESC
    LIMIT $1
    """,
)


async def list_open(tx: Transaction, limit: int) -> list[Listed]:
    """E-mails that wait or have failed, the newest first."""
    rows = await tx.fetch(_LIST_OPEN, limit)
    return [Listed(**dict(row)) for row in rows]


_RETRY = statement(
    "emails.retry",
    """
    UPDATE emails
    SET status = 'queued', refusals = 0, unknowns = 0, due_at = clock_timestamp(), settled_at = NULL
    WHERE ($1::uuid IS NULL OR id = $1) AND status = 'failed' AND expires_at > clock_timestamp()
    """,
)


async def retry(tx: Transaction, email_id: UUID | None = None) -> int:
    """Let one that has failed, or each, be tried again; answers how many there are in time."""
    return await tx.execute(_RETRY, email_id)
