"""Messages: what a church sends, and each recipient's copy."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Meta
from typing_extensions import override

from koinonia import clock
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
from koinonia.errors import FieldError

MOST_TEST_RECIPIENTS = 1000
"""Of one message that is sent with a test key."""
TargetType = Literal["individual", "groups", "branches", "all"]
Encoding = Literal["GSM-7", "UCS-2"]
MessageStatus = Literal[
    "awaiting_approval",
    "scheduled",
    "accepted",
    "declined",
    "sending",
    "paused",
    "handed_over",
    "completed",
    "cancelled",
    "failed",
]
RecipientStatus = Literal[
    "queued",
    "sending",
    "sent",
    "delivered",
    "undelivered",
    "unconfirmed",
    "failed",
    "suppressed",
    "cancelled",
    "expired",
    "unknown",
]
Tag = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"\S")]
TargetIds = Annotated[list[UUID], Meta(max_length=500, description="Members, groups or branches; empty for `all`")]
MediaUrl = Annotated[str, Meta(min_length=9, max_length=2000, pattern=r"^https://[^\s/]+")]
MediaUrls = Annotated[list[MediaUrl], Meta(max_length=10, description="Makes it an MMS; https only")]


class SendRequest(Request, frozen=True, kw_only=True):
    """This text to these people; ``{{firstName}}``-style fields are filled in for each."""

    content: Annotated[
        str, Meta(min_length=1, max_length=1600, pattern=r"\S", description="At most 10 segments once filled in")
    ]
    target_type: TargetType
    target_ids: TargetIds = msgspec.field(default_factory=list)
    media_urls: MediaUrls = msgspec.field(default_factory=list)
    scheduled_at: Annotated[datetime, Meta(tz=True, description="Sending starts then; null: at once")] | None = None
    number_id: Annotated[UUID, Meta(description="Sender; null: the church's own choice")] | None = None
    tags: Annotated[list[Tag], Meta(max_length=10)] = msgspec.field(default_factory=list)

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            content="Hi {{firstName}}, the service starts at 10 on Sunday.",
            target_type="groups",
            target_ids=[EXAMPLE_OTHER_ID],
            tags=["sunday"],
        )

    @override
    def check(self) -> Iterator[FieldError]:
        if self.target_type == "all" and self.target_ids:
            yield FieldError("targetIds", "Must be empty when targetType is all")
        if self.target_type != "all" and not self.target_ids:
            yield FieldError("targetIds", "Name at least one")
        if len(set(self.target_ids)) != len(self.target_ids):
            yield FieldError("targetIds", "Each may be named once")
        if self.scheduled_at is not None and self.scheduled_at <= clock.now():
            yield FieldError("scheduledAt", "Must be in the future")
        for position, url in enumerate(self.media_urls):
            if not _is_public_url(url):
                yield FieldError(f"mediaUrls[{position}]", "Must be an https URL with a host and no user name")


class MessageCounts(Response, frozen=True, kw_only=True):
    """Recipients by status; they add up to ``totalRecipients``."""

    queued: int = 0
    sending: int = 0
    sent: int = 0
    delivered: int = 0
    undelivered: int = 0
    unconfirmed: int = 0
    failed: int = 0
    suppressed: int = 0
    cancelled: int = 0
    expired: int = 0
    unknown: int = 0

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(queued=200, sending=20, sent=80, delivered=195, suppressed=5)


class StopFigures(Response, frozen=True, kw_only=True):
    """What a stop did, as of the moment when nothing more could be sent: the three add up to the audience.

    Those in flight end afterwards, as ``counts`` tell. ``creditedCents``: what the credited segments would have cost
    beyond the plan's included ones. Not yet ``final``: what is known so far, of which those in flight may still be
    fewer and the credit more.
    """

    sent: int
    will_not_go: int
    in_flight: int
    credited_segments: int
    credited_cents: int
    final: bool

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(sent=275, will_not_go=205, in_flight=20, credited_segments=200, credited_cents=400, final=True)


class Message(Response, frozen=True, kw_only=True):
    """A message. ``totalRecipients``: distinct numbers, left-out ones included; final once resolved.

    ``pauseReason`` says why a message that is ``paused`` rests; ``stopped`` is there once it was cancelled.
    """

    id: UUID
    status: MessageStatus
    content: str
    target_type: TargetType
    target_ids: list[UUID]
    media_urls: list[str]
    number_id: UUID | None
    tags: list[str]
    encoding: Encoding
    segments: int
    total_recipients: int
    counts: MessageCounts
    decline_reason: str | None
    scheduled_at: datetime | None
    created_at: datetime
    handed_over_at: datetime | None
    completed_at: datetime | None
    paused_at: datetime | None = None
    pause_reason: str | None = None
    stopped: StopFigures | None = None
    test: Annotated[bool, Meta(description="Sent with a test key: the simulated carrier answers, nobody pays")] = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            status="sending",
            content="Hi {{firstName}}, the service starts at 10 on Sunday.",
            target_type="groups",
            target_ids=[EXAMPLE_OTHER_ID],
            media_urls=[],
            number_id=None,
            tags=["sunday"],
            encoding="GSM-7",
            segments=1,
            total_recipients=500,
            counts=MessageCounts.example(),
            decline_reason=None,
            scheduled_at=None,
            created_at=EXAMPLE_TIME,
            handed_over_at=None,
            completed_at=None,
        )


class MessageEnvelope(Response, frozen=True, kw_only=True):
    """The message that was accepted."""

    message: Message

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(message=Message.example())


class CancelAnswer(StopFigures, frozen=True, kw_only=True):
    """What cancelling one message did."""

    message: Message

    @override
    @classmethod
    def example(cls) -> Self:
        message = msgspec.structs.replace(Message.example(), status="cancelled", stopped=StopFigures.example())
        return cls(message=message, **msgspec.structs.asdict(StopFigures.example()))


class StopAnswer(StopFigures, frozen=True, kw_only=True):
    """What stopping everything did, over all of its messages. Nothing is sent until the church resumes."""

    id: UUID
    messages: int
    paused_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(id=EXAMPLE_ID, messages=2, paused_at=EXAMPLE_TIME, **msgspec.structs.asdict(StopFigures.example()))


class MessagePreview(Response, frozen=True, kw_only=True):
    """What sending would do. ``sample``: the text as one of its people would get it."""

    recipients: int
    suppressed: int
    encoding: Encoding
    segments: int
    total_segments: int
    estimated_cost_cents: int
    unknown_fields: list[str]
    sample: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            recipients=500,
            suppressed=5,
            encoding="GSM-7",
            segments=1,
            total_segments=495,
            estimated_cost_cents=396,
            unknown_fields=[],
            sample="Hi Anna, the service starts at 10 on Sunday.",
        )


class MessageProgress(Response, frozen=True, kw_only=True):
    """One event of the live stream: the state after a change. ``version`` only grows; it is the event's id."""

    id: UUID
    version: int
    status: MessageStatus
    total_recipients: int
    counts: MessageCounts
    handed_over_at: datetime | None
    completed_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            version=17,
            status="sending",
            total_recipients=500,
            counts=MessageCounts.example(),
            handed_over_at=None,
            completed_at=None,
        )


