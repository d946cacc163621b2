"""A recipient's trail: what was noted of it, and how it stands."""

from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_delivery.domain.priorities import BROADCAST
from koinonia_delivery.domain.trail import Note, Standing
from koinonia_delivery.store.claims import FRESH_SECONDS
from koinonia_delivery.store.lanes import hours_of

_FIND_STANDING = statement(
    "trail.find_standing",
    """
    SELECT
        recipients.id AS recipient_id, recipients.church_id, recipients.source_id, recipients.kind, recipients.status,
        recipients.phone_index, recipients.error_code, recipients.error_message, recipients.accepted_at,
        recipients.sent_at, recipients.delivered_at, recipients.settled_at, recipients.test,
        coalesce(work.traceparent, test_work.traceparent, recipients.traceparent) AS traceparent,
        work.state AS work_state, work.due_at, work.resend, numbers.status AS number_status, numbers.next_free_at,
        CASE WHEN work.priority = $4 THEN lanes.quiet_timezone END AS quiet_timezone,
        lanes.quiet_from, lanes.quiet_until,
        (
            SELECT min(holds.occurred_at)
            FROM holds
            WHERE holds.church_id = recipients.church_id
                AND holds.phone_index = recipients.phone_index
                AND holds.settled_at IS NULL
        ) AS held_at,
        CASE WHEN suppressions.suppressed AND suppressions.blocked_at = suppressions.occurred_at
            THEN suppressions.blocked_at
        END AS blocked_at,
        marker_sent_at > clock_timestamp() - make_interval(secs => $3)
            AND (backlog_oldest_at IS NULL OR backlog_oldest_at > clock_timestamp() - make_interval(secs => $3))
            AS is_fresh,
        clock_timestamp() AS now
    FROM recipients
    CROSS JOIN freshness
    LEFT JOIN work ON work.recipient_id = recipients.id
    LEFT JOIN test_work ON test_work.recipient_id = recipients.id
    LEFT JOIN numbers ON numbers.id = recipients.number_id
    LEFT JOIN lanes ON lanes.church_id = recipients.church_id
    LEFT JOIN suppressions
        ON suppressions.church_id = recipients.church_id AND suppressions.phone_index = recipients.phone_index
    WHERE recipients.id = $1 AND ($2::uuid IS NULL OR recipients.source_id = $2)
    """,
)


async def find_standing(tx: Transaction, recipient_id: UUID, source_id: UUID | None) -> Standing | None:
    """How a recipient stands; ``source_id``: only one of this message."""
    row = await tx.fetch_row(_FIND_STANDING, recipient_id, source_id, FRESH_SECONDS, BROADCAST)
    if row is None:
        return None
    hours = hours_of(row)
    quiet_until = None if hours is None else hours.end_for(row["now"])
    return msgspec.convert({**dict(row), "quiet_until": quiet_until}, Standing)


_LIST_NOTES = statement(
    "trail.list",
    """
    SELECT at, what, was, became, said, attempt, began_at, until, error_code, error_message
    FROM trail
    WHERE id = $1
    ORDER BY at
    """,
)


async def list_notes(tx: Transaction, recipient_id: UUID) -> list[Note]:
    """What was noted of a recipient, in the order of time."""
    return [msgspec.convert(dict(row), Note) for row in await tx.fetch(_LIST_NOTES, recipient_id)]
