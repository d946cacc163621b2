"""Messages: what a church sends, and each recipient's copy."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType
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
    TextContent,
)
from koinonia.api.endpoint import MANAGERS, SENDERS, Endpoint
from koinonia.errors import FieldError
from koinonia.security.redaction import redact

MOST_TEST_RECIPIENTS = 1000
"""Of one message that is sent with a test key."""
MOST_AHEAD = timedelta(days=731)
"""Of times that a message names."""
MOST_TAGS = 500
"""In the list of those in use."""
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


ExcludedIds = Annotated[list[UUID], Meta(max_length=500)]
TemplateId = Annotated[UUID, Meta(description="In place of content: its text as it is now, though sent later")]
ScheduledAt = Annotated[datetime, Meta(tz=True, description="Sending starts then; null: at once")]
DoNotSendAfter = Annotated[
    datetime, Meta(tz=True, description="What the carrier has not taken by then expires; null: it goes however late")
]
NumberId = Annotated[UUID, Meta(description="Sender; null: the church's own choice")]
Tags = Annotated[list[Tag], Meta(max_length=10)]
SmartEncoding = Annotated[
    bool,
    Meta(
        description="Typographic quotes, dashes, spaces and the like become those of GSM-7 first, in people's values "
        "too; links stay as they are"
    ),
]


class Exclude(Request, frozen=True, kw_only=True):
    """Who gets no text, though the target names them: these members, and those of these groups and branches.

    Whose number is theirs too gets none either, since one phone is read by all who share it.
    """

    member_ids: ExcludedIds = msgspec.field(default_factory=list)
    group_ids: ExcludedIds = msgspec.field(default_factory=list)
    branch_ids: ExcludedIds = msgspec.field(default_factory=list)

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(group_ids=[EXAMPLE_ID])


class Urgent(Request, frozen=True, kw_only=True):
    """That a message waits for no quiet hours, and why. For owners and admins alone, and API keys with their rights."""

    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=500,
            pattern=r"\S",
            description="Without phone numbers and e-mail addresses: the audit log keeps it",
        ),
    ]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(reason="The storm: the service is called off.")


class SendRequest(Request, frozen=True, kw_only=True):
    """This text to these people; ``{{firstName}}``-style fields are filled in for each."""

    content: TextContent | None = None
    template_id: TemplateId | None = None
    target_type: TargetType
    target_ids: TargetIds = msgspec.field(default_factory=list)
    media_urls: MediaUrls = msgspec.field(default_factory=list)
    scheduled_at: ScheduledAt | None = None
    do_not_send_after: DoNotSendAfter | None = None
    number_id: NumberId | None = None
    tags: Tags = msgspec.field(default_factory=list)
    exclude: Exclude = msgspec.field(default_factory=Exclude)
    smart_encoding: SmartEncoding = False
    urgent: Urgent | None = None

    allow_duplicate: Annotated[
        bool, Meta(description="Send the same text to the same people again within a minute, on purpose")
    ] = False

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
        if (self.content is None) == (self.template_id is None):
            yield FieldError("content", "Give either content or templateId")
        yield from self._people_errors()
        yield from self._time_errors()
        yield from _url_errors(self.media_urls)
        if self.urgent is not None and redact(self.urgent.reason) != self.urgent.reason:
            yield FieldError("urgent.reason", "Must hold no phone number or e-mail address: the audit log keeps it")

    def _people_errors(self) -> Iterator[FieldError]:
        if self.target_type == "all" and self.target_ids:
            yield FieldError("targetIds", "Must be empty when targetType is all")
        if self.target_type != "all" and not self.target_ids:
            yield FieldError("targetIds", "Name at least one")
        if len(set(self.target_ids)) != len(self.target_ids):
            yield FieldError("targetIds", "Each may be named once")
        for name, ids in self._excluded().items():
            if len(set(ids)) != len(ids):
                yield FieldError(f"exclude.{name}", "Each may be named once")

    def _time_errors(self) -> Iterator[FieldError]:
        now = clock.now()
        yield from _times_ahead(self.scheduled_at, self.do_not_send_after)
        if self.scheduled_at is not None and self.scheduled_at <= now:
            yield FieldError("scheduledAt", "Must be in the future")
        if self.do_not_send_after is not None and self.do_not_send_after <= max(now, self.scheduled_at or now):
            yield FieldError("doNotSendAfter", "Must be in the future, and after scheduledAt")

    def _excluded(self) -> dict[str, list[UUID]]:
        exclude = self.exclude
        return {"memberIds": exclude.member_ids, "groupIds": exclude.group_ids, "branchIds": exclude.branch_ids}


def _times_ahead(scheduled_at: object, do_not_send_after: object) -> Iterator[FieldError]:
    for name, time in (("scheduledAt", scheduled_at), ("doNotSendAfter", do_not_send_after)):
        if isinstance(time, datetime) and time > clock.now() + MOST_AHEAD:
            yield FieldError(name, "Must be within two years")


class DraftRequest(Request, frozen=True, kw_only=True):
    """A text that nobody else shall get yet. ``fields``: what stands in place of ``{{firstName}}`` and the like."""

    content: TextContent | None = None
    template_id: TemplateId | None = None
    fields: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=500)]],
        Meta(max_length=50),
    ] = msgspec.field(default_factory=dict)
    media_urls: MediaUrls = msgspec.field(default_factory=list)
    number_id: NumberId | None = None
    smart_encoding: SmartEncoding = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(content="Hi {{firstName}}, the service starts at 10 on Sunday.", fields={"firstName": "Ruth"})

    @override
    def check(self) -> Iterator[FieldError]:
        if (self.content is None) == (self.template_id is None):
            yield FieldError("content", "Give either content or templateId")
        yield from _url_errors(self.media_urls)


class DraftSent(Response, frozen=True, kw_only=True):
    """A draft is on its way to the phone of who sent it. In the audit log it has this id."""

    id: UUID

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(id=EXAMPLE_ID)


class MessagePatch(Request, frozen=True, kw_only=True):
    """What is left out stays. A new ``targetType`` comes with its ``targetIds``, a new text is content or template."""

    content: TextContent | UnsetType = UNSET
    template_id: TemplateId | UnsetType = UNSET
    target_type: TargetType | UnsetType = UNSET
    target_ids: TargetIds | UnsetType = UNSET
    media_urls: MediaUrls | UnsetType = UNSET
    scheduled_at: ScheduledAt | UnsetType | None = UNSET
    do_not_send_after: DoNotSendAfter | UnsetType | None = UNSET
    number_id: NumberId | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    exclude: Exclude | UnsetType = UNSET
    smart_encoding: SmartEncoding | UnsetType = UNSET
    urgent: Urgent | UnsetType | None = UNSET
    allow_duplicate: Annotated[bool, Meta(description="Though another message says the same within a minute")] = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(content="Hi {{firstName}}, the service starts at 11 on Sunday.")

    @override
    def check(self) -> Iterator[FieldError]:
        if self.content is not UNSET and self.template_id is not UNSET:
            yield FieldError("content", "Give either content or templateId")
        yield from _times_ahead(self.scheduled_at, self.do_not_send_after)
        if isinstance(self.scheduled_at, datetime) and self.scheduled_at <= clock.now():
            yield FieldError("scheduledAt", "Must be in the future")


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
    """A message. ``content``: the text as it was accepted, whatever became of its template since. ``totalRecipients``:
    distinct numbers, left-out ones included; final once resolved.

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
    exclude: Exclude = msgspec.field(default_factory=Exclude)
    undo_until: Annotated[datetime, Meta(tz=True, description="It is not sent before")] | None = None
    requested_by: Annotated[UUID, Meta(description="The admin or API key")] | None = None
    approved_by: UUID | None = None
    approved_at: datetime | None = None
    rejection_reason: Annotated[str, Meta(description="Why it was not approved")] | None = None
    resend_of: Annotated[UUID, Meta(description="Sent again to those whom this message did not reach")] | None = None
    smart_encoding: bool = False
    template_id: UUID | None = None
    template_version: int | None = None
    recurring_id: Annotated[UUID, Meta(description="Of the recurring message whose run it is")] | None = None
    do_not_send_after: datetime | None = None
    urgent: Urgent | None = None
    waiting_until: (
        Annotated[datetime, Meta(tz=True, description="While it waits for the end of the church's quiet hours")] | None
    ) = None

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


