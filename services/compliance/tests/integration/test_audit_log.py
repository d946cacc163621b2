"""The audit log: kept once, of any church and of none, and read by its own church alone."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.api import audit
from koinonia.bus.applying import Applier
from koinonia.db import Database, Statement, statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.events.gateway import AdminChanged
from koinonia.ids import new_id
from koinonia.security.identity import Role
from koinonia.security.keys import Keys
from koinonia.service import Running
from koinonia.settings import ServiceSettings
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe, Caller, StartService
from koinonia_compliance import audit_log, events
from koinonia_compliance.app import build
from koinonia_compliance.store import audit_log as store

Service = Running[ServiceSettings]
Keep = Callable[..., Awaitable[None]]
CountStatements = Callable[[], AbstractContextManager[StatementLog]]

ACTOR_ID = UUID(int=21)


def act(church_id: UUID | None, action: str = "message.accepted", **fields: Any) -> Envelope[ActionRecorded]:
    values: dict[str, Any] = {
        "actor_kind": "session",
        "actor_id": ACTOR_ID,
        "outcome": "success",
        "occurred_at": clock.now(),
        **fields,
    }
    data = ActionRecorded(action=action, **values)
    return Envelope(id=new_id(), time=clock.now(), data=data, church_id=church_id, service="messaging")


@pytest.fixture
def keep(database: Database, keys: Keys) -> Keep:
    """``await keep(event, …)``: one batch, as the queue's consumer applies it."""
    [subscription] = [each for each in events.listing(keys) if ActionRecorded in each.handlers]
    applier = Applier(database, subscription)

    async def run(*envelopes: Envelope[ActionRecorded]) -> None:
        await applier.apply(envelopes)

    return run


_ALL = statement("test.all", "SELECT id, church_id, action, service FROM audit_log ORDER BY id")


async def everything(database: Database) -> list[Any]:
    async with database.across_churches() as tx:
        return await tx.fetch(_ALL)


async def listed(database: Database, church_id: UUID, **query: Any) -> list[UUID]:
    async with database.tenant(church_id) as tx:
        page = await audit_log.list_page(tx, audit.AuditQuery(**query))
    return [entry.id for entry in page.data]


async def test_an_act_of_any_service_is_stored_and_read_whole(
    start_service: StartService, bus: BusProbe, caller: Caller, church_id: UUID
) -> None:
    service: Service = await start_service("compliance", build, ServiceSettings)
    target_id = new_id()
    event = act(
        church_id,
        target_kind="message",
        target_id=target_id,
        address="203.0.113.7",
        request_id="r-1",
        details={"targetType": "all"},
    )
    await bus.publish_envelope(event)
    await bus.publish_envelope(event)

    async def page() -> Any:
        _, answer = await caller(service, audit.LIST, church_id=church_id)
        return answer["data"]

    await wait_until(page)
    [entry] = await page()
    assert entry == {
        "id": str(event.id),
        "action": "message.accepted",
        "actorKind": "session",
        "actorId": str(ACTOR_ID),
        "outcome": "success",
        "targetKind": "message",
        "targetId": str(target_id),
        "address": "203.0.113.7",
        "requestId": "r-1",
        "details": {"targetType": "all"},
        "occurredAt": event.data.occurred_at.isoformat().replace("+00:00", "Z"),
        "actorRole": None,
    }
    assert (await caller(service, audit.LIST, church_id=new_id()))[1]["data"] == []
    assert (await caller(service, audit.LIST, church_id=church_id, role="sender"))[0] == 403
    status, answer = await caller(service, audit.LIST, church_id=church_id, query={"cursor": "rubbish"})
    assert (status, answer["error"]["details"][0]["field"]) == (400, "cursor")


async def test_an_entry_tells_the_actors_role_as_the_newest_event_has_it(
    start_service: StartService, bus: BusProbe, caller: Caller, church_id: UUID
) -> None:
    service: Service = await start_service("compliance", build, ServiceSettings)
    await bus.publish_envelope(act(church_id))

    async def role() -> Any:
        _, answer = await caller(service, audit.LIST, church_id=church_id)
        return answer["data"][0]["actorRole"] if answer["data"] else "no entry"

    async def is_told(expected: str | None) -> bool:
        return bool(await role() == expected)

    def admin(version: int, role: Role, status: Literal["active", "removed"] = "active") -> AdminChanged:
        return AdminChanged(admin_id=ACTOR_ID, version=version, role=role, status=status)

    await bus.publish(admin(2, "sender"), church_id)
    await wait_until(lambda: is_told("sender"))
    late, again = admin(1, "owner"), admin(3, "viewer")
    await bus.publish(late, church_id)
    twice = await bus.publish(again, church_id)
    await bus.publish_envelope(twice)
    await wait_until(lambda: is_told("viewer"))
    await bus.publish(admin(4, "viewer", "removed"), church_id)
    await wait_until(lambda: is_told(None))
    await bus.publish(again, church_id)
    barrier = AdminChanged(admin_id=UUID(int=22), version=1, role="sender", status="active")
    await bus.publish(barrier, church_id)
    await bus.publish_envelope(act(church_id, actor_id=barrier.admin_id))
    await wait_until(lambda: is_told("sender"))
    _, answer = await caller(service, audit.LIST, church_id=church_id)
    assert [entry["actorRole"] for entry in answer["data"]] == ["sender", None]


