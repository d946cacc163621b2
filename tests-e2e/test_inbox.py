"""What people text back, in the inbox; `test_stop.py` has STOP, START and HELP."""

from koinonia.api.conversations import Conversation, ConversationThread
from koinonia.testing.fixtures import wait_until

from .church import Church


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


async def the_conversation(church: Church, *, unread: int) -> Conversation:
    """Wait until the church has its one conversation, with so many unread texts."""

    async def found() -> Conversation | None:
        inbox = [conversation async for conversation in church.client.conversations.list()]
        assert len(inbox) <= 1
        return inbox[0] if inbox and inbox[0].unread_count == unread else None

    conversation = await wait_until(found, what=f"a conversation with {unread} unread")
    assert isinstance(conversation, Conversation)
    return conversation
