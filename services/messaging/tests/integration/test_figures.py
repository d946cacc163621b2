"""Figures equal a count over the rows, whatever happens to those, in any order, twice, or at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from services.messaging.tests.integration.conftest import church_changed, envelope, phone

from koinonia import clock
from koinonia.api import Endpoint, analytics, branches, groups, members
from koinonia.api.branches import BranchRequest
from koinonia.api.members import MemberPatch
from koinonia.db import statement
from koinonia.errors import Conflict
from koinonia.events.compliance import SuppressionAdded, SuppressionRemoved
from koinonia.events.delivery import BranchChanges, RecipientsUpdated
from koinonia_messaging import branches as branch_cases
from koinonia_messaging import figures, merging, progress, projections
from koinonia_messaging import members as member_cases
from koinonia_messaging.app import build
from koinonia_messaging.commands import Compared, rebuild
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import figures as figure_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager
    from uuid import UUID

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.events import Envelope
    from koinonia.service import Running
    from koinonia.testing.databases import DatabaseUrls
    from koinonia.testing.servers import TestServers
    from koinonia.testing.services import Caller, StartService
    from koinonia_messaging.store.figures import Difference

    CountStatements = Callable[[], AbstractContextManager[StatementLog]]
    Ask = Callable[..., Awaitable[tuple[int, Any]]]

MEMBERS = statement("test.members", "SELECT id, deleted_at, merged_into FROM members ORDER BY id")
BRANCHES = statement("test.branches", "SELECT id FROM branches ORDER BY id")
OPEN = ("queued", "sent", "unknown")
CLOSED = ("delivered", "undelivered", "failed", "expired", "cancelled", "unconfirmed")


async def differences(church: Church) -> list[Difference]:
    async with church.database.tenant(church.id) as tx:
        return await figure_store.compare(tx, church.id, correct=False)


async def branch_ids(church: Church) -> list[UUID]:
    async with church.database.tenant(church.id) as tx:
        return [row["id"] for row in await tx.fetch(BRANCHES)]


async def add_branch(church: Church, name: str) -> UUID:
    async with church.database.tenant(church.id) as tx:
        return (await branch_cases.create(tx, church.actor, BranchRequest(name=name))).id


def updated(church: Church, message_id: UUID, *changes: tuple[UUID, dict[str, int]]) -> Envelope[Any]:
    """What delivery tells of a message's branches, and so of the message."""
    total: Counter[str] = Counter()
    for _, change in changes:
        total.update(change)
    parts = tuple(BranchChanges(branch_id=each, changes=change) for each, change in changes)  # type: ignore[arg-type]
    event = RecipientsUpdated(source_id=message_id, kind="broadcast", changes=dict(total), branches=parts)  # type: ignore[arg-type]
    return envelope(event, church.id)


