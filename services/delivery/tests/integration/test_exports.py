"""A message's recipients as a table."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from services.delivery.tests.integration.conftest import World, accepted, receipt

from koinonia import clock
from koinonia.errors import NotFound
from koinonia.events.audit import ActionRecorded
from koinonia.events.messaging import MessageAccepted
from koinonia.ids import new_id
from koinonia.security import Identity
from koinonia_delivery import exports


def caller(church_id: UUID) -> Identity:
    return Identity(
        church_id=church_id,
        principal_id=new_id(),
        principal_kind="session",
        role="admin",
        mfa_verified=False,
        address="127.0.0.1",
        request_id="test",
        expires_at=clock.now() + timedelta(minutes=1),
        method="GET",
        path="/",
    )


async def table(world: World, message_id: UUID, church_id: UUID | None = None) -> list[list[Sequence[str]]]:
    export = exports.Exports(world.database, world.keys)
    who = caller(church_id or world.church_id)
    return [list(page) async for page in export.pages(who, message_id)]


async def test_each_recipient_is_a_line_and_a_page_is_never_more_than_it_may_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE_RECIPIENTS", 2)
    message_id = await world.store(5)
    claim = await world.claim(100)
    await world.settle(*(accepted(call.claimed) for call in claim.calls))
    rows = await world.rows(message_id)
    await world.receive(receipt(rows[0]["id"], "delivered"))
    header, *pages = await table(world, message_id)
    assert header == [exports.HEADER]
    assert [len(page) for page in pages] == [2, 2, 1]
    lines = [dict(zip(exports.HEADER, line, strict=True)) for page in pages for line in page]
    assert [line["recipientId"] for line in lines] == [str(row["id"]) for row in rows]
    assert sorted(line["phone"] for line in lines) == [f"+1205556{number:04d}" for number in range(5)]
    assert [line["status"] for line in lines] == ["delivered"] + ["sent"] * 4
    assert [bool(line["deliveredAt"]) for line in lines] == [True, False, False, False, False]
    assert {(line["memberId"], line["segments"]) for line in lines} == {
        (str(row["member_ids"][0]), "1") for row in rows
    }
    (act,) = await world.events(ActionRecorded)
    assert (act.data.action, act.data.target_id) == ("recipients.exported", message_id)


async def test_a_message_without_recipients_is_a_header_and_an_unknown_one_is_not_found(world: World) -> None:
    message_id = new_id()
    accepted_one = MessageAccepted(message_id=message_id, recipient_count=1, segment_bound=1)
    await world.apply("delivery.messages", accepted_one)
    assert await table(world, message_id) == [[exports.HEADER]]
    for church_id, wanted in ((new_id(), message_id), (world.church_id, new_id())):
        with pytest.raises(NotFound):
            await table(world, wanted, church_id)
