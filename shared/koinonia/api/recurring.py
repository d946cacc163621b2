"""Messages that are sent again and again, by a rule."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    Page,
    PageQuery,
    Request,
    Response,
    TextContent,
    zone_errors,
)
from koinonia.api.endpoint import SENDERS, Endpoint
from koinonia.api.messages import (
    Exclude,
    MediaUrls,
    NumberId,
    SendRequest,
    SmartEncoding,
    Tags,
    TargetIds,
    TargetType,
    TemplateId,
)
from koinonia.errors import FieldError

MissedRuns = Annotated[
    Literal["once", "skip"],
    Meta(description="Runs that were missed by over 15 minutes: one message for all of them, or none"),
]
RunOutcome = Literal["sent", "skipped", "failed"]
_EXAMPLE_RULE = "FREQ=WEEKLY;BYDAY=SU"
_YEARS = (2000, 2100)


class ScheduleRequest(Request, frozen=True, kw_only=True):
    """When: a rule of RFC 5545, kept as wall time in its zone."""

    rrule: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=300,
            description="`FREQ` DAILY, WEEKLY, MONTHLY or YEARLY; `INTERVAL`, `COUNT`, `UNTIL`, `BYDAY`, `BYMONTHDAY`, "
            "`BYMONTH`, `BYSETPOS`, `WKST`. Once a day at most. Days that do not exist are left out: `BYMONTHDAY=-1` "
            "is a month's last day",
        ),
    ]
    timezone: Annotated[str, Meta(min_length=1, max_length=64, description="IANA name")]
    start_at: Annotated[
        datetime,
        Meta(
            tz=True, description="Nothing before it; what clocks in the zone show then is the time of day of each run"
        ),
    ]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(rrule=_EXAMPLE_RULE, timezone="America/Chicago", start_at=EXAMPLE_TIME)

    def errors(self) -> Iterator[FieldError]:
        """What is wrong beyond the types of single fields; the rule itself is read by its owner."""
        yield from zone_errors("schedule.timezone", self.timezone)
        if not _YEARS[0] <= self.start_at.year < _YEARS[1]:
            yield FieldError("schedule.startAt", "Must be in this century")


class RecurringRequest(Request, frozen=True, kw_only=True):
    """A text to these people, again and again. Each run is a message of its own, to who is in the audience then."""

    content: TextContent | None = None
    template_id: Annotated[UUID, Meta(description="In place of content: its text as it is at each run")] | None = None
    target_type: TargetType
    target_ids: TargetIds = msgspec.field(default_factory=list)
    media_urls: MediaUrls = msgspec.field(default_factory=list)
    number_id: NumberId | None = None
    tags: Tags = msgspec.field(default_factory=list)
    exclude: Exclude = msgspec.field(default_factory=Exclude)
    smart_encoding: SmartEncoding = False
    schedule: ScheduleRequest
    missed_runs: MissedRuns = "once"
    paused: bool = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            content="Hi {{firstName}}, see you at 10.",
            target_type="all",
            schedule=ScheduleRequest.example(),
            tags=["a"],
        )

    @override
    def check(self) -> Iterator[FieldError]:
        yield from self.send_request().check()
        yield from self.schedule.errors()

    def send_request(self) -> SendRequest:
        """One run of it."""
        return SendRequest(
            content=self.content,
            template_id=self.template_id,
            target_type=self.target_type,
            target_ids=self.target_ids,
            media_urls=self.media_urls,
            number_id=self.number_id,
            tags=self.tags,
            exclude=self.exclude,
            smart_encoding=self.smart_encoding,
        )


class RecurringPatch(Request, frozen=True, kw_only=True):
    """What is left out stays. While it is ``paused`` its runs are passed over, and not made up for."""

    content: TextContent | UnsetType = UNSET
    template_id: TemplateId | UnsetType = UNSET
    target_type: TargetType | UnsetType = UNSET
    target_ids: TargetIds | UnsetType = UNSET
    media_urls: MediaUrls | UnsetType = UNSET
    number_id: NumberId | UnsetType | None = UNSET
    tags: Tags | UnsetType = UNSET
    exclude: Exclude | UnsetType = UNSET
    smart_encoding: SmartEncoding | UnsetType = UNSET
    schedule: ScheduleRequest | UnsetType = UNSET
    missed_runs: MissedRuns | UnsetType = UNSET
    paused: bool | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(paused=True)

    @override
    def check(self) -> Iterator[FieldError]:
        if self.content is not UNSET and self.template_id is not UNSET:
            yield FieldError("content", "Give either content or templateId")
        if isinstance(self.schedule, ScheduleRequest):
            yield from self.schedule.errors()


class RecurringSchedule(Response, frozen=True, kw_only=True):
    """When. ``startAt`` is the wall time of the beginning, as a moment in UTC."""

    rrule: str
    timezone: str
    start_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(rrule=_EXAMPLE_RULE, timezone="America/Chicago", start_at=EXAMPLE_TIME)


class RecurringRun(Response, frozen=True, kw_only=True):
    """What became of a run. ``reason``: why no message was made."""

    at: datetime
    outcome: RunOutcome
    message_id: UUID | None
    reason: str | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(at=EXAMPLE_TIME, outcome="sent", message_id=EXAMPLE_OTHER_ID, reason=None)


class RecurringMessage(Response, frozen=True, kw_only=True):
    """A recurring message. ``nextRuns``: the next five, fewer before its end, none while it is paused."""

    id: UUID
    content: str | None
    template_id: UUID | None
    target_type: TargetType
    target_ids: list[UUID]
    media_urls: list[str]
    number_id: UUID | None
    tags: list[str]
    exclude: Exclude
    smart_encoding: bool
    schedule: RecurringSchedule
    missed_runs: MissedRuns
    paused: bool
    next_run_at: datetime | None
    next_runs: list[datetime]
    last_run: RecurringRun | None
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            content="Hi {{firstName}}, see you at 10.",
            template_id=None,
            target_type="all",
            target_ids=[],
            media_urls=[],
            number_id=None,
            tags=["a"],
            exclude=Exclude(),
            smart_encoding=False,
            schedule=RecurringSchedule.example(),
            missed_runs="once",
            paused=False,
            next_run_at=EXAMPLE_TIME,
            next_runs=[EXAMPLE_TIME],
            last_run=RecurringRun.example(),
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


_DAYLIGHT = (
    "At a change of clocks the wall time is kept: a time that is skipped is read by the offset before (02:30 becomes "
    "03:30 that day), of one that comes twice the first is meant (RFC 5545, 3.3.5)."
)

LIST = Endpoint(
    name="recurringMessages.list",
    method="GET",
    path="/api/recurring-messages",
    owner="messaging",
    summary="The church's recurring messages",
    query=PageQuery,
    response=Page[RecurringMessage],
)
CREATE = Endpoint(
    name="recurringMessages.create",
    method="POST",
    path="/api/recurring-messages",
    owner="messaging",
    summary="Make a recurring message",
    description=f"{_DAYLIGHT} While the church's sending is paused its runs are skipped.",
    request=RecurringRequest,
    response=RecurringMessage,
    status=201,
    roles=SENDERS,
    idempotent=True,
)
GET = Endpoint(
    name="recurringMessages.get",
    method="GET",
    path="/api/recurring-messages/{id}",
    owner="messaging",
    summary="One recurring message",
    response=RecurringMessage,
)
PATCH = Endpoint(
    name="recurringMessages.patch",
    method="PATCH",
    path="/api/recurring-messages/{id}",
    owner="messaging",
    summary="Change, pause or resume a recurring message",
    description="Messages that its runs have made already stay as they are.",
    request=RecurringPatch,
    response=RecurringMessage,
    roles=SENDERS,
    idempotent=True,
)
DELETE = Endpoint(
    name="recurringMessages.delete",
    method="DELETE",
    path="/api/recurring-messages/{id}",
    owner="messaging",
    summary="Delete a recurring message; the messages that it made stay",
    status=204,
    roles=SENDERS,
    idempotent=True,
)

ENDPOINTS = (LIST, CREATE, GET, PATCH, DELETE)
