"""`koinonia church announce`: settings that are so already are told once more, of one church or of all."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest

from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events.audit import ActionRecorded
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.fixtures import wait_until
from koinonia.testing.servers import TestServers
from koinonia.testing.services import BusProbe
from koinonia_gateway.church_commands import announce
from koinonia_gateway.store import churches as store

from .conftest import Browser, NewBrowser, Service
from .test_settings import QUIET, patch
from .test_suspending import Operator, operator

__all__ = ["operator"]

ERASE = statement("test.erase", "UPDATE churches SET status = 'erased' WHERE church_id = $1")
WAITING = statement(
    "test.waiting",
    """
    SELECT count(*)
    FROM pg_locks
    WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
    """,
)
Count = Callable[[], AbstractContextManager[StatementLog]]


@pytest.fixture
async def admin_url(gateway: Service, database_urls: DatabaseUrls, servers: TestServers) -> str:
    """The gateway's database, as its administrator reaches it."""
    return servers.database_url((await database_urls("gateway")).rpartition("/")[2].partition("?")[0])


@pytest.fixture
async def three(bus: BusProbe, owner: Browser, browsers: NewBrowser) -> list[str]:
    """The ids of three churches, the owner's first; their registrations have been told."""
    others = [browsers(), browsers()]
    for place, other in enumerate(others):
        await other.register(email=f"eve{place}@other.example")
    for _ in range(3):
        await bus.next(ChurchChanged)
    return [owner.church_id, *(other.church_id for other in others)]


async def told(bus: BusProbe, count: int) -> list[tuple[str, int]]:
    """Of which churches the next announcements are, and at which versions."""
    heard = [await bus.next(ChurchChanged) for _ in range(count)]
    assert all(each.church_id == each.data.church_id for each in heard)
    return [(str(each.church_id), each.data.version) for each in heard]


async def test_a_churchs_settings_are_told_anew_as_they_are(bus: BusProbe, owner: Browser, operator: Operator) -> None:
    await patch(owner, {"quietHours": QUIET, "retentionDays": 365})
    before = [(await bus.next(ChurchChanged)).data for _ in range(2)][-1]
    settings = await owner.call("GET", f"/api/churches/{owner.church_id}/settings")
    again = before
    for version in (3, 4):  # and once more
        assert await operator("announce", owner.church_id) == (0, "churches that were announced: 1")
        again = (await bus.next(ChurchChanged)).data
        assert again == msgspec.structs.replace(before, version=version)
    assert (again.quiet_from, again.quiet_until, again.retention_days) == ("21:00", "08:00", 365)
    assert await owner.call("GET", f"/api/churches/{owner.church_id}/settings") == settings
    assert await bus.all(ChurchChanged) == []
    actors = {each.data.actor_kind for each in await bus.all(ActionRecorded)}
    assert "operator" not in actors  # nothing was changed


async def test_all_churches_are_told_of_once_each_but_erased_ones(
    bus: BusProbe, gateway: Service, three: list[str], operator: Operator
) -> None:
    async with gateway.parts.database.across_churches() as tx:
        await tx.execute(ERASE, three[1])
    assert await operator("announce", "--all") == (0, "churches that were announced: 2")
    assert sorted(await told(bus, 2)) == sorted((each, 2) for each in (three[0], three[2]))
    assert await bus.all(ChurchChanged) == []
    status, said = await operator("announce", three[1])
    assert (status, said) == (2, f"koinonia: there is no church {three[1]}")


async def test_each_batch_is_a_transaction_and_a_repeat_goes_on_where_one_broke_off(
    bus: BusProbe, three: list[str], admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, batches = store.advance, 0

    async def breaks(*given: object, **named: object) -> object:
        nonlocal batches
        rows = await original(*given, **named)  # type: ignore[arg-type]
        batches += 1
        if batches == 3:
            raise ConnectionError
        return rows

    with monkeypatch.context() as broken:
        broken.setattr(store, "advance", breaks)
        with pytest.raises(ConnectionError):
            await announce(admin_url, None, batch=1)
    first, second, third = sorted(three)
    assert sorted(await told(bus, 2)) == [(first, 2), (second, 2)]
    assert await announce(admin_url, None, batch=2) == 3
    assert sorted(await told(bus, 3)) == [(first, 3), (second, 3), (third, 2)]


async def test_it_takes_two_statements_a_batch(three: list[str], admin_url: str, count_statements: Count) -> None:
    for batch, times in ((500, 1), (1, 4)):  # the last batch finds nobody
        with count_statements() as counted:
            assert await announce(admin_url, None, batch=batch) == 3
        assert counted.by_name["churches.advance"] == times
        assert counted.by_name["outbox.add"] == min(times, 3)
        relayed = {name for name in counted.by_name if name.startswith("outbox.")}
        assert set(counted.by_name) - relayed == {"churches.advance"}


async def test_a_change_meanwhile_is_waited_for_and_told(
    bus: BusProbe, gateway: Service, owner: Browser, admin_url: str
) -> None:
    await bus.next(ChurchChanged)
    async with gateway.parts.database.across_churches() as tx:
        await tx.execute(
            statement("test.change", "UPDATE churches SET name = 'Grace', version = version + 1 WHERE church_id = $1"),
            owner.church_id,
        )
        announcing = asyncio.create_task(announce(admin_url, None))

        async def waits() -> bool:
            async with gateway.parts.database.across_churches() as other:  # a transaction sees no later connection
                return announcing.done() or bool(await other.fetch_value(WAITING))

        await wait_until(waits)
        assert not announcing.done()
    assert await announcing == 1
    again = (await bus.next(ChurchChanged)).data
    assert (again.name, again.version) == ("Grace", 3)


@pytest.mark.parametrize("arguments", [(str(new_id()),), ("grace",), (), (str(new_id()), "--all")])
async def test_what_names_no_church_is_one_clear_line(operator: Operator, arguments: tuple[str, ...]) -> None:
    status, said = await operator("announce", *arguments)
    assert (status, len(said.splitlines())) == (2, 1)
    assert all(each in said for each in (arguments if len(arguments) == 1 else ("CHURCH", "--all")))
