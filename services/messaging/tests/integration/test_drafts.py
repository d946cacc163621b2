"""A draft goes to the phone of who wrote it, as a broadcast would read, and to nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from services.messaging.tests.integration.conftest import Church, church_changed, envelope, phone

from koinonia.api import messages as api
from koinonia.api import templates as templates_api
from koinonia.events.audit import ActionRecorded
from koinonia.events.delivery import TextRequested
from koinonia.events.messaging import MessageAccepted, MessageDue
from koinonia.ids import new_id
from koinonia_messaging import projections
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

OWN = phone(7)


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(body: dict[str, Any], **values: Any) -> tuple[int, Any]:
        given = {"church_id": church.id, "own_phone": OWN, **values}
        return await caller(service, api.SEND_TO_ME, body=body, **given)

    return call


def fields(answer: Any) -> list[str]:
    return [detail["field"] for detail in answer["error"]["details"]]


async def test_a_draft_goes_to_ones_own_phone_filled_in_and_opens_no_broadcast(
    ask: Ask, church: Church, bus: BusProbe
) -> None:
    await church.add_crowd(3)
    number_id = await church.add_number()
    status, sent = await ask(
        {
            "content": "Hi {{firstName}} {{lastName|friend}}",
            "fields": {"firstName": "Ruth {{x}}"},
            "numberId": str(number_id),
        }
    )
    assert status == 202
    wanted = await bus.next(TextRequested)
    assert (wanted.church_id, str(wanted.data.text_id), wanted.data.purpose) == (church.id, sent["id"], "draft")
    assert wanted.data.content == "Hi Ruth {{x}} friend"
    assert wanted.data.phone_index == church.keys.index(OWN, church.id, "phone")
    assert church.keys.decrypt(wanted.data.phone_ciphertext, church.id, "phone") == OWN
    assert (wanted.data.number_id, wanted.data.media_urls) == (number_id, ())
    assert wanted.data.do_not_send_after == wanted.data.requested_at + timedelta(hours=1)
    act = await bus.next(ActionRecorded, lambda act: act.action == "message.draft_sent")
    assert (act.data.target_kind, str(act.data.target_id)) == ("draft", sent["id"])
    assert (await bus.all(MessageAccepted), await bus.all(MessageDue), await bus.all(TextRequested)) == ([], [], [])


async def test_the_same_request_again_sends_once(ask: Ask, bus: BusProbe) -> None:
    key = {"Idempotency-Key": "once"}
    first = await ask({"content": "Hello"}, headers=key)
    assert await ask({"content": "Hello"}, headers=key) == first
    await bus.next(TextRequested)
    assert await bus.all(TextRequested) == []


async def test_a_draft_reads_as_the_broadcast_would(
    ask: Ask, church: Church, service: Running[MessagingSettings], caller: Caller, bus: BusProbe
) -> None:
    changed = church_changed(church.id, 2, opt_out_line="Reply STOP to opt out")
    async with church.database.tenant(church.id) as tx:
        await projections.apply_church(tx, envelope(changed, church.id))
    made = {"name": "Sunday", "content": "“See you”, {{firstName}}"}
    _, template = await caller(service, templates_api.CREATE, church_id=church.id, body=made)
    picture = "https://grace.example/a.jpg"
    values = {"fields": {"firstName": "O’Neil"}, "smartEncoding": True, "mediaUrls": [picture]}
    status, _ = await ask({"templateId": template["id"], **values})
    assert status == 202
    wanted = (await bus.next(TextRequested)).data
    assert wanted.content == '"See you", O\'Neil\nReply STOP to opt out'
    assert wanted.media_urls == (picture,)


async def test_without_a_confirmed_phone_and_to_one_that_has_opted_out_nothing_goes(
    ask: Ask, church: Church, bus: BusProbe
) -> None:
    assert (await ask({"content": "Hello"}, own_phone=None))[0] == 409
    await church.stop(OWN)
    status, refused = await ask({"content": "Hello"})
    assert (status, "opted out" in refused["error"]["message"]) == (409, True)
    assert (await ask({"content": "Hello"}, own_phone=phone(8)))[0] == 202
    wanted = await bus.next(TextRequested)
    assert wanted.data.phone_index == church.keys.index(phone(8), church.id, "phone")
    assert await bus.all(TextRequested) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": "Hello", "templateId": str(new_id())}, "content"),
        ({"templateId": str(new_id())}, "templateId"),
        ({"content": "Hello", "numberId": str(new_id())}, "numberId"),
        ({"content": "Hello", "mediaUrls": ["https://u:p@x.example/a.jpg"]}, "mediaUrls[0]"),
        ({"content": "{{firstName}}"}, "fields"),
        ({"content": "{{a}}" * 100, "fields": {"a": "x" * 100}}, "content"),
        ({"content": "Hello", "fields": {"": "x"}}, "fields"),
    ],
)
async def test_what_is_wrong_is_named(ask: Ask, bus: BusProbe, body: dict[str, Any], field: str) -> None:
    status, answer = await ask(body)
    assert (status, fields(answer)) == (400, [field])
    assert await bus.all(TextRequested) == []


async def test_only_people_who_may_send_try_drafts(ask: Ask) -> None:
    assert (await ask({"content": "Hello"}, role="viewer"))[0] == 403
    assert (await ask({"content": "Hello"}, test=True))[0] == 403
    assert (await ask({"content": "Hello"}, role="sender"))[0] == 202


async def test_a_draft_takes_four_statements_whoever_is_in_the_church(
    ask: Ask, church: Church, count_statements: CountStatements
) -> None:
    await church.add_crowd(30)
    with count_statements() as counted:
        assert (await ask({"content": "Hi {{firstName}}"}))[0] == 202
    taken = ("templates.find_source", "audience.check_all", "suppressions.is_suppressed", "outbox.add")
    assert [counted.by_name[name] for name in taken] == [1, 1, 1, 1]
    assert [name for name in counted.by_name if name.startswith(("members.", "audience."))] == ["audience.check_all"]
