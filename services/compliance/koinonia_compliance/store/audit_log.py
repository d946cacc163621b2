"""The audit log's rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from koinonia.db import Transaction, statement
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded

_INSERT = statement(
    "audit_log.insert",
    """
    INSERT INTO audit_log (
        id, church_id, service, action, actor_kind, actor_id, outcome,
        target_kind, target_id, address, request_id, details, occurred_at
    )
    SELECT *
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[],
        $8::text[], $9::uuid[], $10::text[], $11::text[], $12::jsonb[], $13::timestamptz[]
    ) AS event (id)
    ORDER BY id  -- two that insert the same events wait for each other in one order
    ON CONFLICT (id) DO NOTHING
    """,
)


async def insert(tx: Transaction, events: Sequence[Envelope[ActionRecorded]]) -> None:
    """A row per event that has none yet, whatever its church."""
    acts = [event.data for event in events]
    await tx.execute(
        _INSERT,
        [event.id for event in events],
        [event.church_id for event in events],
        [event.service for event in events],
        [act.action for act in acts],
        [act.actor_kind for act in acts],
        [act.actor_id for act in acts],
        [act.outcome for act in acts],
        [act.target_kind for act in acts],
        [act.target_id for act in acts],
        [act.address for act in acts],
        [act.request_id for act in acts],
        [msgspec.json.encode(act.details).decode() for act in acts],
        [act.occurred_at for act in acts],
    )


_LIST_PAGE = statement(
    "audit_log.list_page",
    """
    SELECT
        id, action, actor_kind, actor_id, outcome, target_kind, target_id, address, request_id, details, occurred_at
    FROM audit_log
    WHERE church_id = $1
        AND ($2::uuid IS NULL OR id < $2)
        AND ($3::text IS NULL OR action = $3)
        AND ($4::uuid IS NULL OR actor_id = $4)
    ORDER BY id DESC
    LIMIT $5
    """,
)


async def list_page(
    tx: Transaction, *, before: UUID | None, action: str | None, actor_id: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """The church's newest rows before an id, that all given filters hold for."""
    return await tx.fetch(_LIST_PAGE, tx.tenant, before, action, actor_id, limit)


_LIST_OF_TARGETS = statement(
    "audit_log.list_of_targets",
    """
    SELECT action, actor_id, occurred_at
    FROM audit_log
    WHERE target_id = ANY ($1::uuid[] || $2::uuid)
        AND (target_id <> $2 OR occurred_at >= $4)
        AND church_id = $2
        AND action = ANY ($3::text[])
        AND actor_id IS NOT NULL
        AND outcome = 'success'
    ORDER BY id
    LIMIT 100
    """,
)


async def list_of_targets(
    tx: Transaction, target_ids: Sequence[UUID], actions: Sequence[str], *, church_since: datetime
) -> list[asyncpg.Record]:
    """Who did one of these things to one of these targets, or since a time to the church, oldest first."""
    return await tx.fetch(_LIST_OF_TARGETS, list(target_ids), tx.tenant, list(actions), church_since)
