"""The inbox over real queues and tables."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.api import conversations as api
from koinonia.bus import dead_letters
from koinonia.bus.link import Link
from koinonia.db import Database, statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope
from koinonia.events.audit import ActionRecorded
from koinonia.events.carrier import MessageReceived
from koinonia.events.conversation import ReplyRequested, ReplyRequestedForTest
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.messaging import MembersChanged, MemberState
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia.service import Running
from koinonia.settings import ServiceSettings
from koinonia.testing.fixtures import wait_until
from koinonia.testing.plans import explained
from koinonia.testing.services import PRINCIPAL_ID, BusProbe, Caller, StartService
from koinonia.trail import TELL, Question
from koinonia_conversation import inbox
from koinonia_conversation.app import build
from koinonia_conversation.store import messages

PHONE = "+12055550142"
NUMBER_ID = new_id()
ADD_TESTS = statement(
    "test.add_tests",
    """
    INSERT INTO conversation_messages (
        id, church_id, conversation_id, direction, content, media_urls, status, status_rank, sent_by, created_at, test
    )
    SELECT id, $1, $2, 'outbound', 'A test', '{}', 'delivered', 4, $2, clock_timestamp(), true
    FROM unnest($3::uuid[]) AS id
    """,
)
Service = Running[ServiceSettings]


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service("conversation", build, ServiceSettings)


class Inbox:
    """What a test does with a church's inbox."""

    def __init__(self, service: Service, bus: BusProbe, caller: Caller, keys: Keys, church_id: UUID) -> None:
        self.service, self.bus, self.caller, self.keys, self.church_id = service, bus, caller, keys, church_id

    def text(self, content: str, at: datetime | None = None, phone: str = PHONE) -> MessageReceived:
        return MessageReceived(
            number_id=NUMBER_ID,
            phone_index=self.keys.index(phone, self.church_id, "phone"),
            phone_ciphertext=self.keys.encrypt(phone, self.church_id, "phone"),
            text=content,
            media_urls=(),
            carrier_id="c",
            occurred_at=at or clock.now(),
        )

    def member(self, first_name: str, version: int = 1, **changes: Any) -> MemberState:
        values: dict[str, Any] = {
            "member_id": UUID(int=5),
            "version": version,
            "first_name": first_name,
            "last_name": "Berg",
            "phone_index": self.keys.index(PHONE, self.church_id, "phone"),
            "phone_ciphertext": b"",
            "branch_id": UUID(int=6),
            "opted_in": True,
        }
        return MemberState(**values | changes)

    async def receive(self, content: str, at: datetime | None = None) -> Envelope[Any]:
        """Deliver a text, and wait until it is there."""
        before = sum(len(each["messages"]["data"]) for each in [await self.thread()] if each)
        sent = await self.bus.publish(self.text(content, at), self.church_id)
        await wait_until(lambda: self.has_messages(before + 1))
        return sent

    async def has_messages(self, count: int) -> bool:
        thread = await self.thread()
        return (len(thread["messages"]["data"]) if thread else 0) == count

    async def list(self, **query: str) -> Any:
        _, answer = await self.caller(self.service, api.LIST, church_id=self.church_id, query=query)
        return answer

    async def first(self) -> Any:
        return (await self.list())["data"][0]

    async def thread(self) -> Any:
        found = (await self.list())["data"]
        return await self.get(UUID(found[0]["id"])) if found else None

    async def get(self, conversation_id: UUID, **query: str) -> Any:
        _, answer = await self.caller(
            self.service, api.GET, church_id=self.church_id, ids={"id": conversation_id}, query=query
        )
        return answer

    async def reply(self, content: str, **more: Any) -> tuple[int, Any]:
        conversation_id = UUID((await self.first())["id"])
        return await self.caller(
            self.service,
            api.REPLY,
            church_id=self.church_id,
            ids={"id": conversation_id},
            body={"content": content},
            **more,
        )

    async def reply_status(self) -> str:
        return str((await self.first())["lastMessage"]["status"])

    async def report(self, reply_id: UUID, **changes: int) -> Envelope[Any]:
        return await self.bus.publish(
            RecipientsUpdated(source_id=reply_id, kind="reply", changes=dict(changes)),  # type: ignore[arg-type]
            self.church_id,
        )


@pytest.fixture
def church(service: Service, bus: BusProbe, caller: Caller, keys: Keys, church_id: UUID) -> Inbox:
    return Inbox(service, bus, caller, keys, church_id)


async def test_a_text_opens_a_conversation_with_its_phone(church: Inbox) -> None:
    await church.receive("I can bring soup")
    found = await church.first()
    assert (found["phone"], found["status"], found["unreadCount"], found["member"]) == (PHONE, "open", 1, None)
    assert found["lastMessage"]["content"] == "I can bring soup"
    assert found["lastMessage"]["status"] is None


