"""The audit log: every audit event of the platform, kept; a church reads its own."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import msgspec

from koinonia.api.audit import AuditEntry, AuditQuery
from koinonia.api.common import Page
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.paging import last_id, page_of
from koinonia.security.identity import Role
from koinonia_compliance.store import audit_log as store
from koinonia_compliance.store import churches

_LISTING = "audit-log"


async def keep(tx: Transaction, received: Sequence[Envelope[ActionRecorded]]) -> None:
    """Store a batch of any churches' events, and of none (a login that named no account); one statement."""
    await store.insert(tx, received)


async def list_page(tx: Transaction, query: AuditQuery) -> Page[AuditEntry]:
    """A page of the church's log, newest first, with the actors' roles; two statements.

    Raises:
        ValidationFailed: the cursor is not of this list.
    """
    before = last_id(_LISTING, query)
    rows = await store.list_page(tx, before=before, action=query.action, actor_id=query.actor_id, limit=query.limit + 1)
    roles = await churches.list_roles(tx, list({row["actor_id"] for row in rows if row["actor_id"] is not None}))
    return page_of(_LISTING, query, rows, show=lambda row: _entry(row, roles), key=lambda row: (row["id"],))


def _entry(row: asyncpg.Record, roles: Mapping[UUID, Role]) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        action=row["action"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        actor_role=roles.get(row["actor_id"]),
        outcome=row["outcome"],
        target_kind=row["target_kind"],
        target_id=row["target_id"],
        address=row["address"],
        request_id=row["request_id"],
        details=msgspec.json.decode(row["details"], type=dict[str, str]),
        occurred_at=row["occurred_at"],
    )
