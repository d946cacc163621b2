"""Forgetting a member, a phone, or a church's old copies: in tables and in archives, without what is still open."""

from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt
from services.delivery.tests.integration.test_consents import ANNA, BERT, member, tell
from services.delivery.tests.integration.test_lists import history, shared_chunk
from structlog.testing import capture_logs

from koinonia import clock
from koinonia.api.messages import RecipientQuery
from koinonia.db import statement
from koinonia.db.archives import Archives
from koinonia.db.archiving import Archivist
from koinonia.events.gateway import ChurchChanged
from koinonia.files import Directory
from koinonia.ids import new_id
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.servers import TestServers
from koinonia_delivery import erasing, recipients, retention
from koinonia_delivery.store import erasing as store
from koinonia_delivery.store import retention as retention_store

ALL = statement(
    "test.all_recipients",
    "SELECT id, church_id, member_ids, phone_index, phone_ciphertext, text, carrier_id FROM recipients ORDER BY id",
)

TELL = statement(
    "test.tell_all",
    """
    INSERT INTO trail (id, at, what, church_id, was, became, attempt)
    SELECT id, now(), 'receipt', church_id, 'sent', 'delivered', 1 FROM recipients
    """,
)
DELETED_UNTIL = statement("test.deleted_until", "SELECT deleted_until FROM retentions WHERE church_id = $1")
ALL_TOLD = statement("test.all_told", "SELECT id FROM trail ORDER BY id")


class Estate:
    """One church's copies, this month's and last month's, and the archives beside."""

    def __init__(self, world: World, archivist: Archivist, archives: Archives) -> None:
        self.world = world
        self.archivist = archivist
        self.archives = archives

    @property
    def last_month(self) -> datetime:
        return clock.now().replace(day=1) - timedelta(days=3)

    async def archive(self) -> int:
        """Archive last month; answers how many rows."""
        archive = await self.archivist.archive(f"delivery.recipients_{self.last_month:%Y_%m}")
        return archive.rows

    async def restore(self) -> None:
        await self.archivist.restore(f"delivery.recipients_{self.last_month:%Y_%m}")

    async def send(self, number: int, *members: UUID, at: datetime | None = None, ended: bool = True) -> UUID:
        """One copy to a phone, for these of its people; answers its message."""
        chunk = shared_chunk(self.world, number, *members, dispatched_at=at or clock.now())
        await self.world.apply("delivery.chunks", chunk)
        if ended:
            claimed = await self.world.claim_one()
            await self.world.settle(accepted(claimed))
            await self.world.receive(receipt(claimed.recipient_id, "delivered"))
        return chunk.message_id

    async def rows(self) -> list[asyncpg.Record]:
        async with self.world.database.across_churches() as tx:
            return await tx.fetch(ALL)

    async def told(self) -> list[asyncpg.Record]:
        async with self.world.database.across_churches() as tx:
            return await tx.fetch(ALL_TOLD)


@pytest.fixture
async def estate(world: World, database_urls: DatabaseUrls, servers: TestServers, tmp_path: Path) -> Estate:
    url = await database_urls("delivery")
    admin_url = servers.database_url(url.rpartition("/")[2].partition("?")[0])
    archives = Archives(Directory(tmp_path / "files"), url)
    await tell(world, member(world, ANNA), member(world, BERT))
    return Estate(world, Archivist(admin_url, archives), archives)


@pytest.mark.parametrize("archived", [False, True])
async def test_a_member_is_erased_and_the_family_keeps_its_copy(estate: Estate, archived: bool) -> None:
    world = estate.world
    for members in ((ANNA,), (ANNA, BERT), (BERT,)):
        await estate.send(0, *members, at=estate.last_month)
    before = await estate.rows()
    if archived:
        assert await estate.archive() == 3
        assert await estate.rows() == []
    erased = await erasing.erase_member(world.database, estate.archives, world.keys, world.church_id, ANNA)
    assert (erased.stored, erased.archived, erased.open) == ((0, 2, 0) if archived else (2, 0, 0))
    if archived:
        await estate.restore()
    hers, both, his = await rows_as(estate, before, [(ANNA,), (ANNA, BERT), (BERT,)])
    assert (hers["member_ids"], hers["phone_index"], hers["text"], hers["carrier_id"]) == ([], b"", "[deleted]", None)
    assert world.keys.decrypt(hers["phone_ciphertext"], world.church_id, "phone") == "[deleted]"
    assert (both["member_ids"], both["text"]) == ([BERT], "[deleted]")
    assert world.keys.decrypt(both["phone_ciphertext"], world.church_id, "phone") == "+12055560000"
    assert his in before
    assert await history(world, ANNA) == []
    assert [each.content for each in await history(world, BERT)].count("[deleted]") == 1