async def test_a_text_that_comes_twice_is_threaded_once(church: Inbox) -> None:
    sent = await church.receive("soup")
    await church.bus.publish_envelope(sent)
    await church.receive("and bread")
    thread = await church.thread()
    assert [each["content"] for each in thread["messages"]["data"]] == ["and bread", "soup"]
    assert thread["conversation"]["unreadCount"] == 2


async def test_a_repeat_beyond_the_inbox_is_still_one_text(church: Inbox) -> None:
    sent = await church.receive("soup")
    async with church.service.parts.database.tenant(church.church_id) as tx:
        await inbox.receive(tx, sent, church.keys)
    assert await church.has_messages(1)
    assert (await church.first())["unreadCount"] == 1


async def test_a_text_whose_sender_does_not_open_for_the_church_is_dead_at_once_and_harms_no_list(
    church: Inbox, vhost: str
) -> None:
    elsewhere = church.keys.encrypt(PHONE, new_id(), "phone")
    await church.bus.publish(
        msgspec.structs.replace(church.text("Moved"), phone_ciphertext=elsewhere), church.church_id
    )
    link = Link(vhost, "test")

    async def is_dead() -> bool:
        return (await dead_letters.count(link))["conversation.inbound"] == 1

    await wait_until(is_dead, what="the dead letter")
    (letter,) = await dead_letters.show(link, "conversation.inbound")
    assert letter.attempts == 1
    await link.close()
    await church.receive("Hello")
    assert (await church.first())["lastMessage"]["content"] == "Hello"


async def test_threading_killed_before_its_commit_leaves_nothing(church: Inbox) -> None:
    event = Envelope(id=new_id(), time=clock.now(), data=church.text("soup"), church_id=church.church_id)
    with pytest.raises(InterruptedError):
        async with church.service.parts.database.tenant(church.church_id) as tx:
            await inbox.receive(tx, event, church.keys)
            raise InterruptedError
    assert (await church.list())["data"] == []


async def test_two_replicas_thread_a_new_number_into_one_conversation(church: Inbox) -> None:
    async def receive(content: str) -> None:
        event = Envelope(id=new_id(), time=clock.now(), data=church.text(content), church_id=church.church_id)
        async with church.service.parts.database.tenant(church.church_id) as tx:
            await inbox.receive(tx, event, church.keys)

    await asyncio.gather(*(receive(f"text {each}") for each in range(10)))
    assert len((await church.list())["data"]) == 1
    assert (await church.first())["unreadCount"] == 10
    assert await church.has_messages(10)


async def test_a_late_text_is_sorted_by_its_time_and_is_not_the_last(church: Inbox) -> None:
    now = clock.now()
    await church.receive("second", now)
    await church.receive("first", now - timedelta(minutes=5))
    thread = await church.thread()
    assert [each["content"] for each in thread["messages"]["data"]] == ["second", "first"]
    assert thread["conversation"]["lastMessage"]["content"] == "second"


async def test_a_keyword_is_shown_but_is_no_work(church: Inbox) -> None:
    await church.receive("STOP")
    found = await church.first()
    assert (found["status"], found["unreadCount"], found["lastMessage"]["content"]) == ("closed", 0, "STOP")
    await church.receive("sorry, I meant soup")
    found = await church.first()
    assert (found["status"], found["unreadCount"]) == ("open", 1)


async def test_the_members_name_appears_whenever_it_comes_and_an_older_one_does_not(church: Inbox) -> None:
    await church.receive("soup")
    for version, name in ((2, "Anna"), (1, "Ann")):
        members = MembersChanged(members=(church.member(name, version),), source="admin")
        await church.bus.publish(members, church.church_id)
        await wait_until(lambda: _named(church, "Anna"))
    deleted = church.member("Anna", 3, deleted=True)
    await church.bus.publish(MembersChanged(members=(deleted,), source="admin"), church.church_id)
    await wait_until(lambda: _named(church, None))
    await church.bus.publish(MembersChanged(members=(church.member("Anna", 2),), source="admin"), church.church_id)
    await church.receive("bread")
    assert await _named(church, None)


async def _named(church: Inbox, name: str | None) -> bool:
    member = (await church.first())["member"]
    return (member["firstName"] if member else None) == name


