"""What conversation publishes: texts that were threaded, and replies to send."""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from koinonia.events.common import ErasureCompleted, ExportCollected
from koinonia.events.envelope import Event


class ConversationMessageReceived(Event, frozen=True, kw_only=True):
    """An inbound text was put into a conversation."""

    TYPE: ClassVar[str] = "conversation.message.received"
    conversation_id: UUID
    conversation_message_id: UUID
    member_id: UUID | None
    received_at: datetime


class ConversationChanged(Event, frozen=True, kw_only=True):
    """A conversation was opened, closed, archived or read."""

    TYPE: ClassVar[str] = "conversation.conversation.changed"
    conversation_id: UUID
    version: int
    status: Literal["open", "closed", "archived"]
    unread_count: int


class ReplyRequested(Event, frozen=True, kw_only=True):
    """An admin answers in a conversation: a text to one person, to be sent before broadcasts."""

    TYPE: ClassVar[str] = "conversation.reply.requested"
    conversation_id: UUID
    reply_id: UUID  # the conversation's message
    number_id: UUID | None  # the number that the person wrote to
    member_id: UUID | None
    phone_index: bytes
    phone_ciphertext: bytes
    content: str
    media_urls: tuple[str, ...]
    requested_at: datetime
    test: bool = False  # sent with a test key: answered by the simulated carrier, billed to nobody


class ReplyRequestedForTest(ReplyRequested, frozen=True, kw_only=True):
    """A test's reply. A process that knows no tests cannot read this version, and sends it to nobody."""

    VERSION: ClassVar[int] = 2
    test: Literal[True] = True


class ConversationExportCollected(ExportCollected, frozen=True, kw_only=True):
    """Conversation's part of an export."""

    TYPE: ClassVar[str] = "conversation.export.collected"


class ConversationErasureCompleted(ErasureCompleted, frozen=True, kw_only=True):
    """Conversation has erased its part."""

    TYPE: ClassVar[str] = "conversation.erasure.completed"


EVENTS = (
    ConversationMessageReceived,
    ConversationChanged,
    ReplyRequested,
    ReplyRequestedForTest,
    ConversationExportCollected,
    ConversationErasureCompleted,
)