@pytest.mark.parametrize("named", [ANNA, BERT])
@pytest.mark.parametrize("archived", [False, True])
async def test_of_a_merged_member_what_went_to_either_record_is_erased(
    estate: Estate, named: UUID, archived: bool
) -> None:
    world, other = estate.world, new_id()
    gone = msgspec.structs.replace(member(world, ANNA, version=2), deleted=True, merged_into=BERT)
    await tell(world, gone, member(world, BERT, number=1, version=2), member(world, other))
    for number, members in ((0, (ANNA, other)), (1, (BERT,)), (0, (other,))):
        await estate.send(number, *members, at=estate.last_month)
    if archived:
        assert await estate.archive() == 3
    erased = await erasing.erase_member(world.database, estate.archives, world.keys, world.church_id, named)
    assert (erased.stored, erased.archived, erased.open) == ((0, 2, 0) if archived else (2, 0, 0))
    if archived:
        await estate.restore()
    rows = sorted((row["member_ids"], row["text"]) for row in await estate.rows())
    assert rows == [([], "[deleted]"), ([other], "Hi Anna"), ([other], "[deleted]")]


async def rows_as(
    estate: Estate, before: list[asyncpg.Record], members: list[tuple[UUID, ...]]
) -> list[asyncpg.Record]:
    """The rows as they are now, in the order of whom they named before."""
    ids = [next(row["id"] for row in before if tuple(row["member_ids"]) == each) for each in members]
    now = {row["id"]: row for row in await estate.rows()}
    return [now[id] for id in ids]


async def test_an_open_copy_is_erased_once_it_is_closed(estate: Estate) -> None:
    world = estate.world
    message_id = await estate.send(0, ANNA, ended=False)
    erased = await erasing.erase_member(world.database, estate.archives, world.keys, world.church_id, ANNA)
    assert (erased.stored, erased.open) == (0, 1)
    claimed = await world.claim_one()
    assert claimed.text == "Hi Anna"
    await world.settle(accepted(claimed))
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    erased = await erasing.erase_member(world.database, estate.archives, world.keys, world.church_id, ANNA)
    assert (erased.stored, erased.open) == (1, 0)
    assert await world.statuses(message_id) == ["delivered"]