class People:
    """Random writes to a church's people, each by its use case."""

    def __init__(self, church: Church, chance: random.Random) -> None:
        self.church = church
        self.chance = chance

    async def write(self) -> None:
        deed = self.chance.choice([self.add, self.change, self.change, self.delete, self.restore, self.merge, self.opt])
        await deed()

    async def _any(self, count: int = 1, *, deleted: bool = False) -> list[UUID]:
        async with self.church.database.tenant(self.church.id) as tx:
            rows = [row["id"] for row in await tx.fetch(MEMBERS) if (row["deleted_at"] is not None) is deleted]
        return self.chance.sample(rows, count) if len(rows) >= count else []

    async def add(self) -> None:
        places = await branch_ids(self.church)
        people = [
            {
                "firstName": f"P{self.chance.randrange(40)}",
                "phone": phone(self.chance.randrange(25)),
                "optInSms": self.chance.random() < 0.7,
                "branchId": str(self.chance.choice(places)),
            }
            for _ in range(self.chance.randrange(1, 9))
        ]
        await self.church.add_members(people)

    async def change(self) -> None:
        for member_id in await self._any():
            patch = self.chance.choice(
                [
                    MemberPatch(branch_id=self.chance.choice(await branch_ids(self.church))),
                    MemberPatch(opt_in_sms=self.chance.random() < 0.5),
                    MemberPatch(phone=phone(self.chance.randrange(25))),
                    MemberPatch(last_name=f"L{self.chance.randrange(9)}"),
                ]
            )
            try:
                async with self.church.database.tenant(self.church.id) as tx:
                    await member_cases.change(tx, self.church.actor, member_id, patch, self.church.keys)
            except Conflict:
                pass

    async def delete(self) -> None:
        for member_id in await self._any():
            async with self.church.database.tenant(self.church.id) as tx:
                await member_cases.delete(tx, self.church.actor, member_id)

    async def restore(self) -> None:
        for member_id in await self._any(deleted=True):
            try:
                async with self.church.database.tenant(self.church.id) as tx:
                    await member_cases.restore(tx, self.church.actor, member_id)
            except Conflict:
                pass

    async def merge(self) -> None:
        if two := await self._any(2):
            async with self.church.database.tenant(self.church.id) as tx:
                await merging.merge(tx, self.church.actor, *two)

    async def opt(self) -> None:
        """STOP or START, also one that comes late or again."""
        index = self.church.keys.index(phone(self.chance.randrange(25)), self.church.id, "phone")
        at = clock.now() - timedelta(seconds=self.chance.choice([0, 0, 0, 5]))
        stop = SuppressionAdded(phone_index=index, version=1, occurred_at=at, reason="stop")
        start = SuppressionRemoved(phone_index=index, version=1, occurred_at=at, reason="start")
        for _ in range(self.chance.choice([1, 1, 2])):
            async with self.church.database.tenant(self.church.id) as tx:
                act = stop if self.chance.random() < 0.5 else start
                await projections.apply_suppression(tx, envelope(act, self.church.id))


@pytest.mark.parametrize("seed", range(4))
async def test_peoples_figures_equal_the_rows_after_random_writes(church: Church, seed: int) -> None:
    chance = random.Random(seed)
    await add_branch(church, "North")
    await add_branch(church, "South")
    people = People(church, chance)
    await people.add()
    for _ in range(60):
        await people.write()
    assert await differences(church) == []
    async with church.database.tenant(church.id) as tx:
        dashboard = await figures.dashboard(tx)
    assert dashboard.members > 0


async def test_a_stop_and_an_import_at_once_count_a_person_rightly(church: Church) -> None:
    """Neither sees what the other has written until it commits: the second waits, and then sees it."""
    for number, first in enumerate(("import", "stop", "import", "stop")):
        index = church.keys.index(phone(number), church.id, "phone")
        stop = SuppressionAdded(phone_index=index, version=1, occurred_at=clock.now(), reason="stop")

        async def imported(number: int = number) -> None:
            await church.add_members([{"firstName": "Anna", "phone": phone(number)}])

        async def stopped(stop: SuppressionAdded = stop) -> None:
            async with church.database.tenant(church.id) as tx:
                await projections.apply_suppression(tx, envelope(stop, church.id))

        async with church.database.tenant(church.id) as tx:
            if first == "import":
                actor, keys = church.actor, church.keys
                request = members.MemberRequest(first_name="Anna", phone=phone(number), opt_in_sms=True)
                await member_cases.create(tx, actor, request, keys)
                other = asyncio.create_task(stopped())
            else:
                await projections.apply_suppression(tx, envelope(stop, church.id))
                other = asyncio.create_task(imported())
            await asyncio.sleep(0.1)
            assert not other.done()
        await other
        assert await differences(church) == []
    async with church.database.tenant(church.id) as tx:
        dashboard = await figures.dashboard(tx)
    assert (dashboard.members, dashboard.opted_in) == (4, 0)


MOVE_ALL = statement("test.move_all", "UPDATE members SET branch_id = $1")
MOVE_ONE = statement(
    "test.move_one", "UPDATE members SET branch_id = $1 WHERE id = (SELECT min(id::text)::uuid FROM members)"
)
ADD_MANY = statement(
    "test.add_many",
    """
    INSERT INTO members (
        id, church_id, version, first_name, last_name, name_key, phone_ciphertext, phone_index, branch_id, opted_in,
        custom_fields, created_at, updated_at
    )
    SELECT
        gen_random_uuid(), $1, 1, '', '', number::text, '', substr(sha256(number::text::bytea), 1, 16), $2, true,
        '{}', now(), now()
    FROM generate_series($3::int, $4::int) AS number
    """,
)


