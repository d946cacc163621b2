"""Imports: their budget, doubles, replays, groups, bad rows."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from koinonia.api import groups, members
from koinonia.events.messaging import MembersChanged
from koinonia_messaging import imports
from koinonia_messaging.app import build
from koinonia_messaging.domain.sheets import Sheet
from koinonia_messaging.settings import MessagingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService
    from koinonia_messaging.domain.rows import Row

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

OWN = ("idempotency.", "members.", "opt_outs.", "groups.", "outbox.add", "imports.insert")
HEADER = "firstName,lastName,phone,optInSms,externalId"


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(endpoint: Any, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, church_id=church.id, **values)

    return call


def csv_file(rows: int, first: int = 0, consent: str = "yes") -> bytes:
    lines = [
        f"Person{each},Lee,+1{312 + each // 10_000}555{each % 10_000:04},{consent},{each}"
        for each in range(first, first + rows)
    ]
    return "\n".join([HEADER, *lines]).encode()


def told(result: dict[str, Any]) -> tuple[int, int, int, list[Any]]:
    return result["created"], result["updated"], result["skipped"], result["errors"]


def own_statements(counted: StatementLog) -> int:
    """Those of the request; relay and loops of the service run beside it."""
    return sum(own(counted))


def own(counted: StatementLog) -> list[int]:
    return [count for name, count in counted.by_name.items() if name.startswith(OWN)]


def rows_of(data: bytes) -> Iterator[Row]:
    sheet = Sheet()
    for start in range(0, len(data), 8192):
        yield from sheet.feed(data[start : start + 8192])
    yield from sheet.feed(b"", final=True)


async def import_csv(ask: Ask, data: bytes, **headers: str) -> tuple[int, Any]:
    return await ask(members.IMPORT, data=data, headers={"Content-Type": "text/csv", **headers})


async def test_five_hundred_rows_take_at_most_ten_statements(
    ask: Ask, count_statements: CountStatements, bus: BusProbe
) -> None:
    _, choir = await ask(groups.CREATE, body={"name": "Choir"})
    rows = [{"firstName": f"P{each}", "phone": f"+1312555{each:04}", "optInSms": True} for each in range(500)]
    body = {"members": rows, "groupIds": [choir["id"]]}
    with count_statements() as counted:
        status, result = await ask(members.IMPORT, body=body, headers={"Idempotency-Key": "first"})
    assert (status, told(result)) == (200, (500, 0, 0, []))
    assert own_statements(counted) <= 10
    assert (await ask(groups.GET, ids={"id": UUID(choir["id"])}))[1]["memberCount"] == 500
    changed = await bus.next(MembersChanged)
    assert (len(changed.data.members), changed.data.source) == (500, "import")


async def test_ten_thousand_rows_go_in_at_once(ask: Ask, count_statements: CountStatements, bus: BusProbe) -> None:
    data = csv_file(10_000)
    with count_statements() as counted:
        status, result = await import_csv(ask, data)
    assert (status, result["created"], result["errors"]) == (200, 10_000, [])
    assert own_statements(counted) <= 30
    assert max(own(counted)) <= 10
    status, result = await import_csv(ask, csv_file(500, first=9_750))
    assert (status, told(result)) == (200, (250, 0, 250, []))
    events = [each.data for each in await bus.all(MembersChanged)]
    assert max(len(each.members) for each in events) <= 500


async def test_an_import_may_take_longer_than_other_requests(
    ask: Ask, service: Running[MessagingSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 50)  # many trips
    monkeypatch.setattr(service.parts.database, "_transaction_seconds", 1e-6)
    status, result = await import_csv(ask, csv_file(200))
    assert (status, result["created"]) == (200, 200)
    assert (await ask(members.LIST))[0] == 503  # the limit of the others holds


async def test_the_memory_of_an_import_does_not_grow_with_its_rows(
    church: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_ROWS", 200)
    peaks = []
    for first, count in ((0, 600), (600, 2400)):
        data = csv_file(count, first)
        tracemalloc.start()
        async with church.database.tenant(church.id, timeout_seconds=60) as tx:
            await imports.run(tx, church.actor, rows_of(data), [], church.keys)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]  # four times the rows; the file itself is in memory


async def test_bad_rows_are_reported_and_the_rest_goes_in(ask: Ask) -> None:
    data = f"{HEADER}\nAnna,Lee,3125550001,yes,\n,Lee,3125550002,yes,\nCarl,Lee,12,yes,\nDora,Lee,3125550003,,"
    status, result = await import_csv(ask, data.encode())
    assert (status, result["created"]) == (200, 2)
    where = [(each["row"], each["line"], each["field"]) for each in result["errors"]]
    assert where == [(2, 3, "firstName"), (3, 4, "phone")]
    assert (result["rows"], result["doneRows"], result["badRows"]) == (4, 4, 2)
    _, page = await ask(members.LIST)
    assert [(each["firstName"], each["optInSms"]) for each in page["data"]] == [("Dora", False), ("Anna", True)]


async def test_a_person_is_updated_by_external_id_and_named_once(ask: Ask) -> None:
    await import_csv(ask, f"{HEADER}\nAnna,Lee,3125550001,yes,7\nBob,Lee,3125550001,yes,".encode())
    data = f"{HEADER}\nAnn,Lee-Young,3125550002,,7\nbob,LEE,(312) 555-0001,,8\nBob,Lee,3125550001,,8"
    status, result = await import_csv(ask, data.encode())
    assert (status, told(result)) == (200, (0, 3, 0, []))
    _, page = await ask(members.LIST)
    people = {each["externalId"]: (each["firstName"], each["phone"], each["optInSms"]) for each in page["data"]}
    assert people == {"7": ("Ann", "+13125550002", True), "8": ("Bob", "+13125550001", True)}


async def test_the_same_file_after_a_merge_brings_the_double_not_back(ask: Ask) -> None:
    data = f"{HEADER}\nAnna,Lee,3125550001,yes,7\nAnn,Lee,3125550002,yes,8\nAnny,Lee,3125550003,yes,".encode()
    await import_csv(ask, data)
    people = {each["firstName"]: each["id"] for each in (await ask(members.LIST))[1]["data"]}
    for other in ("Ann", "Anny"):
        body = {"memberId": people[other]}
        assert (await ask(members.MERGE, ids={"id": UUID(people["Anna"])}, body=body))[0] == 200
    _, rehearsed = await ask(members.IMPORT, data=data, headers={"Content-Type": "text/csv"}, query={"dryRun": "true"})
    assert told(rehearsed) == told((await import_csv(ask, data))[1]) == (0, 0, 3, [])
    (member,) = (await ask(members.LIST))[1]["data"]
    assert (member["firstName"], member["phone"], member["externalId"]) == ("Anna", "+13125550001", "7")


async def test_the_same_import_sent_again_answers_the_same_and_writes_nothing(ask: Ask) -> None:
    data = f"{HEADER}\nAnna,Lee,3125550001,yes,\nBob,Lee,12,,".encode()
    first = await import_csv(ask, data, **{"Idempotency-Key": "k"})
    assert first == await import_csv(ask, data, **{"Idempotency-Key": "k"})
    assert first[1]["created"] == 1
    assert len(first[1]["errors"]) == 1


async def test_an_import_never_lifts_a_stop(ask: Ask, church: Church) -> None:
    await import_csv(ask, csv_file(1))
    await church.stop("+13125550000")
    await import_csv(ask, csv_file(1, consent="yes"))
    assert [each["optInSms"] for each in (await ask(members.LIST))[1]["data"]] == [False]


async def test_a_formula_cell_is_stored_without_its_formula(ask: Ask) -> None:
    await import_csv(ask, f'{HEADER}\n"=HYPERLINK(""http://x"")",@Lee,3125550001,,'.encode())
    (member,) = (await ask(members.LIST))[1]["data"]
    assert (member["firstName"], member["lastName"]) == ('HYPERLINK("http://x")', "Lee")


@pytest.mark.parametrize("data", [b"", b"nickname,phone\nA,3125550001", b"\xff\xfe", b"firstName,phone\n\x00,1"])
async def test_a_file_that_is_none_is_refused(ask: Ask, data: bytes) -> None:
    status, answer = await import_csv(ask, data)
    assert (status, answer["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_a_dry_run_tells_the_mapping_and_what_would_be_and_changes_nothing(ask: Ask, church: Church) -> None:
    await import_csv(ask, csv_file(1))
    data = "First;Cell;Notes\r\nAnna;3125550000;x\r\nJosé;3125550001;\r\nJosé;(312) 555-0001;\r\nBob;12;\r\n"
    headers = {"Content-Type": "text/csv"}
    before = await church.state()
    raw = data.encode("windows-1252")
    status, result = await ask(members.IMPORT, data=raw, headers=headers, query={"dryRun": "true"})
    assert (status, result["id"], result["mapping"]) == (
        200,
        None,
        {"First": "firstName", "Cell": "phone", "Notes": None},
    )
    assert (result["created"], result["skipped"], result["badRows"]) == (2, 1, 1)
    after = await church.state()
    assert {**after, "outbox": 0} == {**before, "outbox": 0}  # which is relayed meanwhile
    assert len((await ask(members.LIST))[1]["data"]) == 1
    # Sent without what was shown, the column that nobody knows refuses it.
    assert (await ask(members.IMPORT, data=raw, headers=headers))[0] == 400
    mapping = {"mapping": '{"Notes": "customFields.notes"}'}
    status, result = await ask(members.IMPORT, data=raw, headers=headers, query=mapping)
    assert (status, result["created"], result["skipped"], result["badRows"]) == (200, 2, 1, 1)
    names = {each["firstName"]: each["customFields"] for each in (await ask(members.LIST))[1]["data"]}
    assert names == {"Person0": {}, "Anna": {"notes": "x"}, "José": {}}