class Recipient(Response, frozen=True, kw_only=True):
    """One person's copy."""

    id: UUID
    member_id: UUID | None
    phone: str
    status: RecipientStatus
    segments: int
    error_code: str | None
    error_message: str | None
    sent_at: datetime | None
    delivered_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            member_id=EXAMPLE_OTHER_ID,
            phone="+13125550142",
            status="delivered",
            segments=1,
            error_code=None,
            error_message=None,
            sent_at=EXAMPLE_TIME,
            delivered_at=EXAMPLE_TIME,
        )


TrailEvent = Literal[
    "requested",
    "scheduled",
    "consent_withdrawn",
    "opted_out",
    "opted_in",
    "blocked",
    "held",
    "authorized",
    "dispatched",
    "paused",
    "resumed",
    "refused",
    "unknown",
    "left_to_records",
    "accepted",
    "metered",
    "resent",
    "closed",
    "cancelled",
    "left_out",
    "expired",
    "failed",
    "unconfirmed",
    "undelivered",
    "delivered",
    "waiting",
]
"""What an entry of a trail tells; at the same moment they come in this order."""


class Actor(Response, frozen=True, kw_only=True):
    """Who did something."""

    id: UUID
    kind: Literal["admin", "api_key"]
    name: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(id=EXAMPLE_OTHER_ID, kind="admin", name="Ruth Miller")