async def test_a_change_of_thousands_after_one_of_a_single_member_is_counted(church: Church) -> None:
    (home,) = await branch_ids(church)
    north = await add_branch(church, "North")
    async with church.database.tenant(church.id) as tx:
        await tx.execute(ADD_MANY, church.id, home, 1, 1)
        await tx.execute(MOVE_ONE, north)
        await tx.execute(ADD_MANY, church.id, home, 2, 2_000)
        await tx.execute(MOVE_ALL, north)
    assert await differences(church) == []


def walk(chance: random.Random, places: list[UUID], count: int) -> list[tuple[UUID, dict[str, int]]]:
    """What becomes of ``count`` recipients, as differences, each with its branch."""
    steps: list[tuple[UUID, dict[str, int]]] = []
    for _ in range(count):
        place, was = chance.choice(places), "queued"
        steps.append((place, {"queued": 1}))
        for became in [*chance.sample(OPEN[1:], chance.randrange(3)), chance.choice(CLOSED)]:
            steps.append((place, {was: -1, became: 1}))
            was = became
    return steps


@pytest.mark.parametrize("seed", range(3))
async def test_texts_figures_equal_the_rows_in_any_order_doubled_and_by_many_replicas(
    new_church: Callable[[], Awaitable[Church]], seed: int
) -> None:
    chance = random.Random(seed)
    churches = [await new_church() for _ in range(2)]
    events: list[Envelope[Any]] = []
    for church in churches:
        await church.add_crowd(3)
        places = [*await branch_ids(church), await add_branch(church, "North")]
        for _ in range(3):
            message_id = await church.dispatch()
            steps = walk(chance, places, 12)
            chance.shuffle(steps)
            while steps:
                batch = [steps.pop() for _ in range(min(len(steps), chance.randrange(1, 5)))]
                events.append(updated(church, message_id, *_merged(batch)))
    chance.shuffle(events)
    events += chance.sample(events, 6)  # again
    size = len(events) // 4 + 1
    replicas = [events[start : start + size] for start in range(0, len(events), size)]

    async def replica(own: list[Envelope[Any]]) -> None:
        for start in range(0, len(own), 7):
            await churches[0].receive(*own[start : start + 7], killed=True)
            await churches[0].receive(*own[start : start + 7])

    await asyncio.gather(*(replica(own) for own in replicas))
    for church in churches:
        assert await differences(church) == []
        async with church.database.tenant(church.id) as tx:
            dashboard = await figures.dashboard(tx)
            stats = await figure_store.list_branches(tx, None, 10)
        assert (dashboard.this_month.messages, dashboard.this_month.recipients) == (3, 36)
        assert sum(each.recipients for each in stats) == 36
        assert sum(each.delivered for each in stats) == dashboard.this_month.delivered
        assert dashboard.this_month == dashboard.today_figures


def _merged(steps: list[tuple[UUID, dict[str, int]]]) -> list[tuple[UUID, dict[str, int]]]:
    sums: dict[UUID, Counter[str]] = {}
    for place, change in steps:
        counter = sums.setdefault(place, Counter())
        for status, count in change.items():
            counter[status] += count
    return [(place, {status: count for status, count in change.items() if count}) for place, change in sums.items()]


async def test_a_batch_that_names_branches_takes_three_statements_however_many(
    church: Church, count_statements: CountStatements
) -> None:
    places = [*await branch_ids(church), *[await add_branch(church, f"B{number}") for number in range(9)]]
    await church.add_crowd(1)
    sent = [await church.dispatch() for _ in range(4)]
    events = [updated(church, each, *((place, {"queued": 2}) for place in places)) for each in sent]
    with count_statements() as counted:
        async with church.database.across_churches() as tx:
            await progress.apply(tx, events)
    assert counted.by_name == {"messages.count_recipients": 1, "figures.count_branches": 1, "messages.finish": 1}
    assert await differences(church) == []