class ReplacedCharacter(Response, frozen=True, kw_only=True):
    """What smart encoding puts in a character's place, and how often; nothing, where that has no width."""

    character: str
    replacement: str
    count: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(character="\u201c", replacement='"', count=2)


class LeftOut(Response, frozen=True, kw_only=True):
    """Numbers that get no text, by reason: nobody there has agreed to texts, the number has opted out, or it has had as
    many as the church's weekly limit allows by the time that this would go.
    """

    no_consent: int
    suppressed: int
    weekly_limit: int = 0

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(no_consent=2, suppressed=3)


class SegmentCount(Response, frozen=True, kw_only=True):
    """How many people's copies take so many segments."""

    segments: int
    recipients: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(segments=1, recipients=495)


class SendWarning(Response, frozen=True, kw_only=True):
    """Something to look at before sending; it keeps nobody from it."""

    code: Annotated[
        str,
        Meta(
            extra_json_schema={
                "x-extensible-enum": [
                    "unknown_fields",
                    "field_in_link",
                    "first_text_without_name",
                    "first_text_without_opt_out",
                    "duplicate",
                    "too_late",
                    "quiet_hours",
                    "weekly_limit",
                ]
            }
        ),
    ]
    message: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            code="first_text_without_name", message="12 people get their first text; it lacks the church's name."
        )


