"""Plans of every hot statement, as the service's own role, where there are many rows: bounded, whatever the size.

Each runs with statistics and without: as after years, and as on the first day of a month, when a partition was empty a
moment ago and nobody has looked at it since. ``KOINONIA_PLAN_ROWS`` makes it as big as wanted.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args
from uuid import UUID

import asyncpg
import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt
from services.delivery.tests.integration.plenty import Plenty, fill

from koinonia import clock
from koinonia.api.messages import RecipientStatus
from koinonia.db import Database
from koinonia.db.migrate import migrate
from koinonia.events.messaging import MembersChanged, MemberState
from koinonia.ids import derived_id, new_id
from koinonia.security.keys import Keys
from koinonia.testing.plans import Plan, Plans, explained
from koinonia.testing.servers import TestServers
from koinonia_delivery.calls import attempt_of
from koinonia_delivery.domain import outcomes
from koinonia_delivery.store import broadcasts, copies, doubts, erasing, resolving
from koinonia_delivery.store import recipients as store

ROWS = int(os.environ.get("KOINONIA_PLAN_ROWS", "60000"))
CHURCHES = 1000
BIG = {"recipients", "problems", "consents", "member_phones"}
"""What no statement may read whole. Some ten thousand opt-outs or rows of work are read quicker than 500 are looked
for; the pages touched bound that."""
BATCH = 500
MONTHS = 5
"""All that there are: a person's copies are looked for in each by its index."""


@dataclass(frozen=True)
class Filled:
    """A database, as the service's role, and what is in it."""

    url: str
    plenty: Plenty
    analyzed: bool


@pytest.fixture(scope="module", params=["with statistics", "without"])
async def filled(request: pytest.FixtureRequest, servers: TestServers) -> AsyncIterator[Filled]:
    """A database with many rows."""
    name = servers.new_name()
    await servers.create_database(name)
    password = servers.password("delivery")
    await migrate(servers.database_url(name), ["delivery"], {"delivery": password} if password else None)
    connection = await asyncpg.connect(servers.database_url(name))
    try:
        for row in await connection.fetch(TABLES):
            await connection.execute(f"ALTER TABLE delivery.{row['relname']} SET (autovacuum_enabled = off)")
        plenty = await fill(connection, ROWS, CHURCHES)
        analyzed = request.param == "with statistics"
        if analyzed:
            # As coarse as those of a month of ten million, where all copies of a message lie between two known ids.
            await connection.execute("ALTER TABLE delivery.recipients ALTER COLUMN id SET STATISTICS 1")
            for row in await connection.fetch(PARTITIONS):
                await connection.execute(f"ALTER TABLE {row[0]} ALTER COLUMN id SET STATISTICS 1")
            await connection.execute("ANALYZE")
    finally:
        await connection.close()
    yield Filled(servers.database_url(name, "delivery"), plenty, analyzed)
    await servers.drop_database(name)


PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'delivery.recipients'::regclass"
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'delivery'::regnamespace AND relkind = 'r'"


@pytest.fixture
def plenty(filled: Filled) -> Plenty:
    return filled.plenty


@pytest.fixture
async def crowded(filled: Filled, keys: Keys) -> AsyncIterator[World]:
    """The church with two messages of half the rows each, among the others."""
    database = await Database.open(filled.url, "delivery", statement_timeout_seconds=60.0)
    world = World(database, keys, filled.plenty.church_id)
    world.number_id = filled.plenty.number_id
    await world.be_fresh()
    yield world
    await database.close()


def check(plans: Plans, most: dict[str, int], *, months: int = 1) -> None:
    """See that no table of many rows was read whole, that few months were looked into, and how much was touched.

    ``most``: pages that a statement may touch, by its name; every one that runs is named.
    """
    assert plans.by_name.keys() == most.keys()
    for name, plan in plans.all():
        check_reads(name, plan, months)
        assert plan.buffers <= most[name], f"{name} touches {plan.buffers} pages"


