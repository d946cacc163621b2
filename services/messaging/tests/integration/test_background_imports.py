"""Imports in the background: pieces laid by, written once whatever dies, told by progress and report."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import pytest
import structlog

from koinonia.api import members
from koinonia.db import statement
from koinonia.events.messaging import MembersChanged
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia.testing.fixtures import wait_until
from koinonia_messaging import imports
from koinonia_messaging.app import build
from koinonia_messaging.domain import pieces
from koinonia_messaging.domain.sheets import Sheet
from koinonia_messaging.importing import Importing
from koinonia_messaging.imports import IMPORTS_AT_ONCE
from koinonia_messaging.intake import FILES_AT_ONCE, Intake
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import imports as import_store
from koinonia_messaging.store.broadcasts import Leases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db import Transaction
    from koinonia.service import Running
    from koinonia.testing.services import Caller, StartService

HEADER = "First Name,Last Name,Mobile,Consent,Member ID"
CSV = {"Content-Type": "text/csv"}
COUNTS = statement(
    "test.counts",
    """
    SELECT
        (SELECT count(*) FROM members) AS members,
        (SELECT count(*) FROM imports) AS imports,
        (SELECT count(*) FROM import_pieces) AS pieces,
        (SELECT string_agg(encode(rows_ciphertext, 'escape'), '') FROM import_pieces) AS stored
    """,
)
AGE = statement("test.age", "UPDATE imports SET created_at = created_at - interval '2 hours'")


def table(rows: int) -> bytes:
    lines = [f"Person{each},Lee,+1312555{each:04},yes,{each}" for each in range(rows)]
    return "\n".join([HEADER, *lines]).encode()


async def counts(church: Church) -> dict[str, Any]:
    async with church.database.tenant(church.id) as tx:
        row = await tx.fetch_row(COUNTS)
    assert row is not None
    return dict(row)


async def laid_by(church: Church, data: bytes) -> UUID:
    """An import whose file has come, and which nobody works on yet."""
    intake = Intake(church.database, church.keys, church.id)
    await intake.add(Sheet().feed(data, final=True), background=True)
    assert intake.import_id is not None
    async with church.database.tenant(church.id) as tx:
        await imports.start(tx, church.actor, intake.import_id, intake.count, [])
    return intake.import_id


def importing(church: Church) -> Importing:
    """The loop of one replica."""
    leases = Leases(first_seconds=0.01, longest_seconds=0.01)
    return Importing(church.database, Life(), church.keys, leases=leases)


async def found(church: Church, import_id: UUID) -> members.ImportResult:
    async with church.database.tenant(church.id) as tx:
        result = await import_store.find(tx, import_id)
    assert result is not None
    return result


async def test_a_large_table_goes_on_in_the_background_with_progress_and_a_report(
    start_service: StartService, caller: Caller, church: Church, new_church: Callable[[], Awaitable[Church]]
) -> None:
    service: Running[MessagingSettings] = await start_service("messaging", build, MessagingSettings)

    async def ask(endpoint: Any, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, church_id=church.id, **values)

    data = table(1500) + b"\nCarl,=1+1,12,yes,\n,Lee,3125550001,maybe,"
    headers = {**CSV, "Idempotency-Key": "k"}
    status, started = await ask(members.IMPORT, data=data, headers=headers, query={"background": "true"})
    assert (status, started["status"], started["rows"], started["doneRows"]) == (202, "running", 1502, 0)
    ids = {"id": UUID(started["id"])}

    async def completed() -> Any:
        status, state = await ask(members.GET_IMPORT, ids=ids)
        assert status == 200
        return state if state["status"] == "completed" else None

    done: Any = await wait_until(completed, what="the import")
    assert (done["created"], done["badRows"], done["doneRows"]) == (1500, 2, 1502)
    errors = [(each["line"], each["field"]) for each in done["errors"]]
    assert errors == [(1502, "phone"), (1503, "firstName"), (1503, "optInSms")]
    again = await ask(members.IMPORT, data=data, headers=headers, query={"background": "true"})
    assert (again[0], again[1]) == (202, done)  # the same request, and how far its import is
    state = await counts(church)
    assert (state["imports"], state["pieces"]) == (1, 0)
    assert await text_of(caller, service, members.IMPORT_REPORT, church, ids) == (
        '\ufeff"line","field","reason"\r\n'
        f'"1502","phone","{done["errors"][0]["message"]}"\r\n'
        f'"1503","firstName","{done["errors"][1]["message"]}"\r\n'
        '"1503","optInSms","Must be true or false"\r\n'
    )
    stranger = await new_church()
    for endpoint in (members.GET_IMPORT, members.IMPORT_REPORT):
        assert (await caller(service, endpoint, church_id=stranger.id, ids=ids))[0] == 404
        assert (await caller(service, endpoint, church_id=church.id, ids=ids, role="viewer"))[0] == 403
        assert (await caller(service, endpoint, church_id=church.id, ids=ids, query={"x": "1"}))[0] == 400


async def text_of(caller: Caller, service: Running[Any], endpoint: Any, church: Church, ids: dict[str, UUID]) -> str:
    """What a route that answers a table says."""
    async with aiohttp.ClientSession() as session:
        headers = caller.headers(endpoint, church.id, ids)
        async with session.get(service.url + endpoint.url(**ids), headers=headers) as answer:
            assert (answer.status, answer.content_type) == (200, "text/csv")
            return (await answer.read()).decode()


async def test_a_piece_is_written_once_whatever_dies_and_however_many_work(church: Church) -> None:
    import_id = await laid_by(church, table(2500))
    state = await counts(church)
    assert (state["pieces"], "Person" in state["stored"]) == (3, False)
    with pytest.raises(ZeroDivisionError):  # killed before the commit
        async with church.database.tenant(church.id) as tx:
            assert await imports.carry_on(tx, import_id, church.keys)
            raise ZeroDivisionError
    assert await counts(church) == state
    while (await found(church, import_id)).status == "running":
        await asyncio.gather(*(importing(church).round() for _ in range(3)))
    done = await found(church, import_id)
    assert (done.created, done.updated, done.skipped, done.done_rows) == (2500, 0, 0, 2500)
    state = await counts(church)
    assert (state["members"], state["pieces"]) == (2500, 0)
    told = [each.member_id for event in await church.published(MembersChanged) for each in event.members]
    assert (len(told), len(set(told))) == (2500, 2500)
    async with church.database.tenant(church.id) as tx:
        assert not await imports.carry_on(tx, import_id, church.keys)  # nothing is left


async def test_an_import_whose_rows_cannot_be_written_ends_and_lets_others_go_on(
    church: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await laid_by(church, table(1)), await laid_by(church, table(2))
    whole = imports.carry_on

    async def carry_on(tx: Transaction, import_id: UUID, keys: Any) -> bool:
        if import_id == bad:
            raise ZeroDivisionError
        return await whole(tx, import_id, keys)

    monkeypatch.setattr(imports, "carry_on", carry_on)

    async def ended() -> bool:
        await importing(church).round()
        return (await found(church, bad)).status == "failed"

    await wait_until(ended, what="the end of the import")
    assert (await found(church, good)).status == "completed"
    assert (await counts(church))["pieces"] == 0  # nor does the rest of a file lie about


async def test_what_came_by_half_is_forgotten_and_a_church_has_so_many_at_once(church: Church) -> None:
    rows = Sheet().feed(table(3), final=True)
    intake = Intake(church.database, church.keys, church.id)
    await intake.add(rows, background=True)
    await intake.discard()  # the sender has left
    assert (await counts(church))["imports"] == 0
    for _ in range(FILES_AT_ONCE):
        await Intake(church.database, church.keys, church.id).add(rows, background=True)
    with pytest.raises(Exception, match="are coming"):
        await Intake(church.database, church.keys, church.id).add(rows, background=True)
    async with church.database.tenant(church.id) as tx:
        await tx.execute(AGE)
    await importing(church).round()  # their processes died
    state = await counts(church)
    assert (state["imports"], state["pieces"]) == (0, 0)


async def test_a_started_import_answers_again_whatever_else_runs_or_is_away(
    start_service: StartService, caller: Caller, church: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def idle(_self: object) -> int:
        return 0

    async def away(_tx: Transaction, _import_id: UUID) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(Importing, "round", idle)
    monkeypatch.setattr(import_store, "discard", away)
    service: Running[MessagingSettings] = await start_service("messaging", build, MessagingSettings)

    async def ask(key: str) -> tuple[int, Any]:
        headers = {**CSV, "Idempotency-Key": key}
        return await caller(
            service, members.IMPORT, church_id=church.id, data=table(3), headers=headers, query={"background": "true"}
        )

    first = await ask("0")
    with structlog.testing.capture_logs() as logs:
        for each in range(1, IMPORTS_AT_ONCE):
            assert (await ask(str(each)))[0] == 202
    assert not [each for each in logs if each["event"] == "import_not_discarded"]  # it has started
    assert await ask("0") == first
    assert (first[0], (await ask("more"))[0]) == (202, 409)


async def test_the_memory_of_a_background_import_does_not_grow_with_its_rows(
    church: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koinonia_messaging.intake.PIECE_ROWS", 100)
    assert pieces.PIECE_ROWS == 1000
    peaks = []
    for count in (500, 2500):
        tracemalloc.start()
        intake, sheet = Intake(church.database, church.keys, church.id), Sheet()
        await intake.add(sheet.feed(HEADER.encode() + b"\n"), background=True)
        for start in range(0, count, 100):
            lines = [f"P{each},Lee,+1312555{each:04},yes,{new_id()}\n" for each in range(start, start + 100)]
            await intake.add(sheet.feed("".join(lines).encode()), background=True)
        assert intake.import_id is not None
        async with church.database.tenant(church.id) as tx:
            await imports.start(tx, church.actor, intake.import_id, intake.count, [])
        while (await found(church, intake.import_id)).status == "running":
            await importing(church).round()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]  # five times the rows


async def test_an_export_is_no_formula_and_can_be_imported_again(
    start_service: StartService, caller: Caller, church: Church
) -> None:
    service: Running[MessagingSettings] = await start_service("messaging", build, MessagingSettings)
    people = [
        {"firstName": "=HYPERLINK(1)", "lastName": "O'Neil, Jr", "phone": "+13125550001", "email": "a@b.example"},
        {
            "firstName": "Bob",
            "phone": "+13125550002",
            "customFields": {"size": "-5", "note": 'a "b"'},
            "optInSms": True,
        },
    ]
    for person in people:
        assert (await caller(service, members.CREATE, church_id=church.id, body=person))[0] == 201
    text = await text_of(caller, service, members.EXPORT, church, {})
    header, bob, first = text.removeprefix("\ufeff").splitlines()
    assert header.endswith('"externalId","customFields.note","customFields.size"')
    assert bob.startswith('"Bob","","\'+13125550002","",')
    assert bob.endswith(',"","yes","","a ""b""","\'-5"')
    assert first.startswith('"\'=HYPERLINK(1)","O\'Neil, Jr","\'+13125550001","a@b.example",')
    assert first.endswith(',"","no","","",""')
    status, result = await caller(service, members.IMPORT, church_id=church.id, data=text.encode(), headers=CSV)
    # Whom the form gave a formula for a name is another person without it; the rest is there already.
    assert (status, result["created"], result["updated"], result["skipped"], result["errors"]) == (200, 1, 0, 1, [])
    assert (await caller(service, members.EXPORT, church_id=church.id, role="sender"))[0] == 403


async def test_an_export_of_somebody_who_sent_stop_withdraws_nothing_and_drops_no_field(
    start_service: StartService, caller: Caller, church: Church, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Running[MessagingSettings] = await start_service("messaging", build, MessagingSettings)
    body = {"firstName": "Bob", "phone": "+13125550002", "customFields": {"a": "1", "b": "2"}, "optInSms": True}
    assert (await caller(service, members.CREATE, church_id=church.id, body=body))[0] == 201
    await church.stop("+13125550002")
    text = await text_of(caller, service, members.EXPORT, church, {})
    assert text.splitlines()[1].endswith(',"","","","1","2"')
    status, result = await caller(service, members.IMPORT, church_id=church.id, data=text.encode(), headers=CSV)
    assert (status, result["updated"], result["skipped"]) == (200, 0, 1)  # a START is enough
    monkeypatch.setattr("koinonia_messaging.store.exports.MOST_CUSTOM_FIELDS", 1)
    status, answer = await caller(service, members.EXPORT, church_id=church.id)
    assert (status, answer["error"]["code"]) == (409, "CONFLICT")