async def test_a_reply_is_requested_once_and_audited(church: Inbox) -> None:
    await church.receive("soup?")
    headers = {"Idempotency-Key": "reply-1"}
    status, first = await church.reply("Yes please", headers=headers)
    assert (status, first["status"], first["direction"]) == (202, "queued", "outbound")
    assert (await church.reply("Yes please", headers=headers))[1] == first
    requested = await church.bus.next(ReplyRequested)
    assert (requested.data.reply_id, requested.data.content) == (UUID(first["id"]), "Yes please")
    assert church.keys.decrypt(requested.data.phone_ciphertext, church.church_id, "phone") == PHONE
    assert (requested.data.number_id, (await church.bus.next(ActionRecorded)).data.action) == (
        NUMBER_ID,
        "conversation.replied",
    )
    assert await church.bus.all(ReplyRequested) == []


async def test_a_reply_follows_the_carrier_forward_only(church: Inbox) -> None:
    await church.receive("soup?")
    _, made = await church.reply("Yes")
    reply_id = UUID(made["id"])
    sent = await church.report(reply_id, queued=-1, sent=1)
    await wait_until(lambda: _reached(church, "sent"))
    await church.report(reply_id, sent=-1, delivered=1)
    await wait_until(lambda: _reached(church, "delivered"))
    await church.bus.publish_envelope(sent)
    await church.report(reply_id, sent=1)
    await church.report(new_id(), delivered=1)
    await church.receive("bread")
    thread = await church.thread()
    assert [each["status"] for each in thread["messages"]["data"]] == [None, "delivered", None]


async def _reached(church: Inbox, status: str) -> bool:
    return await church.reply_status() == status


async def test_a_reply_too_long_or_into_nothing_or_from_a_lost_number_is_refused(church: Inbox) -> None:
    await church.receive("soup?")
    status, answer = await church.reply("\N{SNOWMAN}" * 700)
    assert (status, answer["error"]["details"][0]["field"]) == (400, "content")
    status, _ = await church.caller(
        church.service, api.REPLY, church_id=church.church_id, ids={"id": new_id()}, body={"content": "x"}
    )
    assert status == 404
    released = NumberChanged(
        number_id=NUMBER_ID, version=2, phone="+12055550100", kind="long_code", status="released", is_default=True
    )
    await church.bus.publish(released, church.church_id)
    await wait_until(lambda: _number_status(church, "released"))
    assert (await church.reply("Yes"))[0] == 409


_NUMBER = statement("test.number", "SELECT status FROM numbers WHERE number_id = $1")


async def _number_status(church: Inbox, wanted: str) -> bool:
    database: Database = church.service.parts.database
    async with database.tenant(church.church_id) as tx:
        return bool(await tx.fetch_value(_NUMBER, NUMBER_ID) == wanted)


async def test_reading_and_closing(church: Inbox) -> None:
    await church.receive("soup?")
    ids = {"id": UUID((await church.first())["id"])}
    _, answer = await church.caller(church.service, api.READ, church_id=church.church_id, ids=ids)
    assert answer["unreadCount"] == 0
    _, answer = await church.caller(
        church.service, api.SET_STATUS, church_id=church.church_id, ids=ids, body={"status": "archived"}
    )
    assert answer["status"] == "archived"
    assert (await church.list(status="open"))["data"] == []
    assert len((await church.list(status="archived"))["data"]) == 1


async def test_another_church_finds_nothing(church: Inbox) -> None:
    await church.receive("soup?")
    ids = {"id": UUID((await church.first())["id"])}
    other = new_id()
    for endpoint, body in (
        (api.GET, None),
        (api.READ, None),
        (api.REPLY, {"content": "x"}),
        (api.SET_STATUS, {"status": "open"}),
    ):
        status, _ = await church.caller(church.service, endpoint, church_id=other, ids=ids, body=body)
        assert status == 404, endpoint.name
    _, answer = await church.caller(church.service, api.LIST, church_id=other)
    assert answer["data"] == []


async def test_pages_of_conversations_and_texts_meet_without_a_gap(church: Inbox) -> None:
    now = clock.now()
    for each in range(5):
        text = church.text(f"from {each}", now + timedelta(seconds=each), phone=f"+1205555010{each}")
        await church.bus.publish(text, church.church_id)
    await wait_until(lambda: _has_conversations(church, 5))
    seen, cursor = [], None
    while True:
        page = await church.list(limit="2", **({"cursor": cursor} if cursor else {}))
        seen += [each["lastMessage"]["content"] for each in page["data"]]
        cursor = page["nextCursor"]
        if not page["hasMore"]:
            break
    assert seen == [f"from {each}" for each in (4, 3, 2, 1, 0)]
    status, answer = await church.caller(
        church.service, api.LIST, church_id=church.church_id, query={"cursor": "rubbish"}
    )
    assert (status, answer["error"]["details"][0]["field"]) == (400, "cursor")


async def _has_conversations(church: Inbox, count: int) -> bool:
    return len((await church.list())["data"]) == count


