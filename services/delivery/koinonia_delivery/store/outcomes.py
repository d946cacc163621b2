"""Settling: the ends of calls, a batch in one statement, each guarded by its attempt's number."""

from collections.abc import Sequence

import asyncpg

from koinonia.db import Transaction, statement
from koinonia_delivery.domain.outcomes import REFUSALS, SPENT_SENTENCE, Outcome
from koinonia_delivery.domain.states import Change

# Rows are reached by their ids alone, each in its own partition: between a batch's bounds Postgres would guess that
# next to nothing lies, and read all that does.
# The carrier's block is dated by the beginning of the first attempt, whose answer it may be: a START since then stands.
_SETTLE = statement(
    "outcomes.settle",
    """
    WITH moment AS MATERIALIZED (
        SELECT clock_timestamp() AS now
    ),
    outcome AS MATERIALIZED (
        SELECT outcome.*
        FROM unnest(
            $1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::float8[]
        ) AS outcome (id, attempt, result, carrier_id, error_code, error_message, opted_out, wait_seconds)
    ),
    task AS MATERIALIZED (
        SELECT
            work.recipient_id, work.group_started_at, work.claimed_at, work.attempt, work.refusals,
            work.do_not_send_after
        FROM work
        WHERE work.recipient_id = ANY ($1::uuid[])
            AND work.state IN ('sending', 'unknown')
            AND EXISTS (
                SELECT FROM outcome WHERE outcome.id = work.recipient_id AND outcome.attempt = work.attempt
            )
        ORDER BY work.recipient_id
        FOR UPDATE OF work
    ),
    -- Refused too often by the carrier's own word, or tried again only when it is too late.
    spent AS MATERIALIZED (
        SELECT task.recipient_id
        FROM task
        JOIN outcome ON outcome.id = task.recipient_id AND outcome.attempt = task.attempt
        CROSS JOIN moment
        WHERE outcome.result = 'refused'
            AND outcome.error_code IS NOT NULL
            AND (
                task.refusals + 1 >= $11
                OR task.do_not_send_after < moment.now + make_interval(secs => outcome.wait_seconds)
            )
    ),
    before AS MATERIALIZED (
        SELECT recipients.id, recipients.status, recipients.attempt, recipients.accepted_at
        FROM task
        JOIN recipients ON recipients.id = task.recipient_id
        WHERE recipients.status IN ('sending', 'unknown')
        ORDER BY recipients.id
        FOR UPDATE OF recipients
    ),
    changed AS (
        UPDATE recipients
        SET status = CASE outcome.result
                WHEN 'accepted' THEN 'sent'
                WHEN 'rejected' THEN 'failed'
                WHEN 'unknown' THEN 'unknown'
                ELSE CASE
                    WHEN before.status <> 'sending' THEN before.status
                    WHEN spent.recipient_id IS NOT NULL THEN 'expired'
                    ELSE 'queued'
                END
            END,
            carrier_id = coalesce(outcome.carrier_id, recipients.carrier_id),
            error_code = CASE WHEN outcome.result = 'returned' THEN recipients.error_code ELSE outcome.error_code END,
            error_message =
                CASE
                    WHEN outcome.result = 'returned' THEN recipients.error_message
                    WHEN spent.recipient_id IS NOT NULL AND before.status = 'sending' THEN $12
                    ELSE outcome.error_message
                END,
            accepted_at =
                CASE WHEN outcome.result = 'accepted' THEN coalesce(recipients.accepted_at, moment.now)
                ELSE recipients.accepted_at END,
            sent_at =
                CASE WHEN outcome.result = 'accepted' THEN coalesce(recipients.sent_at, moment.now)
                ELSE recipients.sent_at END,
            settled_at = CASE
                WHEN outcome.result = 'rejected' THEN moment.now
                WHEN spent.recipient_id IS NOT NULL AND before.status = 'sending' THEN moment.now
            END
        FROM before
        JOIN outcome ON outcome.id = before.id AND outcome.attempt = before.attempt
        JOIN task ON task.recipient_id = before.id
        LEFT JOIN spent ON spent.recipient_id = before.id
        CROSS JOIN moment
        WHERE recipients.id = before.id
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, recipients.kind, recipients.branch_id,
            before.status AS was, recipients.status AS became, recipients.segments, recipients.phone_index,
            outcome.opted_out, outcome.result, outcome.wait_seconds, task.group_started_at,
            outcome.attempt, outcome.error_code, outcome.error_message, task.claimed_at,
            (outcome.result = 'refused' AND outcome.error_code IS NOT NULL)::integer AS refusals,
            CASE WHEN recipients.status = 'failed' THEN recipients.error_code END AS failure_code,
            before.accepted_at IS NULL AND recipients.accepted_at IS NOT NULL AS newly_accepted
    ),
    finished AS (
        DELETE FROM work
        USING changed
        WHERE work.recipient_id = changed.id
            AND (changed.became IN ('failed', 'expired') OR (changed.became = 'sent' AND NOT work.is_late))
    ),
    late AS (
        UPDATE work
        SET state = 'overdue', leased_until = NULL, due_at = moment.now + make_interval(secs => $10)
        FROM changed
        CROSS JOIN moment
        WHERE work.recipient_id = changed.id AND changed.became = 'sent' AND work.is_late
    ),
    waiting AS (
        UPDATE work
        SET state = CASE changed.became WHEN 'queued' THEN 'ready' ELSE 'unknown' END,
            due_at = CASE
                WHEN changed.result = 'returned' THEN work.due_at  -- it keeps its place
                ELSE moment.now + make_interval(secs => changed.wait_seconds)
            END,
            leased_until = NULL,
            refusals = work.refusals + changed.refusals,
            resend = work.resend AND $9
        FROM changed
        CROSS JOIN moment
        WHERE work.recipient_id = changed.id AND changed.became IN ('queued', 'unknown')
    ),
    blocked AS (
        INSERT INTO suppressions AS known (church_id, phone_index, suppressed, occurred_at, version, blocked_at)
        SELECT
            changed.church_id, changed.phone_index, true, max(changed.group_started_at), 0,
            max(changed.group_started_at)
        FROM changed
        WHERE changed.opted_out
        GROUP BY changed.church_id, changed.phone_index
        ON CONFLICT (church_id, phone_index) DO UPDATE
        SET suppressed = true, occurred_at = excluded.occurred_at, blocked_at = excluded.blocked_at
        WHERE known.occurred_at <= excluded.occurred_at
    ),
    -- A plain acceptance is told by the row; what was not begun is no attempt.
    told AS (
        INSERT INTO trail (
            id, at, what, church_id, was, became, attempt, began_at, until, error_code, error_message
        )
        SELECT
            changed.id, moment.now, CASE changed.result WHEN 'held' THEN 'refused' ELSE changed.result END,
            changed.church_id, changed.was, changed.became, changed.attempt, changed.claimed_at,
            CASE WHEN changed.became IN ('queued', 'unknown')
                THEN moment.now + make_interval(secs => changed.wait_seconds)
            END,
            changed.error_code, changed.error_message
        FROM changed
        CROSS JOIN moment
        WHERE changed.result <> 'returned' AND (changed.result <> 'accepted' OR changed.was = 'unknown')
    )
    SELECT
        church_id, source_id, kind, branch_id, was, became, segments, newly_accepted, failure_code, count(*) AS rows
    FROM changed
    GROUP BY church_id, source_id, kind, branch_id, was, became, segments, newly_accepted, failure_code
    """,
)


