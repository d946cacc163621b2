"""What is sent with a test key: its mark, on its page and in every event, and lists that do not mix it with others."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from services.messaging.tests.integration.conftest import Church, envelope

from koinonia.api import churches, groups, members, messages
from koinonia.db import statement
from koinonia.errors import Forbidden, ValidationFailed
from koinonia.events.audit import ActionRecorded
from koinonia.events.billing import MessageAuthorized, MessageCredited
from koinonia.events.delivery import BroadcastStopped, RecipientsUpdated
from koinonia.events.messaging import (
    EVENTS,
    MessageAccepted,
    MessageCancelled,
    MessageCompleted,
    MessageDispatched,
    MessageDue,
    MessagePaused,
    MessageResumed,
    RecipientsResolved,
    RecipientsResolvedForTest,
)
from koinonia.ids import new_id
from koinonia.service import Running
from koinonia.testing.fixtures import wait_until
from koinonia.testing.plans import explained
from koinonia.testing.services import BusProbe, Caller, StartService
from koinonia_messaging import messages as cases
from koinonia_messaging import pauses
from koinonia_messaging.app import build
from koinonia_messaging.settings import MessagingSettings
from koinonia_messaging.store import messages as message_store

_ASK_AGAIN = statement(
    "test.ask_again", "UPDATE messages SET version = version + 1, awaiting_answer = true WHERE id = $1"
)
_REPEAT_AS_TESTS = statement(
    "test.repeat_as_tests",
    """
    INSERT INTO messages (
        id, church_id, status, content, media_urls, target_type, target_ids, tags, encoding, segments, segment_bound,
        total_recipients, created_at, due_at, test
    )
    SELECT
        test_id, church_id, status, content, media_urls, target_type, target_ids, tags, encoding, segments,
        segment_bound, total_recipients, created_at, due_at, true
    FROM messages
    CROSS JOIN unnest($2::uuid[]) AS test_id
    WHERE id = $1
    """,
)
ALL = {"content": "Hi {{firstName}}", "targetType": "all"}
MARKED = tuple(each for each in EVENTS if "test" in each.__struct_fields__)

Service = Running[MessagingSettings]


def with_test_key(church: Church) -> None:
    """From here on a test key acts."""
    church.actor = msgspec.structs.replace(church.actor, principal_kind="api_key", test=True)


def with_session(church: Church) -> None:
    church.actor = msgspec.structs.replace(church.actor, principal_kind="session", test=False)


async def marks(church: Church, message_id: UUID) -> dict[str, set[bool]]:
    """Of each kind of event of a message, the marks that were published."""
    found: dict[str, set[bool]] = {}
    for kind in MARKED:
        for event in await church.published(kind):
            values = msgspec.structs.asdict(event)
            if values["message_id"] == message_id:
                found.setdefault(kind.__name__, set()).add(values["test"])
    return found


async def test_every_event_of_a_test_has_the_mark_and_none_of_another(church: Church) -> None:
    await church.add_crowd(3)
    for test in (True, False):
        (with_test_key if test else with_session)(church)
        message_id = await church.dispatch()
        async with church.database.tenant(church.id) as tx:
            await pauses.pause(tx, church.actor, message_id)
            await pauses.resume(tx, church.actor, message_id)
        await church.stream_all(message_id)
        await church.report(message_id, {"delivered": 3})
        cancelled = await church.dispatch()
        await church.cancel(cancelled)
        assert (await church.message(message_id)).status == "completed"
        assert (await church.message(message_id)).test == test
        everything = {
            kind.__name__
            for kind in (
                MessageAccepted,
                MessageDue,
                MessagePaused,
                MessageResumed,
                RecipientsResolved,
                MessageDispatched,
                MessageCompleted,
            )
        }
        if test:
            everything.add(RecipientsResolvedForTest.__name__)  # who knows no tests cannot read it
        assert await marks(church, message_id) == {name: {test} for name in everything}
        assert (await marks(church, cancelled))[MessageCancelled.__name__] == {test}


async def test_the_audience_is_that_of_a_live_message(church: Church) -> None:
    await church.add_crowd(4)
    await church.stop("+13125550002")
    shown = []
    for act in (with_session, with_test_key):
        act(church)
        message_id = await church.dispatch("Hello {{firstName}}")
        await church.stream_all(message_id)
        message = await church.message(message_id)
        shown.append((message.total_recipients, message.segments, message.encoding))
    assert shown[0] == shown[1]
    chunks = {each.test: each.recipients for each in await church.published(RecipientsResolved)}
    assert [sorted(str(each.left_out) for each in chunks[test]) for test in (False, True)] == [
        ["None", "None", "None", "suppressed"]
    ] * 2


async def test_a_test_has_a_thousand_recipients_at_most(church: Church, monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages.MOST_TEST_RECIPIENTS == 1000
    monkeypatch.setattr("koinonia_messaging.messages.MOST_TEST_RECIPIENTS", 3)
    await church.add_crowd(3)
    with_test_key(church)
    await church.dispatch()
    await church.add_crowd(4)
    with pytest.raises(ValidationFailed) as refused:
        await church.dispatch()
    assert [each.field for each in refused.value.details] == ["targetIds"]
    with_session(church)
    await church.dispatch()


async def test_one_that_pauses_itself_or_is_declined_has_the_mark(church: Church) -> None:
    await church.add_crowd(400)
    with_test_key(church)
    message_id = await church.dispatch()
    await church.stream(message_id, 300)
    await church.report(message_id, {"failed": 250})
    assert (await church.message(message_id)).status == "paused"
    assert {each.test for each in await church.published(MessagePaused)} == {True}
    surplus = await church.dispatch()
    await church.stream(surplus, 100)
    async with church.database.tenant(church.id) as tx:
        await tx.execute(_ASK_AGAIN, surplus)
    await church.decline(surplus, version=2)
    assert (await marks(church, surplus))["MessageDispatched"] == {True}


async def test_a_test_key_acts_on_tests_alone_and_the_audit_log_tells(church: Church) -> None:
    await church.add_crowd(1)
    live = await church.dispatch()
    with_test_key(church)
    test = await church.dispatch()
    for act in (cases.cancel, pauses.pause, pauses.resume):
        with pytest.raises(Forbidden):
            async with church.database.tenant(church.id) as tx:
                await act(tx, church.actor, live)
    assert (await church.message(live)).status == "sending"
    await church.cancel(test)
    acts = {each.target_id: each.details.get("test") for each in await church.published(ActionRecorded)}
    assert (acts[live], acts[test]) == (None, "true")


async def test_a_stop_of_everything_is_of_what_is_live(church: Church) -> None:
    await church.add_crowd(1)
    live = await church.dispatch()
    with_test_key(church)
    test = await church.dispatch()
    with_session(church)
    async with church.database.tenant(church.id) as tx:
        stop = await pauses.show_stop(tx, await pauses.stop(tx, church.actor))
    assert stop.messages == 1
    assert [(await church.message(each)).status for each in (live, test)] == ["cancelled", "sending"]


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service("messaging", build, MessagingSettings)


async def test_lists_hold_tests_or_the_rest(service: Service, church: Church, caller: Caller) -> None:
    await church.add_crowd(1)
    sent: dict[bool, list[str]] = {False: [], True: []}
    for test in (False, True, True, False, True):
        body = {**ALL, "allowDuplicate": True}
        status, answer = await caller(service, messages.SEND, church_id=church.id, body=body, test=test)
        assert (status, answer["message"]["test"]) == (202, test)
        sent[test].insert(0, answer["message"]["id"])

    async def listed(asker: bool, **query: str) -> tuple[list[str], Any]:
        status, page = await caller(service, messages.LIST, church_id=church.id, query=query, test=asker)
        assert status == 200
        return [each["id"] for each in page["data"]], page["nextCursor"]

    for asker in (False, True):
        assert (await listed(asker))[0] == sent[asker]
        assert (await listed(asker, test="true"))[0] == sent[True]
        assert (await listed(asker, test="false"))[0] == sent[False]
    first, cursor = await listed(True, limit="2")
    rest, _ = await listed(True, limit="2", cursor=cursor)
    assert first + rest == sent[True]
    status, _ = await caller(service, messages.LIST, church_id=church.id, query={"cursor": cursor})
    assert status == 400  # a cursor of the other list
    status, message = await caller(service, messages.GET, church_id=church.id, ids={"id": UUID(sent[True][0])})
    assert (status, message["test"]) == (200, True)


async def test_a_page_of_live_messages_reads_no_tests(church: Church) -> None:
    await church.add_crowd(1)
    live = (await church.send()).id
    async with church.database.tenant(church.id) as tx:
        await tx.execute(_REPEAT_AS_TESTS, live, [new_id() for _ in range(3000)])
    with explained() as plans:
        async with church.database.tenant(church.id) as tx:
            (shown,) = await message_store.list_page(tx, None, 21, status=None, pattern=None, tag=None)
    assert shown.id == live
    assert plans.of("messages.list_page").buffers < 10


async def test_a_test_key_reads_and_changes_nothing_else(service: Service, church: Church, caller: Caller) -> None:
    await church.add_crowd(1)
    status, page = await caller(service, members.LIST, church_id=church.id, test=True)
    assert (status, len(page["data"])) == (200, 1)
    status, _ = await caller(service, messages.PREVIEW, church_id=church.id, body=ALL, test=True)
    assert status == 200
    asked = [
        (members.CREATE, None, {"firstName": "Eve", "phone": "+13125550111"}),
        (members.DELETE, {"id": UUID(page["data"][0]["id"])}, None),
        (groups.CREATE, None, {"name": "Choir"}),
        (churches.PAUSE_SENDING, {"id": church.id}, None),
        (messages.STOP, None, None),
    ]
    for endpoint, ids, body in asked:
        status, answer = await caller(service, endpoint, church_id=church.id, ids=ids, body=body, test=True)
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN"), endpoint.name
    assert len((await caller(service, members.LIST, church_id=church.id, test=True))[1]["data"]) == 1


async def test_a_test_runs_its_course_though_the_broker_redelivers(
    service: Service, church: Church, caller: Caller, bus: BusProbe
) -> None:
    await church.add_crowd(5)
    _, answer = await caller(service, messages.SEND, church_id=church.id, body=ALL, test=True)
    message_id = UUID(answer["message"]["id"])
    question = (await bus.next(MessageDue)).data
    leave = MessageAuthorized(message_id=message_id, version=question.version, segment_bound=50, test=True)
    for _ in range(2):
        await bus.publish_envelope(await bus.publish(leave, church.id))
    chunk = (await bus.next(RecipientsResolved)).data
    assert (question.test, chunk.test, len(chunk.recipients)) == (True, True, 5)
    told = RecipientsUpdated(source_id=message_id, kind="broadcast", changes={"delivered": 5}, test=True)
    await bus.publish_envelope(await bus.publish(told, church.id))
    assert (await bus.next(MessageCompleted)).data.test

    async def completed() -> bool:
        _, message = await caller(service, messages.GET, church_id=church.id, ids={"id": message_id})
        return bool(message["status"] == "completed" and message["counts"]["delivered"] == 5)

    await wait_until(completed)
    assert await bus.all(RecipientsResolved) == []


async def test_a_cancelled_test_is_final_once_nothing_was_credited(church: Church) -> None:
    await church.add_crowd(2)
    with_test_key(church)
    message_id = await church.dispatch()
    await church.stream_all(message_id)
    await church.cancel(message_id)
    stopped = BroadcastStopped(
        message_id=message_id,
        sent_recipients=1,
        sent_segments=1,
        in_flight_recipients=0,
        in_flight_segments=0,
        test=True,
    )
    nothing = MessageCredited(message_id=message_id, credited_segments=0, credited_cents=0, test=True)
    await church.receive(envelope(stopped, church.id), envelope(nothing, church.id))
    figures = (await church.message(message_id)).stopped
    assert figures is not None
    assert (figures.sent, figures.credited_segments, figures.final) == (1, 0, True)
