"""What people text back: the inbox, STOP, START and HELP."""

from collections.abc import AsyncIterator

import pytest

from koinonia.api.conversations import Conversation, ConversationThread
from koinonia.api.messages import Message, SendRequest
from koinonia.testing.fixtures import wait_until

from .church import Church
from .platform import Platform


@pytest.fixture
async def silent_carrier(platform: Platform) -> AsyncIterator[None]:
    """A carrier that does not answer keywords by itself: the platform has to."""
    await platform.carrier.change(autoresponses=False)
    yield
    await platform.carrier.change(autoresponses=True)


async def test_an_inbound_text_is_threaded_and_the_reply_reaches_the_person(church: Church) -> None:
    (anna,) = await church.add(1)
    carrier, conversations = church.platform.carrier, church.client.conversations
    await carrier.person_texts(anna.phone, church.number, "I can bring soup.")
    conversation = await the_conversation(church, unread=1)
    assert conversation.phone == anna.phone
    assert conversation.last_message is not None
    assert conversation.last_message.content == "I can bring soup."

    async def is_known() -> bool:
        member = (await conversations.get(conversation.id)).conversation.member
        return member is not None and member.first_name == anna.first_name

    await wait_until(is_known, what="the member's name")

    await carrier.person_texts(anna.phone, church.number, "And bread.")
    await the_conversation(church, unread=2)
    assert (await conversations.mark_read(conversation.id)).unread_count == 0

    reply = await conversations.reply(conversation.id, "Thank you, both please!")
    assert (reply.direction, reply.content) == ("outbound", "Thank you, both please!")

    async def is_delivered() -> ConversationThread | None:
        thread = await conversations.get(conversation.id)
        return thread if thread.messages.data[0].status == "delivered" else None

    thread = await wait_until(is_delivered, what="the reply's receipt")
    assert isinstance(thread, ConversationThread)
    assert [text.content for text in thread.messages.data] == [
        "Thank you, both please!",
        "And bread.",
        "I can bring soup.",
    ]
    (text,) = await church.texts()
    assert (text.recipient, text.text, text.status) == (anna.phone, "Thank you, both please!", "delivered")
    await church.is_metered(1)

    closed = await conversations.set_status(conversation.id, "closed")
    assert closed.status == "closed"
    await carrier.person_texts(anna.phone, church.number, "One more thing.")
    assert (await the_conversation(church, unread=1)).status == "open"


async def test_a_stop_that_the_carrier_confirms_holds_and_start_lifts_it(church: Church) -> None:
    anna, *others = await church.add(3)
    carrier = church.platform.carrier
    await carrier.person_texts(anna.phone, church.number, "STOP")
    await until_suppressed(church, 1)
    sent = await completed(church, "After the STOP.")
    assert (sent.counts.delivered, sent.counts.suppressed) == (2, 1)
    rows = await church.agrees(sent.id)
    assert {row.phone for row in rows if row.status == "suppressed"} == {anna.phone}
    assert {text.recipient for text in await church.texts()} == {person.phone for person in others}
    assert [reply.type for reply in await carrier.own_replies() if reply.recipient == anna.phone] == ["STOP"]

    await carrier.person_texts(anna.phone, church.number, "START")
    await until_suppressed(church, 0)
    sent = await completed(church, "After the START.")
    assert sent.counts.delivered == 3
    await church.agrees(sent.id)
    await church.is_metered(5)


@pytest.mark.usefixtures("silent_carrier")
async def test_a_stop_that_the_carrier_leaves_to_us_is_confirmed_once(church: Church) -> None:
    anna, _other = await church.add(2)
    await church.platform.carrier.person_texts(anna.phone, church.number, "Please stop texting me, thanks!")
    await until_suppressed(church, 1)
    await until_texted(church, anna.phone, 1)
    sent = await completed(church, "After the STOP.")
    assert (sent.counts.delivered, sent.counts.suppressed) == (1, 1)

    await church.platform.carrier.person_texts(anna.phone, church.number, "start")
    await until_suppressed(church, 0)
    await until_texted(church, anna.phone, 2)
    stopped, started = [text.text or "" for text in await church.texts() if text.recipient == anna.phone]
    assert "opted out" in stopped
    assert "Reply HELP" in started
    assert (await completed(church, "After the START.")).counts.delivered == 2


@pytest.mark.usefixtures("silent_carrier")
async def test_help_is_answered_and_stops_nothing(church: Church) -> None:
    (anna,) = await church.add(1)
    await church.platform.carrier.person_texts(anna.phone, church.number, "HELP")
    await until_texted(church, anna.phone, 1)
    (text,) = await church.texts()
    assert "Grace Chapel" in (text.text or "")
    assert "STOP" in (text.text or "")
    assert (await completed(church, "Still welcome.")).counts.delivered == 1


async def test_a_stop_in_mid_broadcast_holds_from_the_moment_it_is_stored(church: Church) -> None:
    everybody = await church.add(400)
    phones = [person.phone for person in everybody]
    carrier = church.platform.carrier
    await carrier.order("latency", phones, seconds=0.8)
    sent = await church.send("On its way to many.")

    async def is_under_way() -> bool:
        return (await church.client.messages.get(sent.id)).counts.delivered > 0

    await wait_until(is_under_way, what="the first receipt")
    reached = {text.recipient for text in await church.texts()}
    waiting = [phone for phone in phones if phone not in reached]
    stopping = waiting[-20:]
    for phone in stopping:
        await carrier.person_texts(phone, church.number, "STOP")
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert message.counts.suppressed > 0
    assert message.counts.delivered + message.counts.suppressed + message.counts.failed == 400
    rows = await church.agrees(sent.id)
    assert {row.phone for row in rows if row.status == "suppressed"} <= set(stopping)


async def the_conversation(church: Church, *, unread: int) -> Conversation:
    """Wait until the church has its one conversation, with so many unread texts."""

    async def found() -> Conversation | None:
        inbox = [conversation async for conversation in church.client.conversations.list()]
        assert len(inbox) <= 1
        return inbox[0] if inbox and inbox[0].unread_count == unread else None

    conversation = await wait_until(found, what=f"a conversation with {unread} unread")
    assert isinstance(conversation, Conversation)
    return conversation


async def until_suppressed(church: Church, count: int) -> None:
    """Wait until a preview leaves so many out."""

    async def is_known() -> bool:
        preview = await church.client.messages.preview(SendRequest(content="Who is left?", target_type="all"))
        return preview.suppressed == count

    await wait_until(is_known, what=f"a preview that leaves {count} out")


async def until_texted(church: Church, phone: str, count: int) -> None:
    """Wait until the carrier has so many texts of the church to a number."""

    async def has_come() -> bool:
        return len([text for text in await church.texts() if text.recipient == phone]) == count

    await wait_until(has_come, what=f"text {count} to the person")


async def completed(church: Church, content: str) -> Message:
    """Send to all, and wait until no recipient is open."""
    sent = await church.send(content)
    return await church.client.messages.wait_until_completed(sent.id, timeout_seconds=30)
