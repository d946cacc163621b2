"""The sessions of an admin: listed, ended."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from koinonia import clock
from koinonia.api.common import Page, PageQuery
from koinonia.api.sessions import BrowserSession
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.paging import last_id, page_of
from koinonia_gateway.audit import Actor
from koinonia_gateway.domain import sessions as rules
from koinonia_gateway.domain.devices import device_of
from koinonia_gateway.store import sessions as store

_LISTING = "sessions"


async def list_page(tx: Transaction, admin_id: UUID, current: UUID | None, query: PageQuery) -> Page[BrowserSession]:
    """Those that can still be used, newest first; ``current`` is the one that asks."""
    now, before = clock.now(), last_id(_LISTING, query)
    rows = await store.list_page(
        tx, admin_id, now=now, used_after=rules.used_after(now), before=before, limit=query.limit + 1
    )

    def show(row: asyncpg.Record) -> BrowserSession:
        return BrowserSession(
            id=row["id"],
            device=device_of(row["user_agent"]),
            address=row["address"],
            created_at=row["created_at"],
            last_used_at=row["last_used_at"],
            expires_at=rules.refresh_expiry(row["last_used_at"], row["expires_at"]),
            current=row["id"] == current,
        )

    return page_of(_LISTING, query, rows, show=show, key=lambda row: (row["id"],))


async def end(tx: Transaction, admin_id: UUID, session_id: UUID, actor: Actor) -> None:
    """End one of the admin's.

    Raises:
        NotFound: there is no such one, or it has ended.
    """
    if not await store.end_own(tx, session_id, admin_id, "ended", clock.now()):
        raise NotFound
    await outbox.add(tx, actor.did("session.ended", target=("session", session_id)))


async def end_others(tx: Transaction, admin_id: UUID, current: UUID, actor: Actor) -> Sequence[UUID]:
    """End all of the admin's but the one that asks; answers which."""
    ended = await store.end_all(tx, admin_id, current, "ended", clock.now())
    await outbox.add(tx, actor.did("sessions.ended", target=("admin", admin_id), sessions=str(len(ended))))
    return ended


async def end_for(tx: Transaction, admin_id: UUID, *, operator: str) -> int:
    """End all of an admin's, as an operator; answers how many. ``operator`` is the name on the platform's machine."""
    ended = await store.end_all(tx, admin_id, None, "ended", clock.now())
    target, count = ("admin", admin_id), len(ended)
    await outbox.add(tx, Actor.operator().did("sessions.ended", target=target, sessions=str(count), operator=operator))
    return count
