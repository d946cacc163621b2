"""Settling: the ends of calls, a batch in one statement, each guarded by its attempt's number."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia_delivery.domain.outcomes import Outcome
from koinonia_delivery.domain.states import Change

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
        SELECT work.recipient_id, work.group_started_at
        FROM work
        WHERE work.recipient_id = ANY ($1::uuid[])
            AND work.state IN ('sending', 'unknown')
            AND EXISTS (
                SELECT FROM outcome WHERE outcome.id = work.recipient_id AND outcome.attempt = work.attempt
            )
        ORDER BY work.recipient_id
        FOR UPDATE OF work
    ),
    before AS MATERIALIZED (
        SELECT recipients.id, recipients.status, recipients.attempt, recipients.accepted_at
        FROM recipients
        WHERE recipients.id = ANY (ARRAY(SELECT task.recipient_id FROM task))
            AND recipients.id BETWEEN $9 AND $10  -- one partition
            AND recipients.status IN ('sending', 'unknown')
        ORDER BY recipients.id
        FOR UPDATE OF recipients
    ),
    changed AS (
        UPDATE recipients
        SET status = CASE outcome.result
                WHEN 'accepted' THEN 'sent'
                WHEN 'rejected' THEN 'failed'
                WHEN 'unknown' THEN 'unknown'
                ELSE CASE before.status WHEN 'sending' THEN 'queued' ELSE before.status END
            END,
            carrier_id = coalesce(outcome.carrier_id, recipients.carrier_id),
            error_code = CASE WHEN outcome.result = 'returned' THEN recipients.error_code ELSE outcome.error_code END,
            error_message =
                CASE WHEN outcome.result = 'returned' THEN recipients.error_message ELSE outcome.error_message END,
            accepted_at =
                CASE WHEN outcome.result = 'accepted' THEN coalesce(recipients.accepted_at, moment.now)
                ELSE recipients.accepted_at END,
            sent_at =
                CASE WHEN outcome.result = 'accepted' THEN coalesce(recipients.sent_at, moment.now)
                ELSE recipients.sent_at END,
            settled_at = CASE WHEN outcome.result = 'rejected' THEN moment.now END
        FROM before
        JOIN outcome ON outcome.id = before.id AND outcome.attempt = before.attempt
        JOIN task ON task.recipient_id = before.id
        CROSS JOIN moment
        WHERE recipients.id = before.id AND recipients.id BETWEEN $9 AND $10
        RETURNING
            recipients.id, recipients.church_id, recipients.source_id, recipients.kind, before.status AS was,
            recipients.status AS became, recipients.segments, recipients.phone_index, outcome.opted_out,
            outcome.wait_seconds, task.group_started_at,
            before.accepted_at IS NULL AND recipients.accepted_at IS NOT NULL AS newly_accepted
    ),
    finished AS (
        DELETE FROM work
        USING changed
        WHERE work.recipient_id = changed.id
            AND (changed.became = 'failed' OR (changed.became = 'sent' AND NOT work.is_late))
    ),
    late AS (
        UPDATE work
        SET state = 'overdue', leased_until = NULL, due_at = moment.now + make_interval(secs => $15)
        FROM changed
        CROSS JOIN moment
        WHERE work.recipient_id = changed.id AND changed.became = 'sent' AND work.is_late
    ),
    waiting AS (
        UPDATE work
        SET state = CASE changed.became WHEN 'queued' THEN 'ready' ELSE 'unknown' END,
            due_at = moment.now + make_interval(secs => changed.wait_seconds),
            leased_until = NULL,
            resend = work.resend AND $11
        FROM changed
        CROSS JOIN moment
        WHERE work.recipient_id = changed.id AND changed.became IN ('queued', 'unknown')
    ),
    blocked AS (
        INSERT INTO suppressions AS known (church_id, phone_index, suppressed, occurred_at, version)
        SELECT changed.church_id, changed.phone_index, true, max(changed.group_started_at), 0
        FROM changed
        WHERE changed.opted_out
        GROUP BY changed.church_id, changed.phone_index
        ON CONFLICT (church_id, phone_index) DO UPDATE SET suppressed = true, occurred_at = excluded.occurred_at
        WHERE known.occurred_at <= excluded.occurred_at
    ),
    paused AS (
        UPDATE numbers
        SET next_free_at = greatest(numbers.next_free_at, moment.now + make_interval(secs => pause.seconds))
        FROM (
            SELECT numbers.id, max(pause.seconds) AS seconds
            FROM unnest($12::uuid[], $13::uuid[], $14::float8[]) AS pause (number_id, church_id, seconds)
            JOIN numbers ON numbers.id = pause.number_id OR numbers.church_id = pause.church_id
            GROUP BY numbers.id
        ) AS pause
        CROSS JOIN moment
        WHERE numbers.id = pause.id
    )
    SELECT church_id, source_id, kind, was, became, segments, newly_accepted, count(*) AS rows
    FROM changed
    GROUP BY church_id, source_id, kind, was, became, segments, newly_accepted
    """,
)


async def settle(
    tx: Transaction,
    outcomes: Sequence[Outcome],
    pauses: Sequence[tuple[UUID, UUID | None, float]],
    *,
    resend: bool,
    receipt_deadline_seconds: float,
) -> list[Change]:
    """Write how calls ended; what a receipt or another attempt has settled meanwhile stays as it is.

    ``pauses`` are numbers, with their church where all of its numbers rest, and seconds; ``resend``: whether an unknown
    one may be sent again under its key.
    """
    ids = sorted(outcome.recipient_id for outcome in outcomes)
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
        ids[0],
        ids[-1],
        resend,
        [number_id for number_id, _, _ in pauses],
        [church_id for _, church_id, _ in pauses],
        [seconds for _, _, seconds in pauses],
        receipt_deadline_seconds,
    )
    return [change_of(row) for row in rows]


def change_of(row: asyncpg.Record) -> Change:
    """The change that a row of a grouping statement tells."""
    return Change(
        church_id=row["church_id"],
        source_id=row["source_id"],
        kind=row["kind"],
        was=row["was"],
        became=row["became"],
        rows=row["rows"],
        segments=row["segments"],
        newly_accepted=row["newly_accepted"],
    )
