"""Messages through the door, and a whole broadcast over the bus with two replicas."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import msgspec
import pytest

from koinonia import clock
from koinonia.api import messages
from koinonia.events.billing import MessageAuthorized
from koinonia.events.delivery import RecipientsUpdated
from koinonia.events.messaging import (
    MessageCancelled,
    MessageCompleted,
    MessageDispatched,
    MessageDue,
    RecipientsResolved,
)
from koinonia.ids import new_id
from koinonia.security.identity import HEADER, Identity, sign_identity
from koinonia_messaging.app import build
from koinonia_messaging.http.progress import PROGRESS
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import messages as message_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractContextManager

    from services.messaging.tests.integration.conftest import Church

    from koinonia.db.statistics import StatementLog
    from koinonia.service import Running
    from koinonia.testing.services import BusProbe, Caller, StartService

    Ask = Callable[..., Awaitable[tuple[int, Any]]]
    CountStatements = Callable[[], AbstractContextManager[StatementLog]]

ALL = {"content": "Hi {{firstName}}", "targetType": "all"}
REQUEST = (
    *("idempotency.", "audience.", "templates.find_source", "messages.lock_text", "messages.find_twin"),
    *("messages.insert", "outbox.add"),
)


@pytest.fixture
async def service(start_service: StartService) -> Running[MessagingSettings]:
    return await start_service("messaging", build, MessagingSettings)


@pytest.fixture
def ask(service: Running[MessagingSettings], caller: Caller, church: Church) -> Ask:
    async def call(endpoint: Any, **values: Any) -> tuple[int, Any]:
        return await caller(service, endpoint, **{"church_id": church.id, **values})

    return call


async def test_accepting_a_send_takes_as_many_statements_for_twenty_thousand_as_for_five_hundred(
    church: Church, ask: Ask, count_statements: CountStatements
) -> None:
    number_id = str(await church.add_number())
    later = (clock.now() + timedelta(days=1)).isoformat()
    counts = []
    for people in (500, 20_000):
        for first in range(0, people, 10_000):
            await church.add_members(
                {"firstName": f"P{each}", "phone": f"+1{312 + each // 10_000}555{each % 10_000:04}"}
                for each in range(first, min(first + 10_000, people))
            )
        with count_statements() as counted:
            status, answer = await ask(
                messages.SEND,
                body={**ALL, "numberId": number_id, "scheduledAt": later},
                headers={"Idempotency-Key": str(people)},
            )
        assert (status, answer["message"]["totalRecipients"]) == (202, people)
        counts.append(sum(count for name, count in counted.by_name.items() if name.startswith(REQUEST)))
    assert counts[0] == counts[1] <= 10


async def test_the_same_send_twice_is_one_message(church: Church, ask: Ask) -> None:
    await church.add_crowd(2)
    answers = [await ask(messages.SEND, body=ALL, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0][0] == answers[1][0] == 202
    assert answers[0][1]["message"]["id"] == answers[1][1]["message"]["id"]
    assert len((await ask(messages.LIST))[1]["data"]) == 1


async def test_a_send_is_refused_with_the_field_that_is_wrong(church: Church, ask: Ask) -> None:
    status, answer = await ask(messages.SEND, body=ALL)
    assert (status, answer["error"]["details"][0]["field"]) == (400, "targetIds")
    await church.add_members([{"firstName": "x" * 100, "phone": "+13125550001"}])
    for body, field in (
        ({**ALL, "content": "x" * 1480 + "{{firstName}}"}, "content"),
        ({**ALL, "numberId": str(new_id())}, "numberId"),
        ({**ALL, "targetType": "groups", "targetIds": [str(new_id())]}, "targetIds"),
        ({**ALL, "scheduledAt": "2020-01-01T00:00:00Z"}, "scheduledAt"),
    ):
        status, answer = await ask(messages.SEND, body=body)
        assert (status, [each["field"] for each in answer["error"]["details"]]) == (400, [field])
    assert (await ask(messages.SEND, body=ALL, role="viewer"))[0] == 403


async def test_a_preview_tells_what_sending_would_do(church: Church, ask: Ask) -> None:
    await church.add_members(
        [
            {"firstName": "Anna", "phone": "+13125550001", "customFields": {"shirt": "M"}},
            {"firstName": "Bob", "phone": "+13125550002", "optInSms": False},
        ]
    )
    body = {**ALL, "content": "Hi {{firstName}}, {{shirt}} {{shoe|none}}"}
    status, preview = await ask(messages.PREVIEW, body=body)
    assert status == 200
    assert (preview["recipients"], preview["suppressed"], preview["totalSegments"]) == (2, 1, 1)
    assert (preview["encoding"], preview["segments"], preview["unknownFields"]) == ("GSM-7", 1, ["shoe"])
    assert (preview["sample"], preview["estimatedCostCents"]) == ("Hi Anna, M none", 2)
    await church.stop("+13125550001")
    status, preview = await ask(messages.PREVIEW, body=body)
    assert (status, preview["suppressed"], preview["totalSegments"]) == (200, 2, 0)
    assert (await ask(messages.LIST))[1]["data"] == []


async def test_messages_are_listed_by_status_text_and_tag(church: Church, ask: Ask) -> None:
    await church.add_crowd(1)
    later = (clock.now() + timedelta(days=1)).isoformat()
    for content, tag in (("50% off", "sale"), ("Sunday", "news"), ("Monday", "news")):
        body = {"content": content, "targetType": "all", "tags": [tag, tag], "scheduledAt": later}
        assert (await ask(messages.SEND, body=body))[0] == 202

    async def found(**query: str) -> list[str]:
        return [each["content"] for each in (await ask(messages.LIST, query=query))[1]["data"]]

    status, tags = await ask(messages.LIST_TAGS)
    assert (status, [(each["tag"], each["messages"]) for each in tags["data"]]) == (200, [("news", 2), ("sale", 1)])
    assert await found() == ["Monday", "Sunday", "50% off"]
    assert await found(status="scheduled", tag="news", search="SUN") == ["Sunday"]
    assert await found(search="0%") == ["50% off"]
    assert await found(status="completed") == []
    _, page = await ask(messages.LIST, query={"limit": "2"})
    assert page["hasMore"]
    assert await found(limit="2", cursor=page["nextCursor"]) == ["50% off"]


class Stream:
    """A reader of live progress, as the gateway is one."""

    def __init__(self, church: Church, url: str, message_id: UUID) -> None:
        self._church = church
        self._path = PROGRESS.url(id=message_id)
        self._url = url + self._path

    async def read(self, last_event_id: str = "") -> AsyncIterator[tuple[int, dict[str, Any]]]:
        identity = msgspec.structs.replace(
            self._church.actor, method="GET", path=self._path, expires_at=clock.now() + timedelta(seconds=30)
        )
        assert isinstance(identity, Identity)
        headers = {HEADER: sign_identity(self._church.keys, identity), "Last-Event-ID": last_event_id}
        async with aiohttp.ClientSession() as session, session.get(self._url, headers=headers) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            version = 0
            async for line in response.content:
                if line.startswith(b"id: "):
                    version = int(line[4:])
                if line.startswith(b"data: "):
                    yield version, msgspec.json.decode(line[6:])


async def delivered(bus: BusProbe, church: Church, message_id: UUID, count: int) -> None:
    change = RecipientsUpdated(source_id=message_id, kind="broadcast", changes={"delivered": count})
    envelope = await bus.publish(change, church.id)
    await bus.publish_envelope(envelope)


async def test_a_broadcast_runs_through_two_replicas_and_is_watched_to_its_end(
    service: Running[MessagingSettings], start_service: StartService, church: Church, ask: Ask, bus: BusProbe
) -> None:
    other = await start_service("messaging", build, MessagingSettings)
    await church.add_crowd(1200)
    _, sent = await ask(messages.SEND, body=ALL)
    message_id = UUID(sent["message"]["id"])
    due = await bus.next(MessageDue)
    assert (due.data.version, due.data.recipient_count, due.data.segment_bound) == (1, 1200, 1200)
    seen: list[tuple[int, dict[str, Any]]] = []

    async def watch() -> None:
        async for version, state in Stream(church, other.url, message_id).read():
            seen.append((version, state))

    watching = asyncio.create_task(watch())
    answer = MessageAuthorized(message_id=message_id, version=1, segment_bound=1200)
    for _ in range(2):
        await bus.publish(answer, church.id)
    dispatched = await bus.next(MessageDispatched)
    chunks = [(await bus.next(RecipientsResolved)).data for _ in range(3)]
    recipients = [each for chunk in chunks for each in chunk.recipients]
    assert dispatched.data.recipient_count == len({each.recipient_id for each in recipients}) == 1200
    assert {chunk.dispatched_at for chunk in chunks} == {dispatched.data.dispatched_at}
    for _ in range(4):
        await delivered(bus, church, message_id, 300)
    completed = await bus.next(MessageCompleted)
    assert completed.data.recipient_count == 1200
    await asyncio.wait_for(watching, 10)
    versions = [version for version, _ in seen]
    assert versions == sorted(set(versions))
    assert all(sum(state["counts"].values()) == state["totalRecipients"] for _, state in seen)
    last = seen[-1][1]
    assert (last["status"], last["counts"]["delivered"]) == ("completed", 1200)
    _, shown = await ask(messages.GET, ids={"id": message_id})
    assert (shown["status"], shown["counts"]["delivered"], shown["totalRecipients"]) == ("completed", 1200, 1200)
    assert await bus.all(MessageCompleted) == []
    assert await bus.all(RecipientsResolved) == []


async def test_a_stream_taken_up_again_goes_on_after_what_was_seen(
    service: Running[MessagingSettings], church: Church, ask: Ask
) -> None:
    await church.add_crowd(2)
    message = await church.send(scheduled_at=clock.now() + timedelta(hours=1))
    stream = Stream(church, service.url, message.id)
    async for version, state in stream.read():
        assert (version, state["status"]) == (1, "scheduled")
        break
    again = stream.read(last_event_id="1")
    upcoming = asyncio.ensure_future(anext(again))
    await ask(messages.CANCEL, ids={"id": message.id})
    version, state = await asyncio.wait_for(upcoming, 10)
    assert (version > 1, state["status"], state["totalRecipients"]) == (True, "cancelled", 0)
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(again), 10)
    states = [each async for each in stream.read(last_event_id=str(version))]
    assert [state["status"] for _, state in states] == ["cancelled"]


async def test_a_stream_that_has_grown_old_ends_and_is_taken_up_where_it_stood(
    service: Running[MessagingSettings], church: Church, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    await church.add_crowd(2)
    message = await church.send(scheduled_at=clock.now() + timedelta(hours=1))
    stream = Stream(church, service.url, message.id)
    with monkeypatch.context() as patch:
        patch.setattr("koinonia_messaging.http.progress.MAX_AGE_SECONDS", 0.3)
        async with asyncio.timeout(10):
            seen = [(version, state["status"]) async for version, state in stream.read()]
            assert seen == [(1, "scheduled")]
            assert [each async for each in stream.read(last_event_id="1")] == []
    await ask(messages.CANCEL, ids={"id": message.id})
    assert [state["status"] async for _, state in stream.read(last_event_id="1")] == ["cancelled"]


async def test_a_watcher_costs_no_audience_and_no_text() -> None:
    """Five times a second and for every watched message: what watchers do not see is not read."""
    sql = message_store._LIST_PROGRESS.text
    assert not [name for name in ("SELECT *", "target_ids", "content", "media_urls", "tags") if name in sql]


async def test_a_cancel_is_told_to_delivery_and_billing(church: Church, ask: Ask, bus: BusProbe) -> None:
    await church.add_crowd(2)
    later = (clock.now() + timedelta(days=1)).isoformat()
    _, sent = await ask(messages.SEND, body={**ALL, "scheduledAt": later})
    ids = {"id": UUID(sent["message"]["id"])}
    status, answer = await ask(messages.CANCEL, ids=ids, headers={"Idempotency-Key": "c"})
    assert (status, answer["message"]["status"], answer["final"]) == (200, "cancelled", True)
    assert await ask(messages.CANCEL, ids=ids, headers={"Idempotency-Key": "c"}) == (status, answer)
    assert await ask(messages.CANCEL, ids=ids) == (status, answer)
    assert (await bus.next(MessageCancelled)).data.message_id == ids["id"]
    assert (await bus.next(MessageCompleted)).data.recipient_count == 0