async def test_a_text_counts_on_the_churchs_day_its_message_began_on(church: Church) -> None:
    (home,) = await branch_ids(church)
    await church.add_crowd(2)
    late_evening = datetime(2026, 3, 1, 5, 30, tzinfo=UTC)  # in Chicago, February's last
    with clock.frozen(late_evening):
        message_id = await church.dispatch()
        await church.receive(updated(church, message_id, (home, {"sent": 2})))
    async with church.database.tenant(church.id) as tx:  # the church moves, which changes no day that was
        await projections.apply_church(tx, envelope(church_changed(church.id, 2, timezone="Europe/Berlin"), church.id))
    with clock.frozen(late_evening + timedelta(days=2)):
        await church.receive(updated(church, message_id, (home, {"sent": -2, "delivered": 1, "undelivered": 1})))
        async with church.database.tenant(church.id) as tx:
            month = await figures.delivery(tx, None, None)
            dashboard = await figures.dashboard(tx)
            one = await figures.delivery(tx, date(2026, 2, 28), date(2026, 2, 28))
    assert (len(month.days), month.from_, month.to) == (30, date(2026, 2, 2), date(2026, 3, 3))
    texted = [day for day in month.days if day.messages]
    assert [(day.date, day.sent, day.delivered, day.failed, day.delivery_rate) for day in texted] == [
        (date(2026, 2, 28), 2, 1, 1, 0.5)
    ]
    assert (one.total.recipients, one.days) == (2, texted)
    assert (dashboard.last_month.delivered, dashboard.this_month.messages, dashboard.timezone) == (
        1,
        0,
        "Europe/Berlin",
    )


# What the code before days does with a message that billing authorizes, and with what delivery reports of it.
BEGIN_UNDATED = statement(
    "test.begin_undated",
    """
    UPDATE messages
    SET status = 'sending', awaiting_answer = $2, dispatched_at = '2026-03-01 05:30Z', queued = 1, delivered = 1
    WHERE id = $1
    """,
)


async def test_a_message_that_older_code_let_begin_comes_to_its_day_with_what_was_counted(church: Church) -> None:
    """By its next answer from billing, or by the command."""
    await church.add_crowd(2)
    answered, undated = [(await church.send()).id for _ in range(2)]
    for message_id in (answered, undated):
        await church.ask(message_id)
        async with church.database.tenant(church.id) as tx:
            await tx.execute(BEGIN_UNDATED, message_id, message_id == answered)
    assert await church.authorize(answered)
    assert await differences(church) == []
    async with church.database.tenant(church.id) as tx:
        (found,) = await figures.rebuild(tx, church.id)
    assert (found.key, found.missing) == ("2026-02-28", {"messages": 1, "queued": 1, "delivered": 1})  # in Chicago
    await church.report(undated, {"queued": -1, "delivered": 1})
    assert await differences(church) == []


async def test_tests_are_in_no_figure(church: Church) -> None:
    (home,) = await branch_ids(church)
    await church.add_crowd(2)
    church.actor = msgspec.structs.replace(church.actor, principal_kind="api_key", test=True)
    message_id = await church.dispatch()
    await church.receive(updated(church, message_id, (home, {"sent": 2})))
    assert (await church.message(message_id)).counts.sent == 2
    assert await differences(church) == []
    async with church.database.tenant(church.id) as tx:
        month = (await figures.dashboard(tx)).this_month
        (branch,) = await figure_store.list_branches(tx, None, 10)
    assert (month.messages, month.sent, branch.messages, branch.sent) == (0, 0, 0, 0)


async def test_figures_are_put_right_while_they_change(church: Church) -> None:
    (home,) = await branch_ids(church)
    north = await add_branch(church, "North")
    await church.add_crowd(5)
    sent = [await church.dispatch() for _ in range(2)]
    await church.receive(updated(church, sent[0], (home, {"queued": 5})))
    wrong = (
        "UPDATE day_figures SET queued = queued + 3, messages = 9",
        "UPDATE branch_people SET members = 1, opted_in = 7",
        "DELETE FROM branch_figures",
    )
    async with church.database.tenant(church.id) as tx:
        for number, sql in enumerate(wrong):
            await tx.execute(statement(f"test.wrong_{number}", sql))
    told = await differences(church)
    assert [(each.table, each.missing) for each in told] == [
        ("day_figures", {"messages": -7, "queued": -3}),
        ("branch_figures", {"messages": 1, "queued": 5}),
        ("branch_people", {"members": 4, "opted_in": -2}),
    ]
    people = People(church, random.Random(1))
    found: list[list[Difference]] = []

    async def texts() -> None:
        for _ in range(15):
            await church.receive(updated(church, sent[1], (home, {"queued": 1}), (north, {"queued": 2})))

    async def writes() -> None:
        for _ in range(15):
            await people.write()

    async def corrections() -> None:
        for _ in range(4):
            async with church.database.tenant(church.id) as tx:
                found.append(await figures.rebuild(tx, church.id))

    await asyncio.gather(texts(), corrections(), writes(), corrections())
    assert sorted(len(each) for each in found) == [0] * 7 + [3]  # by whoever came first, once
    assert await differences(church) == []