async def test_a_phone_is_erased_whoever_is_named_and_of_this_church_alone(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ROWS", 2)
    world = estate.world
    for _ in range(3):
        await estate.send(0, ANNA)
    await estate.send(5, BERT)
    await estate.send(0, BERT, at=estate.last_month)
    assert await estate.archive() == 1
    index = world.person(0).phone_index
    erased = await erasing.erase_phone(world.database, estate.archives, world.keys, new_id(), index)
    assert (erased.stored, erased.archived) == (0, 0)
    erased = await erasing.erase_phone(world.database, estate.archives, world.keys, world.church_id, index)
    assert (erased.stored, erased.archived, erased.open) == (3, 1, 0)
    await estate.restore()
    assert sorted(row["text"] for row in await estate.rows()) == ["Hi Anna", *["[deleted]"] * 4]
    erased = await erasing.erase_phone(world.database, estate.archives, world.keys, world.church_id, index)
    assert (erased.stored, erased.archived) == (0, 0)


async def test_a_churchs_shorter_retention_deletes_its_older_copies_page_by_page(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PASSED_ROWS", 2)
    world = estate.world
    for day in range(5):
        await estate.send(day, ANNA, at=estate.last_month + timedelta(hours=day))
    kept = await estate.send(9, ANNA)
    async with world.database.tenant(world.church_id) as tx:
        await tx.execute(TELL)
    before = estate.last_month + timedelta(hours=2.5)
    church = [world.church_id]
    assert (await erasing.delete_older(world.database, estate.archives, [new_id()], before)).stored == 0
    assert (await erasing.delete_older(world.database, estate.archives, church, before)).stored == 3
    assert len(await estate.told()) == 3
    assert await estate.archive() == 2
    assert (await estate.archivist.archive(f"delivery.trail_{estate.last_month:%Y_%m}")).rows == 2
    erased = await erasing.delete_older(world.database, estate.archives, church, clock.now())
    assert (erased.stored, erased.archived) == (1, 2)
    assert await estate.rows() == await estate.told() == []
    assert await world.rows(kept) == []
    await estate.restore()
    assert await estate.rows() == await estate.told() == []


async def test_what_is_open_outlives_a_churchs_retention(estate: Estate) -> None:
    world = estate.world
    await estate.send(0, ANNA, ended=False)
    later = clock.now() + timedelta(minutes=1)
    erased = await erasing.delete_older(world.database, estate.archives, [world.church_id], later)
    assert (erased.stored, set(erased.open_since)) == (0, {world.church_id})
    assert len(await estate.rows()) == 1


async def test_an_erased_copys_phone_is_shown_as_deleted(estate: Estate) -> None:
    world = estate.world
    message_id = await estate.send(0, ANNA)
    await erasing.erase_phone(world.database, estate.archives, world.keys, world.church_id, world.person(0).phone_index)
    async with world.database.tenant(world.church_id) as tx:
        page = await recipients.list_page(tx, world.keys, message_id, RecipientQuery())
    (shown,) = page.data
    assert (shown.phone, shown.status, shown.member_id) == ("[deleted]", "delivered", None)


async def keeps(world: World, days: int | None, version: int) -> None:
    """The church says in its settings for how long it keeps what was sent."""
    changed = ChurchChanged(
        church_id=world.church_id,
        version=version,
        name="Grace Chapel",
        timezone="America/Chicago",
        status="active",
        retention_days=days,
    )
    await world.apply("delivery.churches", changed)


async def deleted_until(world: World) -> datetime | None:
    async with world.database.tenant(world.church_id) as tx:
        found: datetime | None = await tx.fetch_value(DELETED_UNTIL, world.church_id)
    return found


async def test_what_is_older_than_the_church_keeps_goes_by_itself_from_tables_and_archives(estate: Estate) -> None:
    world = estate.world
    await estate.send(0, ANNA, at=estate.last_month)
    await estate.send(0, ANNA)
    newest = (await estate.rows())[-1]
    assert await estate.archive() == 1
    await keeps(world, None, 1)
    await retention.keep(world.database, estate.archives)
    assert (await deleted_until(world), [each.rows for each in await estate.archives.list("delivery")]) == (None, [1])

    await keeps(world, 1, 2)
    await retention.keep(world.database, estate.archives)
    await estate.restore()
    assert await estate.rows() == [newest]
    until = await deleted_until(world)
    assert until is not None
    assert clock.now() - until == pytest.approx(timedelta(days=1), abs=timedelta(hours=1))

    # The next pass comes with the next day's worth, and begins where this one ended.
    async with world.database.across_churches() as tx:
        assert await retention_store.list_due(tx, clock.now() + timedelta(hours=23)) == []
        (due,) = await retention_store.list_due(tx, clock.now() + timedelta(hours=25))
    assert (due.church_ids, due.since) == ((world.church_id,), until)
    assert due.before - until == pytest.approx(timedelta(hours=25), abs=timedelta(hours=1))


async def test_a_pass_that_leaves_something_is_made_again(estate: Estate, tmp_path: Path) -> None:
    world = estate.world
    await estate.send(0, ANNA, at=clock.now() - timedelta(days=2), ended=False)
    await keeps(world, 1, 1)
    await retention.keep(world.database, estate.archives)
    ((row,), until) = (await estate.rows(), await deleted_until(world))
    assert until is not None  # no further than the one that is open
    assert row["id"].int > store.last_id_before(until).int
    assert clock.now() - until == pytest.approx(timedelta(days=2), abs=timedelta(hours=1))

    claimed = await world.claim_one()
    await world.settle(accepted(claimed))
    await world.receive(receipt(claimed.recipient_id, "delivered"))
    damaged = tmp_path / "files/archives/delivery/recipients_2020_01.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    with capture_logs() as lines:
        await retention.keep(world.database, estate.archives)
    assert [line["event"] for line in lines] == ["retention_postponed"]
    assert await deleted_until(world) == until

    damaged.unlink()
    await retention.keep(world.database, estate.archives)
    assert await estate.rows() == []
    assert (await deleted_until(world) or until) > until


async def test_a_pass_reads_what_is_new_to_it_alone(estate: Estate) -> None:
    world = estate.world
    for days in (9, 3):
        await estate.send(0, ANNA, at=clock.now() - timedelta(days=days))
    since, before = (clock.now() - timedelta(days=days) for days in (5, 1))
    gone = await erasing.delete_older(world.database, estate.archives, [world.church_id], before, since=since)
    assert (gone.stored, len(await estate.rows())) == (1, 1)
