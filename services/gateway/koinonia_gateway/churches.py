"""A church's settings."""

from uuid import UUID

from msgspec import UNSET

from koinonia import clock
from koinonia.api.churches import ChurchSettings, ChurchSettingsPatch
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import NotFound
from koinonia.events.gateway import ChurchChanged
from koinonia_gateway.audit import Actor
from koinonia_gateway.store import churches as store


async def show(tx: Transaction, church_id: UUID) -> ChurchSettings:
    """The settings of the transaction's church.

    Raises:
        NotFound: another church's were asked for.
    """
    row = await store.find(tx)
    if row is None or row["church_id"] != church_id:
        raise NotFound
    return ChurchSettings(
        id=row["church_id"],
        name=row["name"],
        timezone=row["timezone"],
        ready=row["ready"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def change(tx: Transaction, church_id: UUID, patch: ChurchSettingsPatch, actor: Actor) -> ChurchSettings:
    """Change what the patch holds, and tell the other services.

    Raises:
        NotFound: another church's were meant.
    """
    if church_id != tx.tenant:
        raise NotFound
    named = {"name": patch.name, "timezone": patch.timezone}
    given = {name: value for name, value in named.items() if value is not UNSET}
    if given:
        row = await store.update(tx, name=given.get("name"), timezone=given.get("timezone"), at=clock.now())
        if row is None:
            raise NotFound
        changed = ChurchChanged(
            church_id=church_id,
            version=row["version"],
            name=row["name"],
            timezone=row["timezone"],
            status=row["status"],
            region=row["region"],
        )
        act = actor.did("church.changed", target=("church", church_id), fields=",".join(sorted(given)))
        await outbox.add(tx, changed, act)
    return await show(tx, church_id)