async def test_the_statement_budgets(
    church: Inbox, count_statements: Callable[[], AbstractContextManager[StatementLog]]
) -> None:
    await church.receive("soup?")
    ids = {"id": UUID((await church.first())["id"])}
    event = Envelope(id=new_id(), time=clock.now(), data=church.text("bread"), church_id=church.church_id)
    budgets = {"list": 1, "get": 2, "reply": 5, "receive": 3}
    counted = {}
    with count_statements() as log:
        await church.list()
    counted["list"] = _own(log)
    with count_statements() as log:
        await church.get(ids["id"])
    counted["get"] = _own(log)
    with count_statements() as log:
        await church.reply("Yes")  # with the list that it looks the conversation up in, and the answer's own look
    counted["reply"] = _own(log) - 1
    with count_statements() as log:
        async with church.service.parts.database.tenant(church.church_id) as tx:
            await inbox.receive(tx, event, church.keys)
    counted["receive"] = _own(log)
    assert counted == budgets


def _own(log: StatementLog) -> int:
    """Statements of the inbox's own tables, and the event that leaves: not those of relays beside it."""
    names = ("conversations.", "conversation_messages.", "contacts.", "numbers.", "outbox.add")
    return sum(count for name, count in log.by_name.items() if name.startswith(names))


async def test_a_trail_tells_who_wrote_a_reply_and_nothing_of_its_words(church: Inbox) -> None:
    await church.receive("Hello")
    status, made = await church.reply("A secret of ours")
    assert status == 202

    async def told(kind: Any, church_id: UUID) -> Any:
        question = Question(
            recipient_id=new_id(),
            source_id=UUID(made["id"]),
            kind=kind,
            phone_index=b"i",
            status="sent",
            accepted_at=None,
            until=clock.now(),
        )
        return (await church.caller(church.service, TELL, church_id=church_id, body=question))[1]

    part = await told("reply", church.church_id)
    (entry,), (act,) = part["entries"], part["acts"]
    assert (entry["event"], entry["at"], act["event"]) == ("requested", made["createdAt"], "requested")
    assert act["actorId"] == str(PRINCIPAL_ID)
    assert "secret" not in str(part)
    assert (await told("broadcast", church.church_id))["entries"] == []
    assert (await told("reply", new_id()))["entries"] == []


async def test_a_page_without_tests_reads_none(church: Inbox) -> None:
    await church.receive("Hello")
    conversation_id = UUID((await church.first())["id"])
    with explained() as plans:
        async with church.service.parts.database.tenant(church.church_id) as tx:
            await tx.execute(ADD_TESTS, church.church_id, conversation_id, [new_id() for _ in range(3000)])
            page = await messages.list_page(tx, conversation_id, None, 21, tests=False)
    assert [each["content"] for each in page] == ["Hello"]
    assert plans.of("conversation_messages.list_page").buffers < 20


async def test_a_test_reply_is_marked_and_leaves_the_conversation_as_it_was(church: Inbox) -> None:
    box = church
    await box.receive("Hello")
    before = await box.first()
    ids = {"id": UUID(before["id"])}

    async def ask(endpoint: Any, *, test: bool, **values: Any) -> Any:
        return await box.caller(box.service, endpoint, church_id=box.church_id, ids=ids, test=test, **values)

    status, reply = await ask(api.REPLY, test=True, body={"content": "A test"})
    assert (status, reply["test"], reply["status"]) == (202, True, "queued")
    wanted = await box.bus.next(ReplyRequestedForTest)
    assert (wanted.data.test, str(wanted.data.reply_id)) == (True, reply["id"])
    act = await box.bus.next(ActionRecorded, lambda act: act.action == "conversation.replied")
    assert act.data.details == {"test": "true"}
    assert await box.first() == before

    delivered = RecipientsUpdated(
        source_id=wanted.data.reply_id, kind="reply", changes={"queued": -1, "delivered": 1}, test=True
    )
    await box.bus.publish_envelope(await box.bus.publish(delivered, box.church_id))

    async def shown() -> bool:
        _, thread = await ask(api.GET, test=True)
        return bool(thread["messages"]["data"][0]["status"] == "delivered")

    await wait_until(shown)
    for asker, wish, expected in (
        (False, None, ["Hello"]),
        (False, "true", ["A test", "Hello"]),
        (True, None, ["A test", "Hello"]),
        (True, "false", ["Hello"]),
    ):
        _, thread = await ask(api.GET, test=asker, query={"test": wish} if wish else None)
        assert [each["content"] for each in thread["messages"]["data"]] == expected

    _, live = await ask(api.REPLY, test=False, body={"content": "For real"})
    assert not live["test"]
    assert not (await box.bus.next(ReplyRequested)).data.test
    assert (await box.first())["lastMessage"]["content"] == "For real"
    status, _ = await ask(api.READ, test=True)
    assert status == 403