class MessagePreview(Response, frozen=True, kw_only=True):
    """What sending would do. ``sample``: the text as one of its people would get it; ``replaced``: what smart encoding
    changed in it; ``optOutLineAdded``: whether the church's line was put below it, which is counted.

    ``segments`` and ``totalSegments`` are what is reserved, never below the truth; ``segmentCounts`` and
    ``estimatedCostCents`` are those of the copies as they would be rendered now; where the values of fields are of too
    many kinds for that, all count ``segments``. ``finishesAt``: at the rate of the
    number that would send, with nothing else before it, quiet hours counted; null: the church has none. ``waitsUntil``:
    for the end of quiet hours, where it would come into them. ``firstTexts``: people whom the church has never texted.
    """

    recipients: int
    suppressed: int
    encoding: Encoding
    segments: int
    total_segments: int
    estimated_cost_cents: int
    unknown_fields: list[str]
    sample: str
    replaced: list[ReplacedCharacter] = msgspec.field(default_factory=list)
    opt_out_line_added: bool = False
    left_out: LeftOut
    segment_counts: list[SegmentCount]
    finishes_at: datetime | None
    samples: list[str]
    first_texts: int
    warnings: list[SendWarning]
    waits_until: datetime | None = None

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
            left_out=LeftOut.example(),
            segment_counts=[SegmentCount.example()],
            finishes_at=EXAMPLE_TIME,
            samples=["Hi Anna, the service starts at 10 on Sunday."],
            first_texts=12,
            warnings=[SendWarning.example()],
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


class ApproveRequest(Request, frozen=True, kw_only=True):
    """A second admin's word that a message may be sent. ``atOnce``: also when its time has passed by now."""

    at_once: bool = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls()


class RejectRequest(Request, frozen=True, kw_only=True):
    """Why a message shall not be sent."""

    reason: Annotated[str, Meta(min_length=1, max_length=500, pattern=r"\S")]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(reason="The date is wrong.")


class TagUse(Response, frozen=True, kw_only=True):
    """A tag, and how many messages have it."""

    tag: str
    messages: int
    last_used_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(tag="sunday", messages=12, last_used_at=EXAMPLE_TIME)


class TagsInUse(Response, frozen=True, kw_only=True):
    """The tags of a church's messages."""

    data: list[TagUse]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(data=[TagUse.example()])


class MessageQuery(TestableQuery, frozen=True, kw_only=True):
    """Which messages: all filters hold together."""

    status: MessageStatus | None = None
    search: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    tag: Tag | None = None


class RecipientQuery(PageQuery, frozen=True, kw_only=True):
    """Which recipients."""

    status: RecipientStatus | None = None


