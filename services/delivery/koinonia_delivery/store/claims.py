"""Claiming: the statements of one transaction; ``koinonia_delivery.claims`` has the reasons for their order."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_delivery.domain.choosing import Candidate, Clock
from koinonia_delivery.domain.states import Change

FRESH_SECONDS = 15.0
"""How old our knowledge of opt-outs may be."""
REPEAT_HOURS = 23.0
"""How long after its first attempt a text is sent again under its key, which the carrier keeps for 24 hours."""

_IS_FRESH = statement(
    "freshness.check",
    """
    SELECT
        marker_sent_at > clock_timestamp() - make_interval(secs => $1)
        AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $1))
    FROM freshness
    """,
)


async def is_fresh(tx: Transaction) -> bool:
    """Whether no opt-out can be unknown to us for longer than ``FRESH_SECONDS``; the claim itself asks so again."""
    return bool(await tx.fetch_value(_IS_FRESH, FRESH_SECONDS))


# The distinct numbers with waiting work are found by jumping through the index from one to the next. Of those that are
# free, the ones that were served longest ago come first; they are locked in the order of their ids.
_LOCK_CLOCKS = statement(
    "claims.lock_clocks",
    """
    WITH RECURSIVE moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    waiting (number_id) AS (
        (SELECT work.number_id FROM work WHERE work.state = 'ready' ORDER BY work.number_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT work.number_id
            FROM work
            WHERE work.state = 'ready' AND work.number_id > waiting.number_id
            ORDER BY work.number_id
            LIMIT 1
        )
        FROM waiting
        WHERE waiting.number_id IS NOT NULL
    ),
    due AS (
        SELECT waiting.number_id
        FROM waiting, moment
        WHERE EXISTS (
            SELECT
            FROM work
            WHERE work.number_id = waiting.number_id
                AND work.state = 'ready'
                AND work.priority IN (0, 1)
                AND work.due_at <= moment.now
        )
        UNION
        SELECT work.number_id
        FROM work, moment
        WHERE work.state = 'unknown' AND work.resend AND work.due_at <= moment.now
    ),
    free AS (
        SELECT numbers.id
        FROM due
        JOIN numbers ON numbers.id = due.number_id
        CROSS JOIN moment
        WHERE numbers.status = 'active' AND numbers.next_free_at <= moment.now + make_interval(secs => $2)
        ORDER BY numbers.next_free_at
        LIMIT $1
    )
    SELECT
        numbers.id, numbers.church_id, numbers.next_free_at, numbers.segments_per_second, numbers.phone,
        numbers.messaging_profile_id
    FROM numbers
    WHERE numbers.id = ANY (ARRAY(SELECT free.id FROM free))
        AND numbers.status = 'active'
        AND EXISTS (
            SELECT
            FROM freshness
            WHERE marker_sent_at > clock_timestamp() - make_interval(secs => $3)
                AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $3))
        )
    ORDER BY numbers.id
    FOR UPDATE OF numbers SKIP LOCKED
    """,
)


async def lock_clocks(tx: Transaction, limit: int, horizon_seconds: float) -> dict[UUID, Clock]:
    """Lock the clocks of numbers that have something to send and may; none while our knowledge is stale."""
    rows = await tx.fetch(_LOCK_CLOCKS, limit, horizon_seconds, FRESH_SECONDS)
    return {
        row["id"]: Clock(
            number_id=row["id"],
            church_id=row["church_id"],
            next_free_at=row["next_free_at"],
            segments_per_second=row["segments_per_second"],
            sender=row["phone"],
            messaging_profile_id=row["messaging_profile_id"],
        )
        for row in rows
    }


_SHARE_CHURCHES = statement(
    "claims.share_churches",
    """
    SELECT pg_advisory_xact_lock_shared(hashtextextended('delivery.church.' || church.id, 0))
    FROM unnest($1::text[]) AS church (id)
    """,
)


async def share_churches(tx: Transaction, church_ids: Sequence[UUID]) -> None:
    """Keep holds of these churches waiting until this transaction ends, and wait for those that are being stored.

    A statement of its own: the next one takes its snapshot after the locks, so that it sees every hold that was stored.
    """
    await tx.execute(_SHARE_CHURCHES, sorted(str(church_id) for church_id in church_ids))


# A phone is withdrawn when members are known to have it and none of them consents; only broadcasts need consent.
_PICK = statement(
    "claims.pick",
    """
    WITH moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    clock AS MATERIALIZED (
        SELECT clock.number_id FROM unnest($1::uuid[]) AS clock (number_id)
    ),
    waiting AS MATERIALIZED (
        SELECT task.*
        FROM clock
        CROSS JOIN LATERAL (
            SELECT work.*
            FROM work
            WHERE work.number_id = clock.number_id
                AND work.state = 'ready'
                AND work.priority IN (0, 1)
                AND work.due_at <= (SELECT moment.now FROM moment)
            ORDER BY work.priority, work.due_at, work.recipient_id
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS task
    ),
    repeated AS MATERIALIZED (
        SELECT work.*
        FROM work
        WHERE work.state = 'unknown'
            AND work.resend
            AND $4
            AND work.number_id = ANY ($1::uuid[])
            AND work.due_at <= (SELECT moment.now FROM moment)
            AND work.group_started_at > (SELECT moment.now FROM moment) - make_interval(hours => $3)
        ORDER BY work.due_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ),
    task AS (
        SELECT * FROM waiting
        UNION ALL
        SELECT * FROM repeated
    )
    SELECT
        moment.now, task.recipient_id, task.church_id, task.number_id, task.phone_index, task.priority, task.due_at,
        task.segments, task.traceparent, task.state = 'unknown' AS is_repeat,
        CASE
            WHEN EXISTS (
                SELECT
                FROM broadcasts
                WHERE broadcasts.message_id = task.source_id AND broadcasts.cancelled_at IS NOT NULL
            ) THEN 'cancelled'
            WHEN task.do_not_send_after < moment.now THEN 'expired'
            WHEN task.passes_suppression THEN NULL
            WHEN EXISTS (
                SELECT
                FROM suppressions
                WHERE suppressions.church_id = task.church_id
                    AND suppressions.phone_index = task.phone_index
                    AND suppressions.suppressed
            ) THEN 'suppressed'
            WHEN EXISTS (SELECT FROM broadcasts WHERE broadcasts.message_id = task.source_id)
                AND (
                    SELECT NOT bool_or(consents.consents)
                    FROM consents
                    WHERE consents.church_id = task.church_id AND consents.phone_index = task.phone_index
                ) THEN 'withdrawn'
            WHEN EXISTS (
                SELECT
                FROM holds
                WHERE holds.church_id = task.church_id
                    AND holds.phone_index = task.phone_index
                    AND holds.settled_at IS NULL
            ) THEN 'held'
            WHEN EXISTS (
                SELECT
                FROM work AS earlier
                WHERE earlier.church_id = task.church_id
                    AND earlier.phone_index = task.phone_index
                    AND earlier.state = 'sending'
            ) THEN 'busy'
        END AS obstacle
    FROM task
    CROSS JOIN moment
    """,
)


async def pick(
    tx: Transaction, number_ids: Sequence[UUID], per_number: int, *, resend: bool
) -> tuple[datetime | None, list[Candidate]]:
    """The candidates of these numbers, locked, with what stands in their way; and the time, read after the locks.

    ``resend``: unknown ones too, since the carrier honours keys.
    """
    rows = await tx.fetch(_PICK, list(number_ids), per_number, int(REPEAT_HOURS), resend)
    candidates = [
        Candidate(
            recipient_id=row["recipient_id"],
            church_id=row["church_id"],
            number_id=row["number_id"],
            phone_index=row["phone_index"],
            priority=row["priority"],
            due_at=row["due_at"],
            segments=row["segments"],
            is_repeat=row["is_repeat"],
            traceparent=row["traceparent"],
            obstacle=row["obstacle"],
        )
        for row in rows
    ]
    return (rows[0]["now"] if rows else None), candidates


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that is this worker's until its lease ends, with all that the call is made of."""

    recipient_id: UUID
    church_id: UUID
    source_id: UUID
    number_id: UUID
    attempt: int
    group_started_at: datetime
    phone_ciphertext: bytes
    sender: str
    messaging_profile_id: str | None
    text: str
    media_urls: tuple[str, ...]
    webhook_url: str
    traceparent: str | None
    correlation_id: str | None


_TAKE = statement(
    "claims.take",
    """
    WITH taken AS MATERIALIZED (
        SELECT taken.*
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS taken (id, sender, profile, webhook_url)
    ),
    leased AS (
        UPDATE work
        SET state = 'sending', attempt = work.attempt + 1, leased_until = $5::timestamptz + make_interval(secs => $6),
            group_started_at = coalesce(work.group_started_at, $5),
            sender = coalesce(work.sender, taken.sender),
            messaging_profile_id = coalesce(work.messaging_profile_id, taken.profile),
            webhook_url = coalesce(work.webhook_url, taken.webhook_url)
        FROM taken
        WHERE work.recipient_id = taken.id
        RETURNING work.*
    ),
    clock AS (
        UPDATE numbers
        SET next_free_at = clock.next_free_at
        FROM unnest($7::uuid[], $8::timestamptz[]) AS clock (number_id, next_free_at)
        WHERE numbers.id = clock.number_id
    ),
    begun AS (
        UPDATE recipients
        SET status = CASE recipients.status WHEN 'queued' THEN 'sending' ELSE recipients.status END,
            attempt = leased.attempt,
            -- Only one that a person sends again has these, of its first copy; the second is metered too.
            accepted_at = NULL, sent_at = NULL, carrier_id = NULL
        FROM leased
        WHERE recipients.id = leased.recipient_id
            AND recipients.id BETWEEN $9 AND $10  -- one partition
            AND recipients.status IN ('queued', 'unknown')
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, leased.number_id, leased.attempt,
            leased.group_started_at, recipients.phone_ciphertext, leased.sender, leased.messaging_profile_id,
            recipients.text, recipients.media_urls, leased.webhook_url, leased.traceparent,
            leased.correlation_id
    )
    SELECT * FROM begun
    """,
)


async def take(
    tx: Transaction,
    chosen: Sequence[tuple[Candidate, Clock, str]],
    next_free_at: Mapping[UUID, datetime],
    now: datetime,
    lease_seconds: float,
) -> list[Claimed]:
    """Make the chosen ones ``sending``, fix their bodies, and advance the clocks. Each comes with its webhook URL.

    One that is unknown stays so while it is sent again.
    """
    ids = sorted(candidate.recipient_id for candidate, _, _ in chosen)
    rows = await tx.fetch(
        _TAKE,
        [candidate.recipient_id for candidate, _, _ in chosen],
        [clock.sender for _, clock, _ in chosen],
        [clock.messaging_profile_id for _, clock, _ in chosen],
        [webhook_url for _, _, webhook_url in chosen],
        now,
        lease_seconds,
        list(next_free_at),
        list(next_free_at.values()),
        ids[0],
        ids[-1],
    )
    return [
        Claimed(
            recipient_id=row["id"],
            church_id=row["church_id"],
            source_id=row["source_id"],
            number_id=row["number_id"],
            attempt=row["attempt"],
            group_started_at=row["group_started_at"],
            phone_ciphertext=row["phone_ciphertext"],
            sender=row["sender"],
            messaging_profile_id=row["messaging_profile_id"],
            text=row["text"],
            media_urls=tuple(row["media_urls"]),
            webhook_url=row["webhook_url"],
            traceparent=row["traceparent"],
            correlation_id=row["correlation_id"],
        )
        for row in rows
    ]


_PUT_ASIDE = statement(
    "claims.put_aside",
    """
    WITH closing AS MATERIALIZED (
        SELECT closing.*
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS closing (id, status, sentence)
    ),
    closed AS (
        UPDATE recipients
        SET status = closing.status, settled_at = clock_timestamp(),
            error_code = CASE WHEN closing.status = 'cancelled' THEN recipients.error_code ELSE closing.status END,
            error_message = coalesce(closing.sentence, recipients.error_message)
        FROM closing
        WHERE recipients.id = closing.id AND recipients.status = 'queued'
        RETURNING
            recipients.church_id, recipients.source_id, recipients.kind, 'queued' AS was, recipients.status AS became
    ),
    finished AS (
        DELETE FROM work USING closing WHERE work.recipient_id = closing.id
    ),
    postponed AS (
        UPDATE work
        SET due_at = clock_timestamp() + make_interval(secs => $5)
        WHERE work.recipient_id = ANY ($4::uuid[])
    ),
    doubtful AS (
        UPDATE work
        SET resend = false
        WHERE work.recipient_id = ANY ($6::uuid[])
    )
    SELECT church_id, source_id, kind, was, became, count(*) AS rows
    FROM closed
    GROUP BY church_id, source_id, kind, was, became
    """,
)


async def put_aside(
    tx: Transaction,
    closed: Sequence[tuple[UUID, str, str | None]],
    postponed: Sequence[UUID],
    postpone_seconds: float,
    doubtful: Sequence[UUID],
) -> list[Change]:
    """Close what shall never go (id, status, sentence), postpone what is held, leave to look-ups what is doubtful."""
    rows = await tx.fetch(
        _PUT_ASIDE,
        [recipient_id for recipient_id, _, _ in closed],
        [status for _, status, _ in closed],
        [sentence for _, _, sentence in closed],
        list(postponed),
        postpone_seconds,
        list(doubtful),
    )
    return [
        Change(
            church_id=row["church_id"],
            source_id=row["source_id"],
            kind=row["kind"],
            was=row["was"],
            became=row["became"],
            rows=row["rows"],
        )
        for row in rows
    ]


# Who has one locked is settling it, most often this very worker: to wait for that, with others locked, is a deadlock.
_RENEW = statement(
    "work.renew",
    """
    WITH task AS MATERIALIZED (
        SELECT work.recipient_id
        FROM work
        JOIN unnest($1::uuid[], $2::int[]) AS held (id, attempt)
            ON held.id = work.recipient_id AND held.attempt = work.attempt
        WHERE work.state = 'sending'
        ORDER BY work.recipient_id
        FOR UPDATE OF work SKIP LOCKED
    )
    UPDATE work
    SET leased_until = clock_timestamp() + make_interval(secs => $3)
    FROM task
    WHERE work.recipient_id = task.recipient_id
    """,
)


async def renew(tx: Transaction, held: Sequence[tuple[UUID, int]], lease_seconds: float) -> None:
    """Lengthen the leases of calls that are still under way (id, attempt)."""
    await tx.execute(_RENEW, [each[0] for each in held], [each[1] for each in held], lease_seconds)
