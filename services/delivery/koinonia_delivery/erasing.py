"""Forgetting: a member, a phone, or what a church had sent before a time, in short transactions and in archives too.

Each may be broken off anywhere and begun again. The order is tables, then archives, then the way to find more: a
partition that is archived meanwhile is met as an archive.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from koinonia.db import Database, Transaction
from koinonia.db.archives import Archives
from koinonia.ids import id_time
from koinonia.security.keys import Keys
from koinonia_delivery.domain.erasing import ERASED, without_churches, without_member, without_phones
from koinonia_delivery.store import consents, emails
from koinonia_delivery.store import erasing as store

TABLE = "delivery.recipients"
TRAIL = "delivery.trail"
_NIL = UUID(int=0)


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased. ``open``: copies that are not closed yet, for which it must be done once more."""

    stored: int
    archived: int
    open: int = 0


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted. ``open_since``: of churches with old copies that are not closed, from when the oldest is."""

    stored: int
    archived: int
    open_since: Mapping[UUID, datetime]


async def erase_member(database: Database, archives: Archives, keys: Keys, church_id: UUID, member_id: UUID) -> Erased:
    """Blank what was sent to a member; a family's copies keep the others. In the end its phones are forgotten.

    Of a member that another was merged into, or the other way round, what was sent to either is blanked.
    """
    nobody = keys.encrypt(ERASED, church_id, "phone")
    async with database.tenant(church_id) as tx:
        members = await consents.find_records(tx, member_id)
        phones = await store.find_phones(tx, members)
    stored = await _repeat(database, church_id, lambda tx: store.blank_member(tx, members, phones, nobody))
    archived = await archives.rewrite(TABLE, without_member(church_id, members, nobody))
    async with database.tenant(church_id) as tx:
        open_count = await store.count_open(tx, phones, members)
        if not open_count:
            await store.forget_member(tx, members)
    return Erased(stored=stored, archived=archived, open=open_count)


async def erase_phone(
    database: Database, archives: Archives, keys: Keys, church_id: UUID, phone_index: bytes
) -> Erased:
    """Blank what was sent to a phone, whoever it names."""
    nobody = keys.encrypt(ERASED, church_id, "phone")
    stored = await _repeat(database, church_id, lambda tx: store.blank_phone(tx, phone_index, nobody))
    archived = await archives.rewrite(TABLE, without_phones(church_id, [phone_index], nobody))
    async with database.tenant(church_id) as tx:
        open_count = await store.count_open(tx, [phone_index])
    return Erased(stored=stored, archived=archived, open=open_count)


async def delete_older(
    database: Database,
    archives: Archives,
    churches: Collection[UUID],
    before: datetime,
    *,
    since: datetime | None = None,
) -> Deleted:
    """Delete churches' copies and e-mails from before a time: their own, shorter retention, or all of them.

    Copies that are older than ``since`` are known to be gone. An e-mail that waits is not sent any more. One that was
    written into a file goes with the other old files.
    """
    stored, open_since = 0, dict[UUID, datetime]()
    after, end = store.last_id_before(since) if since is not None else _NIL, store.last_id_before(before)
    while after < end:
        async with database.across_churches() as tx:
            reached = await store.find_end(tx, after, before) or end
            found = await store.list_churches(tx, after, reached, churches)
        for church_id in found:
            async with database.tenant(church_id) as tx:
                gone, oldest = await store.delete_between(tx, after, reached)
            stored += gone
            if oldest is not None:
                open_since.setdefault(church_id, id_time(oldest))
        after = reached
    for church_id in churches:
        stored += await _repeat(database, church_id, lambda tx: emails.delete_older(tx, before, store.ROWS))
    old = without_churches(churches, before)
    await archives.rewrite(TRAIL, old, since=since)
    archived = await archives.rewrite(TABLE, old, since=since)
    return Deleted(stored=stored, archived=archived, open_since=open_since)


async def _repeat(database: Database, church_id: UUID, step: Callable[[Transaction], Awaitable[int]]) -> int:
    total = 0
    while True:
        async with database.tenant(church_id) as tx:
            count = await step(tx)
        total += count
        if not count:
            return total
