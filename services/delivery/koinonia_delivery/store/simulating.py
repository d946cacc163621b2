"""The work of the simulated carrier; ``koinonia_delivery.simulating`` has the reasons for the statements' order."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia.events.common import RecipientStatus
from koinonia_delivery.domain.simulating import Obstacle, Step
from koinonia_delivery.domain.states import Change
from koinonia_delivery.store.claims import IS_HELD, IS_SUPPRESSED, IS_WITHDRAWN

# From church to church by the index, so that neither what is held nor what one church has waiting is read by others.
_TAKE = statement(
    "test_work.take",
    """
    WITH RECURSIVE church AS (
        (
            SELECT test_work.church_id AS id
            FROM test_work
            WHERE (SELECT due_at FROM test_work ORDER BY due_at LIMIT 1) <= statement_timestamp()
            ORDER BY test_work.church_id
            LIMIT 1
        )
        UNION ALL
        SELECT following.id
        FROM church
        CROSS JOIN LATERAL (
            SELECT test_work.church_id AS id
            FROM test_work
            WHERE test_work.church_id > church.id
            ORDER BY test_work.church_id
            LIMIT 1
        ) AS following
    ),
    waiting AS MATERIALIZED (
        SELECT church.id
        FROM church
        CROSS JOIN LATERAL (
            SELECT FROM test_work WHERE church_id = church.id AND due_at <= statement_timestamp() LIMIT 1
        ) AS first
    )
    SELECT task.recipient_id, task.church_id
    FROM waiting
    CROSS JOIN LATERAL (
        SELECT test_work.recipient_id, test_work.church_id
        FROM test_work
        WHERE test_work.church_id = waiting.id AND test_work.due_at <= statement_timestamp()
        ORDER BY test_work.due_at
        LIMIT greatest(1, $1::bigint / (SELECT count(*) FROM waiting))
        FOR UPDATE SKIP LOCKED
    ) AS task
    """,
)


async def take(tx: Transaction, limit: int) -> list[tuple[UUID, UUID]]:
    """Lock recipients that are due, with their churches: each church's share of ``limit``, and at least one."""
    return [(row["recipient_id"], row["church_id"]) for row in await tx.fetch(_TAKE, limit)]


_LOCK_CHURCHES = statement(
    "test_work.lock_churches",
    """
    SELECT pg_advisory_xact_lock_shared(hashtextextended('delivery.church.' || church.id, 0))
    FROM (SELECT unnest($1::uuid[]) AS id ORDER BY id) AS church
    """,
)


async def lock_churches(tx: Transaction, church_ids: Iterable[UUID]) -> None:
    """Keep opt-outs, cancels and pauses of these churches waiting, and wait for those that are being stored."""
    await tx.fetch(_LOCK_CHURCHES, sorted(church_ids))


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A test's recipient, and what stands in its way."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    status: RecipientStatus
    phone_ciphertext: bytes
    obstacle: Obstacle | None
    held_seconds: float
    traceparent: str | None
    correlation_id: str | None


# As a claim judges: what was accepted already comes to its end, whatever happens now.
_READ = statement(
    "test_work.read",
    f"""
    SELECT
        task.id AS recipient_id, task.church_id, task.source_id, task.status, task.phone_ciphertext,
        test_work.traceparent, test_work.correlation_id,
        extract(epoch FROM coalesce(clock_timestamp() - test_work.held_at, '0'))::float8 AS held_seconds,
        CASE
            WHEN task.status <> 'queued' THEN NULL
            WHEN broadcasts.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN test_work.do_not_send_after < clock_timestamp() THEN 'expired'
            WHEN {IS_SUPPRESSED} THEN 'suppressed'
            WHEN {IS_WITHDRAWN} THEN 'withdrawn'
            WHEN broadcasts.paused_at IS NOT NULL OR numbers.status <> 'active' THEN 'held'
            WHEN {IS_HELD} THEN 'held'
        END AS obstacle
    FROM test_work
    JOIN recipients AS task ON task.id = test_work.recipient_id
    LEFT JOIN broadcasts ON broadcasts.message_id = task.source_id
    LEFT JOIN numbers ON numbers.id = task.number_id
    WHERE test_work.recipient_id = ANY ($1::uuid[]) AND task.test AND task.settled_at IS NULL
    ORDER BY task.id
    FOR UPDATE OF task
    """,
)


