"""Conversations: the two-way inbox."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    Page,
    PageQuery,
    Request,
    Response,
    TestableQuery,
)
from koinonia.api.endpoint import SENDERS, Endpoint
from koinonia.api.messages import RecipientStatus

ConversationStatus = Literal["open", "closed", "archived"]


class ConversationMember(Response, frozen=True, kw_only=True):
    """Who the other side is, as far as it is known."""

    id: UUID
    first_name: str
    last_name: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(id=EXAMPLE_OTHER_ID, first_name="Anna", last_name="Lee")


class ConversationMessage(Response, frozen=True, kw_only=True):
    """One text in it. ``status`` is null for inbound ones, and for outbound ones follows the carrier."""

    id: UUID
    direction: Literal["inbound", "outbound"]
    content: str
    media_urls: list[str]
    status: RecipientStatus | None
    error_code: str | None
    created_at: datetime
    test: Annotated[bool, Meta(description="Written with a test key: nobody got it")] = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_OTHER_ID,
            direction="inbound",
            content="Thank you, see you there!",
            media_urls=[],
            status=None,
            error_code=None,
            created_at=EXAMPLE_TIME,
        )


class Conversation(Response, frozen=True, kw_only=True):
    """One number's texts with one of the church's numbers."""

    id: UUID
    phone: str
    number_id: UUID
    member: ConversationMember | None
    status: ConversationStatus
    unread_count: int
    last_message: ConversationMessage | None
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            phone="+13125550142",
            number_id=EXAMPLE_OTHER_ID,
            member=ConversationMember.example(),
            status="open",
            unread_count=1,
            last_message=ConversationMessage.example(),
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class ConversationThread(Response, frozen=True, kw_only=True):
    """A conversation with a page of its texts, newest first."""

    conversation: Conversation
    messages: Page[ConversationMessage]

    @override
    @classmethod
    def example(cls) -> Self:
        page = Page(data=[ConversationMessage.example()], has_more=False, next_cursor=None)
        return cls(conversation=Conversation.example(), messages=page)


class ReplyRequest(Request, frozen=True, kw_only=True):
    """A text into a conversation."""

    content: Annotated[str, Meta(min_length=1, max_length=1600, pattern=r"\S", description="At most 10 segments")]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(content="See you on Sunday!")


class ConversationStatusRequest(Request, frozen=True, kw_only=True):
    """A new text opens a closed conversation again."""

    status: ConversationStatus

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(status="closed")


class ConversationQuery(PageQuery, frozen=True, kw_only=True):
    """Which conversations."""

    status: ConversationStatus | None = None


LIST = Endpoint(
    name="conversations.list",
    method="GET",
    path="/api/conversations",
    owner="conversation",
    summary="The inbox",
    description="Latest activity first.",
    query=ConversationQuery,
    response=Page[Conversation],
)
GET = Endpoint(
    name="conversations.get",
    method="GET",
    path="/api/conversations/{id}",
    owner="conversation",
    summary="One conversation with its texts",
    description="Replies that were written with a test key are among them where `test` says so, and marked.",
    query=TestableQuery,
    response=ConversationThread,
)
REPLY = Endpoint(
    name="conversations.reply",
    method="POST",
    path="/api/conversations/{id}/reply",
    owner="conversation",
    summary="Reply",
    description="With a test key the simulated carrier answers: nobody gets it, and the conversation stays as it was.",
    request=ReplyRequest,
    response=ConversationMessage,
    status=202,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT", "PLAN_LIMIT"),
    for_tests=True,
)
READ = Endpoint(
    name="conversations.read",
    method="PATCH",
    path="/api/conversations/{id}/read",
    owner="conversation",
    summary="Mark as read",
    response=Conversation,
    roles=SENDERS,
    idempotent=True,
)
SET_STATUS = Endpoint(
    name="conversations.setStatus",
    method="PATCH",
    path="/api/conversations/{id}/status",
    owner="conversation",
    summary="Open, close or archive",
    request=ConversationStatusRequest,
    response=Conversation,
    roles=SENDERS,
    idempotent=True,
)

ENDPOINTS = (LIST, GET, REPLY, READ, SET_STATUS)
