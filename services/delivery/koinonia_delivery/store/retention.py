"""What churches keep for a shorter time than the platform: which of them have copies that are too old by now."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement

_SAVE = statement(
    "retentions.save",
    """
    INSERT INTO retentions (church_id, days)
    VALUES ($1, $2)
    ON CONFLICT (church_id) DO UPDATE
    SET days = excluded.days
    """,
)
_FORGET = statement("retentions.forget", "DELETE FROM retentions WHERE church_id = $1")


async def save(tx: Transaction, days: int | None) -> None:
    """For how long the tenant keeps what was sent; None: as long as the platform does."""
    if days is None:
        await tx.execute(_FORGET, tx.tenant)
    else:
        await tx.execute(_SAVE, tx.tenant, days)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Churches that keep copies equally long, and whose older ones are deleted until the same time."""

    church_ids: tuple[UUID, ...]
    since: datetime | None  # None: nothing was deleted yet
    before: datetime


_LIST_DUE = statement(
    "retentions.list_due",
    """
    SELECT
        array_agg(church_id) AS church_ids,
        deleted_until AS since,
        $1::timestamptz - make_interval(days => days) AS before
    FROM retentions
    WHERE deleted_until IS NULL OR deleted_until < $1::timestamptz - make_interval(days => days + 1)
    GROUP BY days, deleted_until
    """,
)


async def list_due(tx: Transaction, now: datetime) -> list[Due]:
    """What is to be deleted, a day's worth at least; across churches."""
    rows = await tx.fetch(_LIST_DUE, now)
    return [Due(church_ids=tuple(row["church_ids"]), since=row["since"], before=row["before"]) for row in rows]


_NOTE = statement(
    "retentions.note",
    """
    UPDATE retentions
    SET deleted_until = deleted.until
    FROM unnest($1::uuid[], $2::timestamptz[]) AS deleted (church_id, until)
    WHERE retentions.church_id = deleted.church_id
    """,
)


async def note(tx: Transaction, until: Mapping[UUID, datetime]) -> None:
    """Nothing of these churches is older than this any more."""
    await tx.execute(_NOTE, list(until), list(until.values()))
