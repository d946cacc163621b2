"""Recurring messages as rows, and what became of each of their slots."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.api.messages import SendRequest
from koinonia.api.recurring import RecurringMessage, RecurringRun, RecurringSchedule, RunOutcome
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.recurring import MissedRuns, Schedule
from koinonia_messaging.store.broadcasts import LEASE_SQL, Leases, Work
from koinonia_messaging.store.messages import exclude_of

JUMP_SECONDS = 60.0
"""How much later than now a turn may have been taken; beyond it, the clock was set back."""


class Recurring(msgspec.Struct, frozen=True, kw_only=True):
    """A recurring message as it is kept."""

    id: UUID
    requested_by: UUID  # who made it, or changed last what it says, to whom or from which number
    request: SendRequest
    schedule: Schedule
    missed_runs: MissedRuns
    paused_at: datetime | None
    upcoming: tuple[datetime, ...]  # wall times
    created_at: datetime
    updated_at: datetime

    @property
    def next_run_at(self) -> datetime | None:
        """When the first of its slots is; None: it is paused, or has ended."""
        return self.schedule.at(self.upcoming[0]) if self.upcoming and self.paused_at is None else None


_INSERT = statement(
    "recurring_messages.insert",
    """
    INSERT INTO recurring_messages (
        id, church_id, content, media_urls, target_type, target_ids, tags, number_id, rrule, timezone, start_at,
        missed_runs, paused_at, upcoming, next_run_at, turned_at, created_at, requested_by,
        template_id, excluded_member_ids, excluded_group_ids, excluded_branch_ids, smart_encoding, updated_at
    )
    VALUES (
        $1, $23, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16, $17, $18, $19, $20, $21, $22
    )
    """,
)


async def insert(tx: Transaction, recurring: Recurring) -> None:
    """Add a recurring message."""
    await tx.execute(_INSERT, *_values(recurring, recurring.created_at), recurring.updated_at, tx.tenant)


_UPDATE = statement(
    "recurring_messages.update",
    """
    UPDATE recurring_messages
    SET content = $2, media_urls = $3, target_type = $4, target_ids = $5, tags = $6, number_id = $7, rrule = $8,
        timezone = $9, start_at = $10, missed_runs = $11, paused_at = $12, upcoming = $13, next_run_at = $14,
        turned_at = $15, updated_at = $15, requested_by = $16,
        template_id = $17, excluded_member_ids = $18, excluded_group_ids = $19, excluded_branch_ids = $20,
        smart_encoding = $21, leased_until = '-infinity', attempt = 0
    WHERE id = $1
    """,
)


async def update(tx: Transaction, recurring: Recurring) -> None:
    """Rewrite a locked one, as of ``updated_at``."""
    await tx.execute(_UPDATE, *_values(recurring, recurring.updated_at))


def _values(recurring: Recurring, turned_at: datetime) -> tuple[object, ...]:
    request, schedule = recurring.request, recurring.schedule
    return (
        recurring.id,
        request.content,
        request.media_urls,
        request.target_type,
        request.target_ids,
        request.tags,
        request.number_id,
        schedule.rrule,
        schedule.timezone,
        schedule.start_at,
        recurring.missed_runs,
        recurring.paused_at,
        recurring.upcoming,
        recurring.next_run_at,
        turned_at,
        recurring.requested_by,
        request.template_id,
        request.exclude.member_ids,
        request.exclude.group_ids,
        request.exclude.branch_ids,
        request.smart_encoding,
    )


_DELETE = statement("recurring_messages.delete", "DELETE FROM recurring_messages WHERE id = $1")


async def delete(tx: Transaction, recurring_id: UUID) -> bool:
    """Delete one and the memory of its slots; False when there is none."""
    return await tx.execute(_DELETE, recurring_id) > 0


_LOCK = statement("recurring_messages.lock", "SELECT * FROM recurring_messages WHERE id = $1 FOR UPDATE")


async def lock(tx: Transaction, recurring_id: UUID) -> Recurring | None:
    """Lock one; a scheduler passes it by meanwhile."""
    row = await tx.fetch_row(_LOCK, recurring_id)
    return None if row is None else _recurring(row)


_PAGE = """
    SELECT recurring.*, run.slot, run.outcome, run.message_id, run.reason
    FROM recurring_messages AS recurring
    LEFT JOIN LATERAL (
        SELECT slot, outcome, message_id, reason
        FROM recurring_runs
        WHERE recurring_id = recurring.id
        ORDER BY slot DESC
        LIMIT 1
    ) AS run ON true