async def settle(
    tx: Transaction,
    outcomes: Sequence[Outcome],
    *,
    resend: bool,
    receipt_deadline_seconds: float,
    refusal_limit: int = REFUSALS,
) -> list[Change]:
    """Write how calls ended; what a receipt or another attempt has settled meanwhile stays as it is.

    ``resend``: whether an unknown one may be sent again under its key; ``refusal_limit``: so often the carrier may
    refuse one before it expires.
    """
    rows = await tx.fetch(
        _SETTLE,
        [outcome.recipient_id for outcome in outcomes],
        [outcome.attempt for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        [outcome.carrier_id for outcome in outcomes],
        [outcome.error_code for outcome in outcomes],
        [outcome.error_message for outcome in outcomes],
        [outcome.opted_out for outcome in outcomes],
        [outcome.wait_seconds for outcome in outcomes],
        resend,
        receipt_deadline_seconds,
        refusal_limit,
        SPENT_SENTENCE,
    )
    return [change_of(row) for row in rows]


def change_of(row: asyncpg.Record) -> Change:
    """The change that a row of a grouping statement tells."""
    return Change(
        church_id=row["church_id"],
        source_id=row["source_id"],
        kind=row["kind"],
        branch_id=row["branch_id"],
        was=row["was"],
        became=row["became"],
        rows=row["rows"],
        segments=row["segments"],
        newly_accepted=row["newly_accepted"],
        failure_code=row.get("failure_code"),
    )