def check_reads(name: str, plan: Plan, months: int = 1) -> None:
    """See that a statement read no table of many rows whole, and looked into few months."""
    whole = {table for table in plan.scanned() if table in BIG or table[:-8] in BIG}
    assert not whole, f"{name} reads all of {whole}"
    touched = plan.touched("recipients")
    assert len(touched) <= months, f"{name} looks into {touched}"


def check_whole(plans: Plans, per_row: int) -> None:
    """The same of a piece of work on ``BATCH`` rows, whatever its statements are called."""
    for name, plan in plans.all():
        check_reads(name, plan)
    touched = {name: sum(each.buffers for each in ran) for name, ran in plans.by_name.items()}
    assert sum(touched.values()) <= per_row * BATCH, touched


@pytest.mark.parametrize("status", [None, *get_args(RecipientStatus)])
@pytest.mark.parametrize("message", ["failed", "delivered"])
async def test_a_page_of_a_messages_copies(
    crowded: World, plenty: Plenty, message: str, status: RecipientStatus | None
) -> None:
    """Three of each message's copies have the other's state."""
    message_id, dispatched_at = plenty.failed, plenty.failed_at
    if message == "delivered":
        message_id, dispatched_at = plenty.delivered, plenty.delivered_at
    with explained() as plans:
        async with crowded.database.tenant(crowded.church_id) as tx:
            rows, looked_to = await store.list_page(tx, message_id, dispatched_at, after=None, status=status, limit=101)
    if status in (None, message):
        assert len(rows) == 101
    if status == "failed" and message == "delivered":
        assert (len(rows), looked_to) == (3, None)
    name = "recipients.list_page" if status is None else "recipients.list_frequent"
    if status in store.PROBLEMS:
        name = "recipients.list_problems"
    most = {"recipients.list_page": 150, "recipients.list_problems": 600}
    if status == message:  # frequent here, and listed by its first rows
        most["recipients.list_frequent"] = 150
    check(plans, {name: most.get(name, store.LOOKED_AT_ROWS + 200)})


@pytest.mark.parametrize("message", ["failed", "delivered"])
async def test_a_page_of_those_who_were_not_reached(crowded: World, plenty: Plenty, message: str) -> None:
    is_failed = message == "failed"
    source = (plenty.failed, plenty.failed_at) if is_failed else (plenty.delivered, plenty.delivered_at)
    with explained() as plans:
        async with crowded.database.tenant(crowded.church_id) as tx:
            found = await store.list_failed(tx, *source, after=None, limit=101)
    assert (len(found), {each.source_id for each in found}) == (101 if is_failed else 3, {source[0]})
    check(plans, {"recipients.list_failed": 700})


async def test_a_page_of_a_members_copies(crowded: World, plenty: Plenty) -> None:
    with explained() as plans:
        async with crowded.database.tenant(crowded.church_id) as tx:
            assert await copies.is_member(tx, plenty.member_id)
            found = await copies.list_page(tx, plenty.member_id, before=None, limit=101)
    assert {each.recipient.source_id for each in found} == {plenty.failed, plenty.delivered}
    check(plans, {"consents.is_member": 6, "recipients.list_of_member": 40}, months=MONTHS)


async def test_a_claim_its_settlement_and_its_receipts(crowded: World, filled: Filled) -> None:
    with explained() as plans:
        calls = (await crowded.claim(BATCH)).calls
    assert len(calls) == BATCH
    check_whole(plans, 60 if filled.analyzed else 180)
    with explained() as plans:
        await crowded.settle(*(accepted(call.claimed) for call in calls))
    check_whole(plans, 40)
    with explained() as plans:
        await crowded.receive(*(receipt(call.claimed.recipient_id, "delivered") for call in calls))
    check_whole(plans, 30)


async def test_receipts_without_rows(crowded: World) -> None:
    early = [derived_id(clock.now(), new_id().bytes) for _ in range(BATCH)]
    with explained() as plans:
        await crowded.receive(*(receipt(each, "delivered") for each in early))
        async with crowded.database.across_churches() as tx:
            await crowded.receipts.try_parked(tx)
    assert plans.by_name.keys() >= {"receipts.apply", "receipts.list_archived", "parked_receipts.take"}
    check_whole(plans, 20)


