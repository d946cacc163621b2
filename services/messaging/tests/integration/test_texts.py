"""What is sent, from what was asked for: smart encoding and templates, from the preview to the chunk."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from services.messaging.tests.integration.conftest import Church, church_changed, envelope, phone

from koinonia import clock
from koinonia.api import messages as messages_api
from koinonia.api import templates as api
from koinonia.api.messages import MessagePreview, SendRequest
from koinonia.errors import Conflict
from koinonia.events.messaging import RecipientsResolved
from koinonia.ids import new_id
from koinonia.sms import render, segments
from koinonia_messaging import messages
from koinonia_messaging.app import build
from koinonia_messaging.domain.audience import Target
from koinonia_messaging.domain.plans import PACE, Tariff
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import audience as audience_store
from koinonia_messaging.store import plans as plan_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

TARIFF = Tariff(segment_price_cents=2.0, rates={"long_code": 40.0})
CURLY = "“{{firstName}}” – don’t miss it: https://x.org/–1"


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(endpoint: Any, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


async def preview(church: Church, content: str, **values: object) -> MessagePreview:
    request = SendRequest(content=content, **{"target_type": "all", **values})  # type: ignore[arg-type]
    async with church.database.tenant(church.id) as tx:
        return await messages.preview(tx, church.actor, request, TARIFF)


async def test_smart_encoding_holds_for_preview_bound_and_chunk_and_is_told(church: Church) -> None:
    await church.add_members(
        [
            {"firstName": "O’Neil…", "phone": "+13125550001"},
            {"firstName": "Anna", "phone": "+13125550002", "customFields": {"page": "www.x.org/–"}},
        ]
    )
    content = CURLY.replace("https://x.org/–1", "y" * 135)
    plain, smart = [await preview(church, content, smart_encoding=each) for each in (False, True)]
    assert (plain.encoding, plain.segments, plain.replaced) == ("UCS-2", 3, [])
    assert (smart.encoding, smart.segments) == ("GSM-7", 2)
    assert [(each.character, each.replacement, each.count) for each in smart.replaced] == [
        ("“", '"', 1),
        ("”", '"', 1),
        ("–", "-", 1),
        ("’", "'", 1),
    ]
    message_id = await church.dispatch(content, smart_encoding=True)
    await church.stream_all(message_id)
    (chunk,) = await church.published(RecipientsResolved)
    assert chunk.content == '"{{firstName}}" - don\'t miss it: ' + "y" * 135
    assert {each.fields["firstName"] for each in chunk.recipients} == {"O'Neil...", "Anna"}
    assert (await church.message(message_id)).smart_encoding
    row = await church.row(message_id)
    assert row["streamed_bound"] == 3 <= row["segment_bound"] == 4


async def test_links_stay_whole_in_texts_and_in_values(church: Church) -> None:
    await church.add_members([{"firstName": "A", "phone": "+13125550001", "customFields": {"page": "www.x.org/–1"}}])
    shown = await preview(church, CURLY + " {{page}}", smart_encoding=True)
    assert shown.sample == '"A" - don\'t miss it: https://x.org/–1 www.x.org/–1'
    assert shown.encoding == "UCS-2"


async def test_a_template_is_made_changed_listed_and_deleted(church: Church, ask: Ask) -> None:
    await church.add_members([{"firstName": "A", "phone": "+13125550001", "customFields": {"shirt": "M"}}])
    body = {"name": "Sunday ", "content": "Hi {{firstName|friend}}, {{shirt}} {{shoe}}"}
    key = {"Idempotency-Key": "k"}
    status, made = await ask(api.CREATE, body=body, headers=key)
    assert (status, made["name"], made["version"]) == (201, "Sunday", 1)
    assert (made["fields"], made["unknownFields"]) == (["firstName", "shirt", "shoe"], ["shoe"])
    assert (await ask(api.CREATE, body=body, headers=key))[1] == made
    assert (await ask(api.CREATE, body={**body, "name": "sunday"}))[0] == 409
    _, other = await ask(api.CREATE, body={"name": "Other", "content": "Hello"})
    assert (await ask(api.PATCH, ids={"id": other["id"]}, body={"name": "SUNDAY"}))[0] == 409
    _, renamed = await ask(api.PATCH, ids={"id": made["id"]}, body={"name": "Easter"})
    assert (renamed["name"], renamed["version"], renamed["content"]) == ("Easter", 1, body["content"])
    _, changed = await ask(api.PATCH, ids={"id": made["id"]}, body={"content": "Hi"})
    assert (changed["version"], changed["content"], changed["unknownFields"]) == (2, "Hi", [])
    _, page = await ask(api.LIST)
    assert [each["id"] for each in page["data"]] == [other["id"], made["id"]]
    assert page["data"][1] == changed
    for expected in (204, 404):
        assert (await ask(api.DELETE, ids={"id": made["id"]}))[0] == expected
    assert (await ask(api.PATCH, ids={"id": made["id"]}, body={"content": "Hi"}))[0] == 404
    assert (await ask(api.CREATE, body={**body, "name": "Easter"}))[0] == 201  # the name is free again
    assert (await ask(api.CREATE, body={**body, "name": "x"}, role="viewer"))[0] == 403


async def test_a_message_keeps_the_version_it_used_though_it_waits(church: Church, ask: Ask) -> None:
    await church.add_members([{"firstName": "Anna", "phone": "+13125550001"}])
    _, made = await ask(api.CREATE, body={"name": "Sunday", "content": "“Hi” {{firstName}}"})
    body = {"templateId": made["id"], "targetType": "all", "smartEncoding": True}
    _, shown = await ask(messages_api.PREVIEW, body=body)
    assert (shown["sample"], shown["encoding"]) == ('"Hi" Anna', "GSM-7")
    later = {**body, "scheduledAt": (clock.now() + timedelta(days=700)).isoformat()}
    _, sent = await ask(messages_api.SEND, body=later)
    await ask(api.PATCH, ids={"id": made["id"]}, body={"content": "Bye {{firstName}}"})
    _, again = await ask(messages_api.SEND, body=later)
    await ask(api.DELETE, ids={"id": made["id"]})
    _, message = await ask(messages_api.GET, ids={"id": sent["message"]["id"]})
    assert (message["content"], message["templateVersion"]) == ('"Hi" {{firstName}}', 1)
    assert (message["templateId"], again["message"]["templateVersion"]) == (made["id"], 2)
    assert again["message"]["content"] == "Bye {{firstName}}"
    for wrong in (made["id"], str(new_id())):
        for endpoint in (messages_api.PREVIEW, messages_api.SEND):
            status, answer = await ask(endpoint, body={**body, "templateId": wrong})
            assert (status, answer["error"]["details"][0]["field"]) == (400, "templateId")
    for body_of in ({"content": "Hi", "templateId": made["id"]}, {}):
        status, answer = await ask(messages_api.SEND, body={**body_of, "targetType": "all"})
        assert (status, answer["error"]["details"][0]["field"]) == (400, "content")


async def test_the_churchs_opt_out_line_is_counted_previewed_and_sent_and_never_twice(church: Church) -> None:
    await church.add_members([{"firstName": "Anna", "phone": "+13125550001"}])
    line = "Reply STOP to opt out"
    await church.receive(envelope(church_changed(church.id, 2, opt_out_line=line), church.id))
    content = "Hi {{firstName}}, " + "x" * 140
    shown = await preview(church, content)
    assert (shown.opt_out_line_added, shown.segments) == (True, 2)
    assert shown.sample == f"Hi Anna, {'x' * 140}\n{line}"
    message_id = await church.dispatch(content)
    await church.stream_all(message_id)
    (chunk,) = await church.published(RecipientsResolved)
    assert chunk.content == (await church.message(message_id)).content == f"{content}\n{line}"
    assert (await church.row(message_id))["streamed_bound"] == 2
    said = await preview(church, f"{content} Text STOP to end")
    assert (said.opt_out_line_added, said.sample.endswith("Text STOP to end")) == (False, True)
    await church.receive(envelope(church_changed(church.id, 3), church.id))
    assert not (await preview(church, content)).opt_out_line_added


async def test_the_same_text_to_the_same_people_within_a_minute_is_refused_unless_meant(church: Church) -> None:
    await church.add_crowd(3)
    async with church.database.tenant(church.id) as tx:
        ids = [member.id for member in await audience_store.list_page(tx, Target("all"), b"")]
    first = await church.send("Hello", allow_duplicate=False)
    for again in ({"kind": "all"}, {"kind": "individual", "ids": list(reversed(ids))}):  # however they are named
        with pytest.raises(Conflict) as refused:
            await church.send("Hello", allow_duplicate=False, **again)
        assert str(first.id) in refused.value.message
        assert [each.field for each in refused.value.details] == ["allowDuplicate"]
    await church.send("Hello", allow_duplicate=True)
    later = clock.now() + timedelta(days=1)
    for other in (
        {"content": "Hello!"},
        {"content": "Hello", "media_urls": ["https://x.org/a.png"]},
        {"content": "Hello", "kind": "individual", "ids": ids[:2]},
        {"content": "Hello", "scheduled_at": later},
        {"content": "Hello", "scheduled_at": later + timedelta(seconds=61)},
    ):
        await church.send(**{"allow_duplicate": False, **other})  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        await church.send("Hello", scheduled_at=later + timedelta(seconds=30), allow_duplicate=False)


async def test_what_was_declined_or_cancelled_before_anybody_got_it_may_be_sent_again(church: Church) -> None:
    await church.add_crowd(2)
    for end in (church.decline, church.cancel):
        message = await church.send("Hello", allow_duplicate=False)
        await church.ask(message.id)
        await end(message.id)
    going = await church.dispatch("Hello", allow_duplicate=False)
    await church.stream(going, 1)
    await church.cancel(going)
    with pytest.raises(Conflict):
        await church.send("Hello", allow_duplicate=False)


async def test_of_two_that_arrive_at_once_one_is_refused_and_a_replay_is_none(church: Church, ask: Ask) -> None:
    await church.add_crowd(2)
    body = {"content": "Hello", "targetType": "all"}
    answers = await asyncio.gather(*(ask(messages_api.SEND, body=body) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [202, 409, 409, 409]
    assert {answer["error"]["code"] for status, answer in answers if status == 409} == {"CONFLICT"}
    other = {**body, "content": "Once"}
    replayed = [await ask(messages_api.SEND, body=other, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert replayed[0] == replayed[1]
    assert replayed[0][0] == 202


async def test_the_plan_tells_who_is_left_out_and_counts_each_copy(
    church: Church, count_statements: CountStatements
) -> None:
    names = ["Anna", "Bob  ", "Thuý", "日本" * 12, "x" * 60, "🙏🙏", "O’Neil", "a[b]", "  "]
    people = [{"firstName": name.strip() or "Ed", "phone": phone(each)} for each, name in enumerate(names)]
    await church.add_members([*people, {"firstName": "Cy", "phone": phone(0)}])
    await church.add_members({"firstName": "No", "phone": phone(90 + each), "optInSms": False} for each in range(2))
    await church.stop(phone(91))
    await church.stop(phone(1))
    number_id = await church.add_number()
    at = clock.now() + timedelta(days=1)
    content = "Hi {{firstName}}, " + "y" * 100 + " {{lastName|friend}}"
    with count_statements() as few:
        plan = await preview(church, content, scheduled_at=at, number_id=number_id)
    assert (plan.recipients, plan.suppressed) == (11, 3)
    assert (plan.left_out.no_consent, plan.left_out.suppressed) == (1, 2)
    message_id = await church.dispatch(content)
    await church.stream_all(message_id)
    expected = Counter(
        segments(render(content, each.fields)).segments for each in await church.recipients() if each.left_out is None
    )
    assert {each.segments: each.recipients for each in plan.segment_counts} == expected
    total = sum(each * count for each, count in expected.items())
    assert len(expected) > 1
    assert plan.estimated_cost_cents == 2 * total
    assert plan.finishes_at == at + timedelta(seconds=total / (40.0 * PACE))
    assert len(set(plan.samples)) == 3
    assert plan.sample == plan.samples[0]
    await church.add_crowd(200)
    with count_statements() as many:
        await preview(church, content, scheduled_at=at, number_id=number_id)
    assert sum(few.by_name.values()) == sum(many.by_name.values()) <= 10


async def test_values_of_too_many_kinds_count_as_the_longest(church: Church, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_store, "MOST_SHAPES", 2)
    await church.add_members({"firstName": "ab" * each, "phone": phone(each)} for each in (1, 2, 50))
    plan = await preview(church, "x" * 100 + "{{firstName}}")
    assert [(each.segments, each.recipients) for each in plan.segment_counts] == [(plan.segments, 3)] == [(2, 3)]
    assert plan.estimated_cost_cents == 12
    await church.add_number()
    late = await preview(church, "Hi", do_not_send_after=clock.now() + timedelta(milliseconds=50))
    assert "too_late" in [each.code for each in late.warnings]


async def test_a_first_text_without_name_or_opt_out_is_warned_of(church: Church) -> None:
    await church.add_crowd(2)

    async def codes(content: str, **values: object) -> tuple[int, list[str]]:
        plan = await preview(church, content, **values)
        return plan.first_texts, [each.code for each in plan.warnings]

    assert await codes("Hello") == (2, ["first_text_without_name", "first_text_without_opt_out"])
    assert await codes("Hello from grace chapel. Reply STOP to opt out") == (2, [])
    both = await codes("Grace Chapel, text STOP to end: https://x.org/{{shoe}}")
    assert both == (2, ["unknown_fields", "field_in_link"])
    await church.stream_all(await church.dispatch("Hello"))
    assert await codes("Hello again") == (0, [])
    assert await codes("Hello") == (0, ["duplicate"])
    await church.add_crowd(3)
    assert (await codes("Hello again"))[0] == 1