async def test_an_operator_puts_figures_right_and_is_told_what_was_wrong(
    *,
    new_church: Callable[[], Awaitable[Church]],
    database_urls: DatabaseUrls,
    servers: TestServers,
) -> None:
    ours, theirs = [await new_church() for _ in range(2)]
    for church in (ours, theirs):
        await church.add_crowd(3)
    async with ours.database.tenant(ours.id) as tx:
        await tx.execute(statement("test.wrong_people", "UPDATE branch_people SET members = 5"))
    url = servers.database_url((await database_urls("messaging")).rpartition("/")[2].partition("?")[0])
    (wrong,) = (await rebuild(url, correct=False)).wrong
    assert (wrong.church_id, wrong.table, wrong.missing) == (ours.id, "branch_people", {"members": -2})
    assert await rebuild(url, theirs.id) == Compared(churches=1, wrong=[])
    assert await rebuild(url) == Compared(churches=2, wrong=[wrong])
    assert await rebuild(url) == Compared(churches=2, wrong=[])
    async with ours.database.tenant(ours.id) as tx:
        assert (await figures.dashboard(tx)).members == 3


async def test_a_correction_may_not_see_another_churchs_rows(new_church: Callable[[], Awaitable[Church]]) -> None:
    ours, theirs = await new_church(), await new_church()
    await theirs.add_crowd(2)
    async with ours.database.tenant(ours.id) as tx:
        assert await figure_store.compare(tx, theirs.id, correct=True) == []
    assert await differences(theirs) == []


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    """Call as an owner of the church."""

    async def call(endpoint: Endpoint, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


async def test_the_dashboard_the_days_and_the_branches_take_a_statement_each(
    ask: Ask, church: Church, count_statements: CountStatements
) -> None:
    (home,) = await branch_ids(church)
    names: list[str] = []
    for size in range(2):
        for number in range(8):
            await ask(branches.CREATE, body={"name": f"Branch {size} {number}"})
        for endpoint in (analytics.STATS, analytics.DELIVERY, branches.STATS):
            with count_statements() as counted:
                status, _ = await ask(endpoint)
            assert status == 200
            names += [name for name in counted.by_name.elements() if name.startswith("figures.")]
            assert not [name for name in counted.by_name if name.startswith(("branches.", "groups.", "members."))]
    assert names == ["figures.find_dashboard", "figures.list_days", "figures.list_branches"] * 2
    await ask(groups.CREATE, body={"name": "Choir", "branchId": str(home)})
    await ask(members.CREATE, body={"firstName": "Anna", "phone": phone(1), "optInSms": True})
    await ask(members.CREATE, body={"firstName": "Ben", "phone": phone(2), "optInSms": False})
    _, stats = await ask(analytics.STATS)
    assert [stats[name] for name in ("members", "optedIn", "groups", "branches")] == [2, 1, 1, 17]
    assert stats["thisMonth"]["deliveryRate"] is None
    _, page = await ask(branches.STATS, query={"limit": "16"})
    assert (len(page["data"]), page["hasMore"]) == (16, True)
    _, rest = await ask(branches.STATS, query={"limit": "16", "cursor": page["nextCursor"]})
    assert [(each["members"], each["optedIn"], each["groups"], each["isDefault"]) for each in rest["data"]] == [
        (2, 1, 1, True)
    ]
    status, refused = await ask(analytics.DELIVERY, query={"from": "2026-03-02", "to": "2026-03-01"})
    assert (status, refused["error"]["details"][0]["field"]) == (400, "to")