"""
_FIND = statement("recurring_messages.find", f"{_PAGE} WHERE recurring.id = $1")
_LIST_PAGE = statement(
    "recurring_messages.list_page",
    f"{_PAGE} WHERE $1::uuid IS NULL OR recurring.id < $1 ORDER BY recurring.id DESC LIMIT $2",
)


async def find(tx: Transaction, recurring_id: UUID) -> RecurringMessage | None:
    row = await tx.fetch_row(_FIND, recurring_id)
    return None if row is None else _shown(row)


async def list_page(tx: Transaction, before: UUID | None, limit: int) -> list[RecurringMessage]:
    """Recurring messages with their last runs, newest first, from after ``before`` on."""
    return [_shown(row) for row in await tx.fetch(_LIST_PAGE, before, limit)]


# Two small indexes, one look at each: what waits for its time is not read.
_CLAIM_DUE = statement(
    "recurring_messages.claim_due",
    f"""
    WITH due AS MATERIALIZED (
        SELECT id
        FROM recurring_messages
        WHERE next_run_at <= $3 AND leased_until < clock_timestamp()
        ORDER BY next_run_at
        LIMIT $4
        FOR UPDATE SKIP LOCKED
    ),
    ahead AS MATERIALIZED (
        SELECT id
        FROM recurring_messages
        WHERE next_run_at IS NOT NULL AND turned_at > $3 + make_interval(secs => $5)
            AND leased_until < clock_timestamp()
        ORDER BY turned_at DESC
        LIMIT $4
        FOR UPDATE SKIP LOCKED
    )
    UPDATE recurring_messages
    SET {LEASE_SQL}
    WHERE id IN (SELECT id FROM due UNION SELECT id FROM ahead)
    RETURNING id, church_id, attempt
    """,
)


async def claim_due(tx: Transaction, leases: Leases, now: datetime, limit: int) -> list[Work]:
    """Lease those whose next slot has come, or was decided by a clock ahead of this one; of all churches."""
    rows = await tx.fetch(_CLAIM_DUE, leases.first_seconds, leases.longest_seconds, now, limit, JUMP_SECONDS)
    return [Work(row["church_id"], row["id"], row["attempt"], None, None) for row in rows]


_LOCK_DUE = statement(
    "recurring_messages.lock_due",
    """
    SELECT *
    FROM recurring_messages
    WHERE id = $1 AND (next_run_at <= $2 OR (next_run_at IS NOT NULL AND turned_at > $2 + make_interval(secs => $3)))
    FOR UPDATE SKIP LOCKED
    """,
)


async def lock_due(tx: Transaction, recurring_id: UUID, now: datetime) -> Recurring | None:
    """Lock one whose turn it is; None when another replica has it, or had."""
    row = await tx.fetch_row(_LOCK_DUE, recurring_id, now, JUMP_SECONDS)
    return None if row is None else _recurring(row)


_TURN = statement(
    "recurring_messages.turn",
    """
    UPDATE recurring_messages
    SET upcoming = $2, next_run_at = $3, turned_at = $4, leased_until = '-infinity', attempt = 0
    WHERE id = $1
    """,
)


async def turn(
    tx: Transaction, recurring_id: UUID, upcoming: Sequence[datetime], next_run_at: datetime | None, at: datetime
) -> None:
    """Note what comes next for a locked one."""
    await tx.execute(_TURN, recurring_id, upcoming, next_run_at, at)


_PASS = statement(
    "recurring_runs.pass",
    """
    INSERT INTO recurring_runs (recurring_id, slot, church_id, outcome, reason, decided_at)
    SELECT $1, slot, $2, 'skipped', $4, $5
    FROM unnest($3::timestamp[]) AS slot
    ON CONFLICT DO NOTHING
    """,
)


async def pass_over(tx: Transaction, recurring_id: UUID, slots: Sequence[datetime], reason: str, at: datetime) -> None:
    """Note slots for which no message is made."""
    await tx.execute(_PASS, recurring_id, tx.tenant, slots, reason, at)


# One that was passed over while the clock was ahead comes again, and may go then; one that was sent never does.
_CLAIM_SLOT = statement(
    "recurring_runs.claim_slot",
    """
    INSERT INTO recurring_runs AS run (recurring_id, slot, church_id, outcome, reason, decided_at)
    VALUES ($1, $2, $3, 'skipped', '', $4)
    ON CONFLICT (recurring_id, slot) DO UPDATE SET decided_at = $4
    WHERE run.outcome = 'skipped'
    """,
)


async def claim_slot(tx: Transaction, recurring_id: UUID, slot: datetime, at: datetime) -> bool:
    """Take a slot, for ``settle_slot`` in the same transaction; False: it has run."""
    return await tx.execute(_CLAIM_SLOT, recurring_id, slot, tx.tenant, at) > 0


_SETTLE_SLOT = statement(
    "recurring_runs.settle_slot",
    """
    WITH forgotten AS (
        DELETE FROM recurring_runs WHERE recurring_id = $1 AND slot < $2::timestamp - interval '400 days'
    )
    UPDATE recurring_runs
    SET outcome = $3, message_id = $4, reason = $5
    WHERE recurring_id = $1 AND slot = $2
    """,
)


async def settle_slot(
    tx: Transaction,
    recurring_id: UUID,
    slot: datetime,
    *,
    outcome: RunOutcome,
    message_id: UUID | None = None,
    reason: str | None = None,
) -> None:
    """Note what became of a slot; those of more than a year ago are forgotten."""
    await tx.execute(_SETTLE_SLOT, recurring_id, slot, outcome, message_id, reason)


def _recurring(row: asyncpg.Record) -> Recurring:
    return Recurring(
        id=row["id"],
        requested_by=row["requested_by"],
        request=SendRequest(
            content=row["content"],
            template_id=row["template_id"],
            target_type=row["target_type"],
            target_ids=row["target_ids"],
            media_urls=row["media_urls"],
            number_id=row["number_id"],
            tags=row["tags"],
            exclude=exclude_of(row),
            smart_encoding=row["smart_encoding"],
        ),
        schedule=Schedule(rrule=row["rrule"], timezone=row["timezone"], start_at=row["start_at"]),
        missed_runs=row["missed_runs"],
        paused_at=row["paused_at"],
        upcoming=tuple(row["upcoming"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _shown(row: asyncpg.Record) -> RecurringMessage:
    kept = _recurring(row)
    schedule, request = kept.schedule, kept.request
    run = None
    if row["slot"] is not None:
        run = RecurringRun(
            at=schedule.at(row["slot"]),
            outcome=row["outcome"],
            message_id=row["message_id"],
            reason=row["reason"],
        )
    return RecurringMessage(
        id=kept.id,
        content=request.content,
        template_id=request.template_id,
        target_type=request.target_type,
        target_ids=request.target_ids,
        media_urls=request.media_urls,
        number_id=request.number_id,
        tags=request.tags,
        exclude=request.exclude,
        smart_encoding=request.smart_encoding,
        schedule=RecurringSchedule(
            rrule=schedule.rrule, timezone=schedule.timezone, start_at=schedule.at(schedule.start_at)
        ),
        missed_runs=kept.missed_runs,
        paused=kept.paused_at is not None,
        next_run_at=kept.next_run_at,
        next_runs=[] if kept.paused_at is not None else [schedule.at(slot) for slot in kept.upcoming],
        last_run=run,
        created_at=kept.created_at,
        updated_at=kept.updated_at,
    )
