"""Receipts: the carrier's word, a batch in one statement, by rank, never backwards; and those that came too early."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia_delivery.domain.states import Change, Verdict

# Work is locked before its recipient, as everywhere; the comparison with the count makes Postgres do it in that order.
_APPLY = statement(
    "receipts.apply",
    """
    WITH moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    verdict AS MATERIALIZED (
        SELECT verdict.*
        FROM unnest(
            $1::uuid[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $9::text[]
        ) AS verdict (id, status, rank, occurred_at, carrier_id, error_code, error_message, source)
    ),
    task AS MATERIALIZED (
        SELECT work.recipient_id
        FROM work
        WHERE work.recipient_id = ANY ($1::uuid[])
        ORDER BY work.recipient_id
        FOR UPDATE OF work
    ),
    before AS MATERIALIZED (
        SELECT
            recipients.id, recipients.status, recipients.accepted_at, recipients.church_id, recipients.attempt,
            recipients.test,
            CASE recipients.status
                WHEN 'sent' THEN 1 WHEN 'unconfirmed' THEN 2 WHEN 'undelivered' THEN 3 WHEN 'delivered' THEN 4
                ELSE 0
            END AS rank
        FROM recipients
        WHERE recipients.id = ANY ($1::uuid[])
            AND (SELECT count(*) FROM task) >= 0
        ORDER BY recipients.id
        FOR UPDATE OF recipients
    ),
    judged AS MATERIALIZED (
        SELECT
            before.id, before.status AS was, before.accepted_at IS NULL AS newly_accepted, verdict.occurred_at,
            verdict.carrier_id, verdict.error_code, verdict.error_message, verdict.source, verdict.status AS said,
            before.church_id, before.attempt, verdict.rank = before.rank AS is_repeated,
            CASE
                WHEN verdict.rank <= before.rank THEN before.status
                -- What we have closed stays closed: the carrier has taken it all the same, and may say more.
                WHEN verdict.status = 'sent' AND before.status IN ('failed', 'suppressed', 'cancelled', 'expired')
                    THEN 'unconfirmed'
                ELSE verdict.status
            END AS became
        FROM before
        JOIN verdict ON verdict.id = before.id
        WHERE NOT before.test  -- the real carrier has none of them
    ),
    changed AS (
        UPDATE recipients
        SET status = judged.became,
            carrier_id = coalesce(recipients.carrier_id, judged.carrier_id),
            error_code = CASE WHEN judged.became = judged.was THEN recipients.error_code ELSE judged.error_code END,
            error_message =
                CASE WHEN judged.became = judged.was THEN recipients.error_message ELSE judged.error_message END,
            accepted_at = coalesce(recipients.accepted_at, moment.now),
            sent_at = coalesce(recipients.sent_at, judged.occurred_at),
            delivered_at =
                CASE WHEN judged.became = 'delivered' THEN coalesce(recipients.delivered_at, judged.occurred_at) END,
            settled_at = CASE WHEN judged.became <> 'sent' THEN coalesce(recipients.settled_at, moment.now) END
        FROM judged
        CROSS JOIN moment
        WHERE recipients.id = judged.id
            AND (judged.became <> judged.was OR judged.newly_accepted)
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id,
            judged.was, judged.became, recipients.segments, judged.newly_accepted,
            CASE WHEN judged.became = 'undelivered' THEN judged.error_code END AS failure_code
    ),
    finished AS (
        DELETE FROM work
        USING changed
        WHERE work.recipient_id = changed.id
            AND changed.was <> changed.became
            AND NOT (work.is_late AND changed.became = 'sent')
    ),
    late AS (
        UPDATE work
        SET state = 'overdue', leased_until = NULL, due_at = moment.now + make_interval(secs => $8)
        FROM changed
        CROSS JOIN moment
        WHERE work.recipient_id = changed.id
            AND changed.was <> changed.became
            AND work.is_late
            AND changed.became = 'sent'
    ),
    -- What the row cannot tell: trouble, with the carrier's own time; and what settled one that was in doubt or closed.
    told AS (
        INSERT INTO trail (
            id, at, what, church_id, was, became, said, attempt, error_code, error_message
        )
        SELECT
            judged.id, judged.occurred_at, judged.source, judged.church_id, judged.was, judged.became, judged.said,
            judged.attempt, judged.error_code, judged.error_message
        FROM judged
        WHERE NOT judged.is_repeated
            AND (
                judged.said IN ('undelivered', 'unconfirmed')
                OR (
                    judged.was <> judged.became
                    AND (judged.was NOT IN ('sending', 'sent') OR judged.source <> 'receipt')
                )
            )
        ON CONFLICT DO NOTHING  -- a repeated one that says something else than what holds
    )
    SELECT
        before.id, changed.id IS NOT NULL AS is_changed, changed.church_id, changed.source_id, changed.kind,
        changed.branch_id, changed.was, changed.became, changed.segments, changed.newly_accepted, changed.failure_code
    FROM before
    LEFT JOIN changed ON changed.id = before.id
    """,
)


async def apply(
    tx: Transaction, verdicts: Sequence[Verdict], receipt_deadline_seconds: float
) -> tuple[list[Change], set[UUID], dict[UUID, str | None]]:
    """Apply one verdict per recipient, in the order of ids.

    Answers what changed, which recipients are there, and the traces of the sources that changed.
    """
    rows = await tx.fetch(
        _APPLY,
        [verdict.recipient_id for verdict in verdicts],
        [verdict.status for verdict in verdicts],
        [verdict.rank for verdict in verdicts],
        [verdict.occurred_at for verdict in verdicts],
        [verdict.carrier_id for verdict in verdicts],
        [verdict.error_code for verdict in verdicts],
        [verdict.error_message for verdict in verdicts],
        receipt_deadline_seconds,
        [verdict.source for verdict in verdicts],
    )
    changes = [
        Change(
            church_id=row["church_id"],
            source_id=row["source_id"],
            kind=row["kind"],
            branch_id=row["branch_id"],
            was=row["was"],
            became=row["became"],
            segments=row["segments"],
            newly_accepted=row["newly_accepted"],
            failure_code=row["failure_code"],
        )
        for row in rows
        if row["is_changed"]
    ]
    traces = {verdict.recipient_id: verdict.traceparent for verdict in verdicts}
    traceparents = {row["source_id"]: traces[row["id"]] for row in rows if row["is_changed"]}
    return changes, {row["id"] for row in rows}, traceparents


# Read from the catalogue: what is attached now is what a receipt can reach.
_LIST_ARCHIVED = statement(
    "receipts.list_archived",
    """
    WITH partition AS MATERIALIZED (
        SELECT bounds[1]::uuid AS first, bounds[2]::uuid AS after
        FROM pg_inherits
        JOIN pg_class AS class ON class.oid = pg_inherits.inhrelid
        CROSS JOIN LATERAL regexp_match(
            pg_get_expr(class.relpartbound, class.oid), '\\(''(.*)''\\) TO \\(''(.*)''\\)'
        ) AS bounds
        WHERE pg_inherits.inhparent = 'recipients'::regclass AND NOT pg_inherits.inhdetachpending
    )
    SELECT recipient.id
    FROM unnest($1::uuid[]) AS recipient (id)
    WHERE NOT EXISTS (SELECT FROM partition WHERE recipient.id >= partition.first AND recipient.id < partition.after)
        AND EXISTS (SELECT FROM partition WHERE recipient.id < partition.after)
    """,
)


async def list_archived(tx: Transaction, recipient_ids: Sequence[UUID]) -> set[UUID]:
    """Those whose month is in the table no more."""
    return {row["id"] for row in await tx.fetch(_LIST_ARCHIVED, list(recipient_ids))}


_PARK = statement(
    "parked_receipts.insert",
    """
    INSERT INTO parked_receipts (id, recipient_id, receipt, next_try_at)
    SELECT parked.id, parked.recipient_id, parked.receipt, clock_timestamp() + make_interval(secs => $4)
    FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS parked (id, recipient_id, receipt)
    ON CONFLICT (id) DO NOTHING
    """,
)


async def park(tx: Transaction, parked: Sequence[tuple[UUID, UUID, bytes]], wait_seconds: float) -> None:
    """Keep receipts (id, recipient, JSON) of rows that are not there yet; one that comes again is kept once."""
    await tx.execute(
        _PARK, [each[0] for each in parked], [each[1] for each in parked], [each[2] for each in parked], wait_seconds
    )


_TAKE_PARKED = statement(
    "parked_receipts.take",
    """
    WITH due AS MATERIALIZED (
        SELECT id
        FROM parked_receipts
        WHERE next_try_at <= clock_timestamp()
        ORDER BY next_try_at
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE parked_receipts
    SET next_try_at = clock_timestamp()
        + greatest(make_interval(secs => 3), (clock_timestamp() - parked_receipts.parked_at) / 4)
    FROM due
    WHERE parked_receipts.id = due.id
    RETURNING
        parked_receipts.id, parked_receipts.receipt,
        extract(epoch FROM clock_timestamp() - parked_receipts.parked_at)::float8 AS age_seconds
    """,
)


async def take_parked(tx: Transaction, limit: int) -> list[tuple[UUID, bytes, float]]:
    """Parked receipts whose next try is due (id, JSON, age in seconds), locked; the older, the rarer it is tried."""
    rows = await tx.fetch(_TAKE_PARKED, limit)
    return [(row["id"], row["receipt"], row["age_seconds"]) for row in rows]


_DROP_PARKED = statement("parked_receipts.delete", "DELETE FROM parked_receipts WHERE id = ANY ($1::uuid[])")


async def drop_parked(tx: Transaction, ids: Sequence[UUID]) -> None:
    """Forget parked receipts: applied, or too old."""
    await tx.execute(_DROP_PARKED, list(ids))