async def test_what_the_clock_does(crowded: World, plenty: Plenty) -> None:
    calls = (await crowded.claim(100)).calls
    await crowded.settle(*(outcomes.unknown(attempt_of(call.claimed), 0.0) for call in calls[:50]))
    await crowded.be_due()
    with explained() as plans:
        async with crowded.database.across_churches() as tx:
            await doubts.reap(tx, 500, "Lost.", 30.0, resend=True)
            found = await doubts.take(tx, 20, 60.0, resend=False)
            await doubts.give_up(tx, found, "Nobody knows.")
            await doubts.scan_overdue(tx, clock.now() + timedelta(hours=1), 5000, 60.0)
            await broadcasts.list_unswept(tx)
            await broadcasts.list_ending(tx)
    check(
        plans,
        {
            "work.reap": 2500,
            "work.take_doubts": 700,
            "recipients.give_up": 700,
            "overdue.scan": 5200,
            "broadcasts.list_unswept": 20,
            "broadcasts.list_ending": 20,
        },
        months=2,  # the scan comes from the month before
    )


async def test_what_people_and_events_ask(crowded: World, plenty: Plenty) -> None:
    with explained() as plans:
        async with crowded.database.tenant(crowded.church_id) as tx:
            phones = await erasing.find_phones(tx, [plenty.member_id])
            await erasing.count_open(tx, phones, [plenty.member_id])
            await erasing.blank_member(tx, [plenty.member_id], phones, b"x")
            await erasing.blank_phone(tx, b"nobody", b"x")
            await erasing.forget_member(tx, [plenty.member_id])
            await broadcasts.cancel(tx, plenty.failed, clock.now())
            cancelled = broadcasts.Cancelled(
                church_id=crowded.church_id, message_id=plenty.failed, dispatched_at=plenty.failed_at
            )
            await broadcasts.cancel_rows(tx, cancelled, 500)
            await broadcasts.note_ended(tx, cancelled)
        async with crowded.database.across_churches() as tx:
            end = await erasing.find_end(tx, UUID(int=0), clock.now())
        assert end
        async with crowded.database.tenant(crowded.church_id) as tx:
            (row, *_), _ = await store.list_page(
                tx, plenty.failed, plenty.failed_at, after=None, status="failed", limit=1
            )
            await resolving.lock(tx, row.id, plenty.failed)
            await resolving.close(tx, row.id)
            await resolving.resend(tx, row.id)
            await store.find(tx, row.id)
    check(
        plans,
        {
            "member_phones.find": 5,
            "recipients.count_open_of": 30,
            "recipients.blank_member": 100,
            "recipients.blank_phone": 30,
            "member_phones.delete": 10,
            "broadcasts.cancel": 20,
            "recipients.cancel": 1000,
            "broadcasts.note_ended": 1000,
            "recipients.find_end": erasing.PASSED_ROWS + 200,
            "recipients.list_problems": 20,
            "work.lock": 5,
            "recipients.lock": 10,
            "recipients.close": 80,
            "recipients.resend": 80,
            "recipients.find": 10,
        },
        months=MONTHS,
    )


async def test_what_comes_in_chunks(crowded: World) -> None:
    people = [crowded.person(number) for number in range(BATCH)]
    with explained() as plans:
        await crowded.apply("delivery.chunks", crowded.chunk(people))
    check_whole(plans, 80)
    members = tuple(member(each.phone_index) for each in people)
    with explained() as plans:
        await crowded.apply("delivery.consents", MembersChanged(members=members, source="import"))
    check_whole(plans, 30)


def member(phone_index: bytes) -> MemberState:
    return MemberState(
        member_id=new_id(),
        version=1,
        first_name="Anna",
        last_name="Berg",
        phone_index=phone_index,
        phone_ciphertext=b"sealed",
        branch_id=new_id(),
        opted_in=True,
    )