async def read(tx: Transaction, recipient_ids: Sequence[UUID]) -> list[Pending]:
    """The open ones of these, locked."""
    rows = await tx.fetch(_READ, recipient_ids)
    return [msgspec.convert(dict(row), Pending) for row in rows]


_APPLY = statement(
    "test_work.apply",
    """
    WITH moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    step AS MATERIALIZED (
        SELECT step.*
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $8::bool[])
            AS step (id, was, became, error_code, error_message, wait_seconds, is_held)
    ),
    changed AS (
        UPDATE recipients
        SET status = step.became,
            error_code = step.error_code,
            error_message = step.error_message,
            carrier_id = CASE WHEN step.became = 'sent' THEN 'simulated-' || step.id ELSE recipients.carrier_id END,
            attempt = recipients.attempt + (step.was = 'queued' AND step.became IN ('sent', 'failed'))::integer,
            accepted_at = CASE WHEN step.became = 'sent' THEN moment.now ELSE recipients.accepted_at END,
            sent_at = CASE WHEN step.became = 'sent' THEN moment.now ELSE recipients.sent_at END,
            delivered_at = CASE WHEN step.became = 'delivered' THEN moment.now END,
            settled_at = CASE WHEN step.became <> 'sent' THEN moment.now END
        FROM step
        CROSS JOIN moment
        WHERE recipients.id = step.id AND recipients.test AND recipients.status = step.was
            AND step.became <> step.was
        RETURNING
            recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id, step.was, step.became,
            CASE WHEN step.became IN ('failed', 'undelivered') THEN step.error_code END AS failure_code
    ),
    waiting AS (
        UPDATE test_work
        SET due_at = least(
                moment.now + make_interval(secs => step.wait_seconds),
                CASE WHEN step.is_held AND step.was = 'queued' THEN test_work.do_not_send_after END
            ),
            held_at = CASE WHEN step.is_held THEN coalesce(test_work.held_at, moment.now) END
        FROM step
        CROSS JOIN moment
        WHERE test_work.recipient_id = step.id AND step.wait_seconds IS NOT NULL
    ),
    finished AS (
        DELETE FROM test_work USING step WHERE test_work.recipient_id = step.id AND step.wait_seconds IS NULL
    ),
    forgotten AS (
        DELETE FROM test_work WHERE test_work.recipient_id = ANY ($7::uuid[])
    )
    SELECT church_id, source_id, kind, branch_id, was, became, failure_code, count(*) AS rows
    FROM changed
    GROUP BY church_id, source_id, kind, branch_id, was, became, failure_code
    """,
)


async def apply(tx: Transaction, steps: Mapping[UUID, Step], gone: Sequence[UUID]) -> list[Change]:
    """Move recipients on, and forget those that are gone. Nothing counts as newly accepted: it is not metered."""
    rows = await tx.fetch(
        _APPLY,
        list(steps),
        [step.was for step in steps.values()],
        [step.became for step in steps.values()],
        [step.error_code for step in steps.values()],
        [step.error_message for step in steps.values()],
        [step.wait_seconds for step in steps.values()],
        gone,
        [step.is_held for step in steps.values()],
    )
    return [
        Change(
            church_id=row["church_id"],
            source_id=row["source_id"],
            kind=row["kind"],
            branch_id=row["branch_id"],
            was=row["was"],
            became=row["became"],
            rows=row["rows"],
            failure_code=row["failure_code"],
            test=True,
        )
        for row in rows
    ]


# Locked like a round's: test work, then the church's advisory lock.
_WAKE = statement(
    "test_work.wake",
    """
    WITH held AS MATERIALIZED (
        SELECT recipient_id
        FROM test_work
        WHERE church_id = $1 AND held_at IS NOT NULL
        ORDER BY recipient_id
        FOR UPDATE
    )
    UPDATE test_work
    SET due_at = clock_timestamp(), held_at = NULL
    FROM held
    WHERE test_work.recipient_id = held.recipient_id
    """,
)


async def wake(tx: Transaction) -> None:
    """Look again at what is held of the church, once this transaction has committed: something may have freed it."""
    await tx.execute(_WAKE, tx.tenant)