def _url_errors(urls: list[str]) -> Iterator[FieldError]:
    for position, url in enumerate(urls):
        if not _is_public_url(url):
            yield FieldError(f"mediaUrls[{position}]", "Must be an https URL with a host and no user name")


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
    "refused with 400; the same text to the same people within a minute with 409, which names the message, unless "
    "`allowDuplicate` says that it is meant. With a test key the simulated carrier answers in place of the real one: "
    f"nobody is texted, and nobody pays; an audience of over {MOST_TEST_RECIPIENTS} recipients is refused with 400 "
    "then.",
    request=SendRequest,
    response=MessageEnvelope,
    status=202,
    roles=SENDERS,
    idempotent=True,
    for_tests=True,
    extra_errors=("CONFLICT", "PLAN_LIMIT"),
)
SEND_TO_ME = Endpoint(
    name="messages.sendToMe",
    method="POST",
    path="/api/messages/send-to-me",
    owner="messaging",
    summary="Send a draft to one's own phone",
    description="To the phone that the caller has confirmed (`POST /api/auth/phone`) and to nobody else, before a "
    "broadcast is sent. It is written as the broadcast would be, the church's line on opting out included, goes at "
    "once, or not at all after an hour, and costs what any text does. It is no message: it stands in the audit log as "
    "`message.draft_sent`, in no list and no figure of messages. Refused with 409 where the caller has confirmed no "
    "phone, or it has opted out.",
    request=DraftRequest,
    response=DraftSent,
    status=202,
    roles=SENDERS,
    people_only=True,
    with_own_phone=True,
    idempotent=True,
    extra_errors=("CONFLICT",),
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
LIST_TAGS = Endpoint(
    name="messages.listTags",
    method="GET",
    path="/api/messages/tags",
    owner="messaging",
    summary="The tags that messages have",
    description=f"The {MOST_TAGS} that were used last, newest first; `GET /api/messages?tag=` lists a tag's messages. "
    "Tests are not counted.",
    response=TagsInUse,
)
GET = Endpoint(
    name="messages.get",
    method="GET",
    path="/api/messages/{id}",
    owner="messaging",
    summary="One message",
    response=Message,
)
PATCH = Endpoint(
    name="messages.patch",
    method="PATCH",
    path="/api/messages/{id}",
    owner="messaging",
    summary="Change a scheduled message",
    description="Until sending starts; refused with 409 from then on. Checked as a new message is, also for "
    "another one that says the same to the same people within a minute (409, `allowDuplicate`); `scheduledAt: null` "
    "sends it at once. Who gets it is decided when sending starts, whoever was counted before.",
    request=MessagePatch,
    response=Message,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
    for_tests=True,
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
    description="It goes on where it rested, in its order. One that is not paused stays as it is. One that is "
    "urgent goes on by owners and admins alone.",
    response=Message,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
    for_tests=True,
)
APPROVE = Endpoint(
    name="messages.approve",
    method="POST",
    path="/api/messages/{id}/approve",
    owner="messaging",
    summary="Let a message be sent that waits for a second admin",
    description="For messages to more people than the church's `approvalAbove`, counted when they are sent and again "
    "when sending starts; tests are sent without. Never by who asked for it, nor by an API key. The audience is "
    "counted again, and the undo window begins now. One whose time has passed while it waited (a recurring message's "
    "run: a day) is refused with 409, unless `atOnce` is said; one whose `doNotSendAfter` has passed, in any case. The "
    "approval holds for up to a tenth more people than it was given for; with more, it waits for another.",
    request=ApproveRequest,
    response=Message,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
REJECT = Endpoint(
    name="messages.reject",
    method="POST",
    path="/api/messages/{id}/reject",
    owner="messaging",
    summary="Refuse a message that waits for a second admin",
    description="It is `cancelled`, with the reason in `rejectionReason`.",
    request=RejectRequest,
    response=Message,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
SEND_AGAIN = Endpoint(
    name="messages.sendAgain",
    method="POST",
    path="/api/messages/{id}/send-again",
    owner="messaging",
    summary="Send a declined message, after an upgrade of the plan",
    description="The same message asks the plan again at once, also one that was scheduled; its undo window begins "
    "anew. Only for `declined` ones: `declineReason` says why. Refused with 409 when another message says the same to "
    "the same people within a minute of now, or its `doNotSendAfter` comes before it could go. Its live stream has "
    "ended with `declined`: watch it anew.",
    response=Message,
    roles=SENDERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
RESEND_FAILED = Endpoint(
    name="messages.resendFailed",
    method="POST",
    path="/api/messages/{id}/resend-failed",
    owner="messaging",
    summary="Send a message again to those whom it did not reach",
    description="Once it is completed, so that nobody can fail any more: a new message with the same text to the "
    "members whose copies are `failed`, `undelivered` or `expired`, at the phones that they have by now, with all "
    "that holds for a send; who has opted out since, or was excluded, gets none. Until they are gathered, "
    "`totalRecipients` is what the counters say. Refused with 409 where everybody was reached, or was sent to "
    "again already: for those whom that one did not reach, ask for it.",
    response=MessageEnvelope,
    status=202,
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
EXPORT_RECIPIENTS = Endpoint(
    name="messages.exportRecipients",
    method="GET",
    path="/api/messages/{id}/recipients/export",
    owner="delivery",
    summary="All recipients of a message, as CSV",
    description="In UTF-8 with a byte order mark, in the order of their ids, with the columns `recipientId`, "
    "`memberId`, `phone`, `status`, `segments`, `errorCode`, `errorMessage`, `sentAt` and `deliveredAt`. An apostrophe "
    "stands before what a spreadsheet would take for a formula, the `+` of phones included. It is in the audit log.",
    produces="text/csv",
    roles=MANAGERS,
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
    SEND_TO_ME,
    LIST,
    LIST_TAGS,
    GET,
    PATCH,
    CANCEL,
    STOP,
    PAUSE,
    RESUME,
    APPROVE,
    REJECT,
    SEND_AGAIN,
    RESEND_FAILED,
    EVENTS,
    LIST_RECIPIENTS,
    EXPORT_RECIPIENTS,
    RESOLVE_RECIPIENT,
    RECIPIENT_TRAIL,
)
FINAL_STATUSES: frozenset[MessageStatus] = frozenset({"completed", "cancelled", "declined", "failed"})
