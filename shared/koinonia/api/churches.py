"""A church's settings."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from typing_extensions import override

from koinonia.api.auth import ZoneName
from koinonia.api.common import EXAMPLE_ID, EXAMPLE_OTHER_ID, EXAMPLE_TIME, Request, Response, ShortText, zone_errors
from koinonia.api.endpoint import MANAGERS, Endpoint
from koinonia.errors import FieldError

Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$(?!\n)", description="HH:MM")]
OptOutLine = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=r"^[^{}\r\n]*[^{}\s][^{}\r\n]*$(?!\n)",
        description="One line without fields, put below each message that does not tell how to opt out",
    ),
]
RetentionDays = Annotated[int, Meta(ge=30, le=3650)]
UndoSeconds = Annotated[
    int, Meta(ge=0, le=600, description="So long an accepted message waits: cancelled until then, it reaches nobody")
]
ApprovalAbove = Annotated[
    int,
    Meta(ge=0, description="A message to more people than these waits for a second owner or admin; null: none does"),
]
WeeklyLimit = Annotated[
    int,
    Meta(ge=1, le=50, description="No more broadcasts than these reach a number in seven days; null: as many as go"),
]


class QuietHours(Request, frozen=True, kw_only=True):
    """When no broadcast goes out, in the church's time zone; past midnight where ``until`` is the earlier."""

    start: Clock
    until: Clock

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(start="21:00", until="08:00")


class SenderDefaults(Request, frozen=True, kw_only=True):
    """What a message goes out with that does not say. ``numberId`` null: the platform's choice."""

    number_id: UUID | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(number_id=EXAMPLE_OTHER_ID)


class ChurchSettings(Response, frozen=True, kw_only=True):
    """``ready``: the default branch, the trial plan and a phone number are there, so that messages can be sent."""

    id: UUID
    name: str
    timezone: str
    ready: bool
    quiet_hours: QuietHours | None
    require_mfa: bool
    sender_defaults: SenderDefaults
    retention_days: int | None
    opt_out_line: str | None
    created_at: datetime
    updated_at: datetime
    undo_seconds: UndoSeconds = 0
    approval_above: ApprovalAbove | None = None
    weekly_limit: WeeklyLimit | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Grace Chapel",
            timezone="America/Chicago",
            ready=True,
            quiet_hours=QuietHours.example(),
            require_mfa=False,
            sender_defaults=SenderDefaults.example(),
            retention_days=None,
            opt_out_line="Reply STOP to opt out",
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class ChurchSettingsPatch(Request, frozen=True, kw_only=True):
    """What is left out stays; null switches off."""

    name: ShortText | UnsetType = UNSET
    timezone: ZoneName | UnsetType = UNSET
    quiet_hours: QuietHours | UnsetType | None = UNSET
    require_mfa: bool | UnsetType = UNSET
    sender_defaults: SenderDefaults | UnsetType = UNSET
    retention_days: RetentionDays | UnsetType | None = UNSET
    undo_seconds: UndoSeconds | UnsetType = UNSET
    approval_above: ApprovalAbove | UnsetType | None = UNSET
    opt_out_line: OptOutLine | UnsetType | None = UNSET
    weekly_limit: WeeklyLimit | UnsetType | None = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(timezone="America/Denver", quiet_hours=QuietHours.example(), retention_days=730)

    @override
    def check(self) -> Iterator[FieldError]:
        if self.timezone is not UNSET:
            yield from zone_errors("timezone", self.timezone)
        if isinstance(self.quiet_hours, QuietHours) and self.quiet_hours.start == self.quiet_hours.until:
            yield FieldError("quietHours.until", "Must differ from start")


class Sending(Response, frozen=True, kw_only=True):
    """Whether the church sends; ``version`` grows with each change."""

    paused: bool
    paused_at: datetime | None
    version: int

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(paused=True, paused_at=EXAMPLE_TIME, version=1)


GET_SETTINGS = Endpoint(
    name="churches.getSettings",
    method="GET",
    path="/api/churches/{id}/settings",
    owner="gateway",
    summary="A church's settings",
    response=ChurchSettings,
)
PATCH_SETTINGS = Endpoint(
    name="churches.patchSettings",
    method="PATCH",
    path="/api/churches/{id}/settings",
    owner="gateway",
    summary="Change a church's settings",
    description="Name and time zone hold everywhere within seconds, `requireMfa` within one; changing that takes a "
    "session with the second factor. Copies of what was sent, their trails and e-mails go within a day once older than "
    "`retentionDays`. `undoSeconds`, `approvalAbove` and `optOutLine` hold for what is sent from then on, within "
    "seconds, as do sender defaults, but for a number that cannot send. Quiet hours hold within seconds, also for what "
    "waits already: no broadcast begins in them, and at their end all goes on by itself; replies and other texts that "
    "one person waits for go at any time. Where clocks are changed, they last as long as clocks show a quiet time. "
    "`weeklyLimit`: a number that has had so many broadcasts in the last seven days gets no other but an urgent one; "
    "they are counted from when it is set.",
    request=ChurchSettingsPatch,
    response=ChurchSettings,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("MFA_REQUIRED",),
)

GET_SENDING = Endpoint(
    name="churches.getSending",
    method="GET",
    path="/api/churches/{id}/sending",
    owner="messaging",
    summary="Whether a church sends",
    response=Sending,
)
PAUSE_SENDING = Endpoint(
    name="churches.pauseSending",
    method="POST",
    path="/api/churches/{id}/sending/pause",
    owner="messaging",
    summary="Pause all sending of a church",
    description="Nothing is sent until it is resumed, replies neither; what is accepted meanwhile waits. A church that "
    "is paused stays as it is.",
    response=Sending,
    roles=MANAGERS,
    idempotent=True,
)
RESUME_SENDING = Endpoint(
    name="churches.resumeSending",
    method="POST",
    path="/api/churches/{id}/sending/resume",
    owner="messaging",
    summary="Resume the sending of a church",
    description="Ends its pause, and holds of its numbers by the carrier's refusal: they are tried again at once.",
    response=Sending,
    roles=MANAGERS,
    idempotent=True,
)

ENDPOINTS = (GET_SETTINGS, PATCH_SETTINGS, GET_SENDING, PAUSE_SENDING, RESUME_SENDING)