class TrailEntry(Response, frozen=True, kw_only=True):
    """One thing that happened to a recipient's copy. ``sentence`` says it in plain words; times are fields beside it.

    ``at``: of a receipt, by the carrier's clock. ``status``: the copy's status from then on, where that changed.
    """

    at: datetime
    service: Literal["messaging", "conversation", "billing", "delivery", "compliance"]
    event: TrailEvent
    sentence: str
    status: RecipientStatus | None = None
    code: Annotated[str, Meta(description="The carrier's code, or ours")] | None = None
    attempt: (
        Annotated[int, Meta(description="Claims of the copy so far; one may end before its call begins")] | None
    ) = None
    began_at: Annotated[datetime, Meta(tz=True, description="When the attempt that ended began")] | None = None
    until: Annotated[datetime, Meta(tz=True, description="When it is, or was to be, taken up again")] | None = None
    actor: Actor | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            at=EXAMPLE_TIME,
            service="delivery",
            event="refused",
            sentence="The carrier did not take it for now. The carrier asks to go slower; it is tried again.",
            status="queued",
            code="429",
            attempt=1,
            began_at=EXAMPLE_TIME,
            until=EXAMPLE_TIME,
        )


class Trail(Response, frozen=True, kw_only=True):
    """Why somebody got a text, or did not: everything that happened to one copy, in the order of time.

    ``missing``: services that did not answer; their part is not here.
    """

    message_id: UUID
    recipient_id: UUID
    status: RecipientStatus
    entries: list[TrailEntry]
    missing: list[str]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            message_id=EXAMPLE_ID,
            recipient_id=EXAMPLE_OTHER_ID,
            status="queued",
            entries=[TrailEntry.example()],
            missing=[],
        )


class ResolveRequest(Request, frozen=True, kw_only=True):
    """A person's decision on a copy whose outcome is not known."""

    action: Literal["resend", "close"]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(action="close")


class MessageQuery(TestableQuery, frozen=True, kw_only=True):
    """Which messages: all filters hold together."""

    status: MessageStatus | None = None
    search: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    tag: Tag | None = None


class RecipientQuery(PageQuery, frozen=True, kw_only=True):
    """Which recipients."""

    status: RecipientStatus | None = None


def _is_public_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False


_NOT_FINAL = (202, "Stopped; not everything is confirmed yet: `final` is false")