async def test_an_act_delivered_twice_is_stored_once(keep: Keep, database: Database, church_id: UUID) -> None:
    event = act(church_id)
    await keep(event, event)
    await keep(act(church_id), event)
    assert len(await everything(database)) == 2


async def test_a_batch_killed_before_its_commit_is_stored_when_it_comes_again(
    keep: Keep, database: Database, church_id: UUID
) -> None:
    batch = [act(church_id), act(church_id)]
    with pytest.raises(InterruptedError):
        await _keep_and_die(database, batch)
    assert await everything(database) == []
    await keep(*batch)
    assert [row["id"] for row in await everything(database)] == [each.id for each in batch]


async def _keep_and_die(database: Database, batch: Sequence[Envelope[ActionRecorded]]) -> None:
    async with database.across_churches() as tx:
        await audit_log.keep(tx, batch)
        raise InterruptedError


async def test_an_act_of_no_church_is_stored_and_visible_to_none(
    keep: Keep, database: Database, church_id: UUID
) -> None:
    unknown = act(None, "login.failed", actor_kind="anonymous", actor_id=None, outcome="failure")
    await keep(unknown, act(church_id))
    assert {row["church_id"] for row in await everything(database)} == {None, church_id}
    assert unknown.id not in await listed(database, church_id)


async def test_a_church_reads_its_own_acts_alone_though_it_knows_anothers_cursor(
    keep: Keep, database: Database, church_id: UUID
) -> None:
    other = new_id()
    mine, theirs = [act(church_id) for _ in range(3)], [act(other) for _ in range(3)]
    await keep(*mine, *theirs)
    assert await listed(database, church_id) == [each.id for each in reversed(mine)]
    async with database.tenant(other) as tx:
        cursor = (await audit_log.list_page(tx, audit.AuditQuery(limit=1))).next_cursor
    assert await listed(database, church_id, cursor=cursor) == [each.id for each in reversed(mine)]
    async with database.tenant(church_id) as tx:
        assert {row["church_id"] for row in await tx.fetch(_ALL)} == {church_id}


async def test_pages_come_newest_first_without_gap_or_repeat(
    keep: Keep, database: Database, church_id: UUID, count_statements: CountStatements
) -> None:
    kept = [act(church_id) for _ in range(7)]
    await keep(*kept)
    seen: list[UUID] = []
    cursor = None
    for has_more in (True, True, False):
        with count_statements() as counted:
            async with database.tenant(church_id) as tx:
                page = await audit_log.list_page(tx, audit.AuditQuery(limit=3, cursor=cursor))
        assert counted.count == 2
        assert page.has_more is has_more
        seen += [entry.id for entry in page.data]
        cursor = page.next_cursor
    assert cursor is None
    assert seen == [each.id for each in reversed(kept)]


async def test_filters_hold_together(keep: Keep, database: Database, church_id: UUID) -> None:
    somebody = new_id()
    wanted = act(church_id, "login.failed", actor_id=somebody)
    await keep(wanted, act(church_id, "login.failed"), act(church_id, actor_id=somebody))
    assert await listed(database, church_id, action="login.failed", actor_id=somebody) == [wanted.id]
    assert len(await listed(database, church_id, action="login.failed")) == 2
    assert len(await listed(database, church_id, actor_id=somebody)) == 2


async def test_a_batch_of_many_churches_is_one_statement(
    keep: Keep, database: Database, count_statements: CountStatements
) -> None:
    with count_statements() as counted:
        await keep(*(act(new_id()) for _ in range(200)))
    assert counted.by_name == {"audit_log.insert": 1}
    assert len(await everything(database)) == 200


_EXPLAIN = statement("test.explain", f"EXPLAIN {store._LIST_PAGE.text}")


async def test_a_page_is_read_through_the_churchs_index(keep: Keep, database: Database, church_id: UUID) -> None:
    for _ in range(10):
        churches = [church_id, *(new_id() for _ in range(19))]
        await keep(*(act(each) for each in churches for _ in range(10)))
    async with database.tenant(church_id) as tx:
        for action in (None, "login.failed"):
            rows = await tx.fetch(_EXPLAIN, church_id, new_id(), action, None, 21)
            plan = "\n".join(row[0] for row in rows)
            assert "church_id_id_idx" in plan
            assert "Index Cond: ((church_id =" in plan
            assert "Seq Scan" not in plan
            assert "Sort" not in plan


@pytest.mark.parametrize("verb", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"])
async def test_what_is_logged_stays_as_it_is(keep: Keep, database: Database, church_id: UUID, verb: str) -> None:
    await keep(act(church_id))
    for transaction in (database.tenant(church_id), database.across_churches()):
        with pytest.raises(Exception, match="permission denied"):
            await _execute(transaction, statement("test.alter", verb))
    assert len(await everything(database)) == 1


async def _execute(transaction: Any, sql: Statement) -> None:
    async with transaction as tx:
        await tx.execute(sql)
