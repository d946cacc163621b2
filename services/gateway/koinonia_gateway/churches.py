"""A church's settings, and whether it is suspended."""

from operator import itemgetter
from typing import Any, Literal
from uuid import UUID

import asyncpg
from msgspec import UNSET

from koinonia import clock
from koinonia.api.churches import ChurchSettings, ChurchSettingsPatch, QuietHours, SenderDefaults
from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.errors import MfaRequired, NotFound, ValidationFailed
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
    quiet = QuietHours(start=row["quiet_from"], until=row["quiet_until"]) if row["quiet_from"] is not None else None
    return ChurchSettings(
        id=row["church_id"],
        name=row["name"],
        timezone=row["timezone"],
        ready=row["ready"],
        quiet_hours=quiet,
        require_mfa=row["require_mfa"],
        sender_defaults=SenderDefaults(number_id=row["default_number_id"]),
        retention_days=row["retention_days"],
        undo_seconds=row["undo_seconds"],
        approval_above=row["approval_above"],
        opt_out_line=row["opt_out_line"],
        weekly_limit=row["weekly_limit"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def change(
    tx: Transaction, church_id: UUID, patch: ChurchSettingsPatch, actor: Actor, *, mfa_verified: bool
) -> ChurchSettings:
    """Change what the patch holds, and tell the other services; what is so already makes no event.

    Raises:
        NotFound: another church's were meant.
        MfaRequired: whether the second factor is required, says who has shown it: nobody locks themselves out, and no
            stolen password or key takes it away.
        ValidationFailed: the sender's number is not the church's.
    """
    before = await store.lock(tx) if church_id == tx.tenant else None
    if before is None:
        raise NotFound
    changes = {name: value for name, value in _columns(patch).items() if value != before[name]}
    if "require_mfa" in changes and not mfa_verified:
        raise MfaRequired("Whether the second factor is required, says a session that has shown it.")
    number_id = changes.get("default_number_id")
    if number_id is not None and not await store.has_number(tx, number_id):
        raise ValidationFailed.field("senderDefaults.numberId", "Is no number of this church")
    if changes:
        row = await store.update(tx, **{name: changes.get(name, before[name]) for name in _SETTINGS}, at=clock.now())
        if row is None:
            raise NotFound
        act = actor.did("church.changed", target=("church", church_id), fields=",".join(sorted(changes)))
        await outbox.add(tx, church_changed(row), act)
    return await show(tx, church_id)


async def set_status(tx: Transaction, status: Literal["active", "suspended"], actor: Actor, *, operator: str) -> bool:
    """Suspend the transaction's church, or let it go on; False: it is so already.

    ``operator`` is the name of who does it on the platform's machine.

    Raises:
        NotFound: there is none, or it was erased.
    """
    before = await store.lock(tx)
    if before is None or before["status"] == "erased":
        raise NotFound
    if before["status"] == status:
        return False
    row = await store.update_status(tx, status, clock.now())
    if row is None:
        raise NotFound
    action = "church.suspended" if status == "suspended" else "church.resumed"
    await outbox.add(tx, church_changed(row), actor.did(action, target=("church", tx.tenant), operator=operator))
    return True


async def announce(
    tx: Transaction, limit: int, *, church_id: UUID | None = None, after: UUID | None = None
) -> list[UUID]:
    """Tell the other services anew of one church, or of up to ``limit`` that come ``after``, in the order of their ids;
    answers which. Their next versions say what is so already: who was told of the last one before it knew what to do
    with all of it applies them once more, and a repeat changes nothing.

    ``tx`` works across churches. Two statements, however many they are.
    """
    rows = sorted(await store.advance(tx, limit, church_id=church_id, after=after), key=itemgetter("church_id"))
    told = [outbox.envelope(tx, church_changed(row), church_id=row["church_id"]) for row in rows]
    if told:
        await outbox.add_envelopes(tx, *told)
    return [row["church_id"] for row in rows]


def church_changed(row: asyncpg.Record) -> ChurchChanged:
    """A church's state for others, from a row of the store."""
    return ChurchChanged(
        church_id=row["church_id"],
        version=row["version"],
        name=row["name"],
        timezone=row["timezone"],
        status=row["status"],
        region=row["region"],
        quiet_from=row["quiet_from"],
        quiet_until=row["quiet_until"],
        require_mfa=row["require_mfa"],
        default_number_id=row["default_number_id"],
        retention_days=row["retention_days"],
        undo_seconds=row["undo_seconds"],
        approval_above=row["approval_above"],
        opt_out_line=row["opt_out_line"],
        weekly_limit=row["weekly_limit"],
    )


_SETTINGS = (
    "name",
    "timezone",
    "quiet_from",
    "quiet_until",
    "require_mfa",
    "default_number_id",
    "retention_days",
    "undo_seconds",
    "approval_above",
    "opt_out_line",
    "weekly_limit",
)
_PLAIN = (
    *("name", "timezone", "require_mfa", "retention_days", "undo_seconds", "approval_above", "opt_out_line"),
    "weekly_limit",
)


def _columns(patch: ChurchSettingsPatch) -> dict[str, Any]:
    """What a patch sets, by column."""
    columns = {name: getattr(patch, name) for name in _PLAIN}
    if patch.quiet_hours is not UNSET:
        quiet = patch.quiet_hours
        columns |= {"quiet_from": quiet.start if quiet else None, "quiet_until": quiet.until if quiet else None}
    if patch.sender_defaults is not UNSET:
        columns["default_number_id"] = patch.sender_defaults.number_id
    return {name: value for name, value in columns.items() if value is not UNSET}