PREVIEW = Endpoint(
    name="messages.preview",
    method="POST",
    path="/api/messages/preview",
    owner="messaging",
    summary="What sending would do",
    request=SendRequest,
    response=MessagePreview,
    roles=SENDERS,
    for_tests=True,
)
SEND = Endpoint(
    name="messages.send",
    method="POST",
    path="/api/messages/send",
    owner="messaging",
    summary="Send a message",
    description="Accepted here, sent afterwards: watch it by its events. An audience in which nobody can be texted is "
    "refused with 400. With a test key the simulated carrier answers in place of the real one: nobody is texted, and "
    f"nobody pays; an audience of over {MOST_TEST_RECIPIENTS} recipients is refused with 400 then.",
    request=SendRequest,
    response=MessageEnvelope,
    status=202,
    roles=SENDERS,
    idempotent=True,
    for_tests=True,
    extra_errors=("CONFLICT", "PLAN_LIMIT"),
)
LIST = Endpoint(
    name="messages.list",
    method="GET",
    path="/api/messages",
    owner="messaging",
    summary="The church's messages",
    description="Newest first. Those sent with a test key are listed apart, by `test`.",
    query=MessageQuery,
    response=Page[Message],
)
GET = Endpoint(
    name="messages.get",
    method="GET",
    path="/api/messages/{id}",
    owner="messaging",
    summary="One message",
    response=Message,
)
CANCEL = Endpoint(
    name="messages.cancel",
    method="POST",
    path="/api/messages/{id}/cancel",
    owner="messaging",
    summary="Cancel a message",
    description="What is not yet with the carrier shall never be. Answers after up to five seconds with what was sent, "
    "what will not go, what is in flight and what is credited, and once more when it was cancelled already; later "
    "`GET` has the same figures. Refused with 409 once nothing is left to cancel.",
    response=CancelAnswer,
    also=(_NOT_FINAL,),
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
    for_tests=True,
)
STOP = Endpoint(
    name="messages.stop",
    method="POST",
    path="/api/messages/stop",
    owner="messaging",
    summary="Stop everything at once",
    description="Cancels each message that still has something to send, scheduled ones included, and pauses all "
    "sending of the church until it is resumed (`POST /api/churches/{id}/sending/resume`). Answers as cancelling one "
    "does. Called again before that, it stops what came since and tells the figures of all. Tests rest meanwhile, and "
    "are not cancelled.",
    response=StopAnswer,
    also=(_NOT_FINAL,),
    roles=SENDERS,
    idempotent=True,
)
PAUSE = Endpoint(
    name="messages.pause",
    method="POST",
    path="/api/messages/{id}/pause",
    owner="messaging",
    summary="Pause a message",
    description="Nothing more of it begins until it is resumed; what is with the carrier goes on. A paused one stays "
    "as it is. Refused with 409 once nothing of it waits. A message pauses itself, and says why, when too many of its "
    "texts fail.",
    response=Message,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
    for_tests=True,
)
RESUME = Endpoint(
    name="messages.resume",
    method="POST",
    path="/api/messages/{id}/resume",
    owner="messaging",
    summary="Resume a paused message",
    description="It goes on where it rested, in its order. One that is not paused stays as it is.",
    response=Message,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
    for_tests=True,
)
EVENTS = Endpoint(
    name="messages.events",
    method="GET",
    path="/api/messages/{id}/events",
    owner="gateway",
    summary="Live progress",
    description="Server-sent events named `progress`; the first is the present state, the stream ends after the one "
    "that says `completed`, `cancelled`, `declined` or `failed`. Comments keep it open. `Last-Event-ID` takes up a "
    "broken stream.",
    produces="text/event-stream",
    stream_item=MessageProgress,
)
LIST_RECIPIENTS = Endpoint(
    name="messages.listRecipients",
    method="GET",
    path="/api/messages/{id}/recipients",
    owner="delivery",
    summary="Each recipient's copy",
    description="In the order of their ids. With `status`, a page may be shorter than `limit`, even empty, and still "
    "have `hasMore` and a cursor: for states that most recipients have, a page looks at 10,000 of them. An erased "
    "phone is shown as `[deleted]`.",
    query=RecipientQuery,
    response=Page[Recipient],
)
RESOLVE_RECIPIENT = Endpoint(
    name="messages.resolveRecipient",
    method="POST",
    path="/api/messages/{id}/recipients/{recipientId}/resolve",
    owner="delivery",
    summary="Resend or close a copy whose outcome is unknown",
    description="For `unknown` and `unconfirmed` ones; others, and tests, answer 409.",
    request=ResolveRequest,
    response=Recipient,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)

RECIPIENT_TRAIL = Endpoint(
    name="messages.recipientTrail",
    method="GET",
    path="/api/messages/{id}/recipients/{recipientId}/trail",
    owner="gateway",
    summary="Why somebody got a text, or did not",
    description="The copy's way through all services in plain words, oldest first: who asked for it, whether the plan "
    "covered it, each attempt and how it ended, what the carrier said, opt-outs, what people decided. `missing` names "
    "services that did not answer in time.",
    response=Trail,
)

ENDPOINTS = (
    PREVIEW,
    SEND,
    LIST,
    GET,
    CANCEL,
    STOP,
    PAUSE,
    RESUME,
    EVENTS,
    LIST_RECIPIENTS,
    RESOLVE_RECIPIENT,
    RECIPIENT_TRAIL,
)
FINAL_STATUSES: frozenset[MessageStatus] = frozenset({"completed", "cancelled", "declined", "failed"})
