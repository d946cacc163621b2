"""Members: the people a church texts."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    EmailAddress,
    Page,
    PageQuery,
    PhoneText,
    Request,
    Response,
    ShortText,
    TestableQuery,
)
from koinonia.api.endpoint import JSON, MANAGERS, MEBIBYTE, Endpoint
from koinonia.api.messages import RecipientStatus

IMPORT_ROWS = 10_000

FieldName = Annotated[str, Meta(min_length=1, max_length=64)]
CustomFields = Annotated[dict[FieldName, Annotated[str, Meta(max_length=500)]], Meta(max_length=50)]
LastName = Annotated[str, Meta(max_length=100)]
Search = Annotated[str, Meta(min_length=1, max_length=100, description="Part of a name, or a whole phone")]
GroupIds = Annotated[list[UUID], Meta(max_length=100)]


class Member(Response, frozen=True, kw_only=True):
    """A person; several may share a phone."""

    id: UUID
    first_name: str
    last_name: str
    phone: str
    email: str | None
    branch_id: UUID
    group_ids: list[UUID]
    opt_in_sms: bool
    external_id: str | None
    custom_fields: dict[str, str]
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            first_name="Anna",
            last_name="Lee",
            phone="+13125550142",
            email="anna@lee.example",
            branch_id=EXAMPLE_OTHER_ID,
            group_ids=[],
            opt_in_sms=True,
            external_id="4711",
            custom_fields={"shirtSize": "M"},
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class MemberRequest(Request, frozen=True, kw_only=True):
    """A new member; without ``branchId`` of the default branch. ``optInSms`` says that consent was given."""

    first_name: ShortText
    phone: PhoneText
    last_name: LastName = ""
    email: EmailAddress | None = None
    branch_id: UUID | None = None
    group_ids: GroupIds = msgspec.field(default_factory=list)
    opt_in_sms: bool = False
    external_id: ShortText | None = None
    custom_fields: CustomFields = msgspec.field(default_factory=dict)

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(first_name="Anna", last_name="Lee", phone="(312) 555-0142", opt_in_sms=True, external_id="4711")


class MemberPatch(Request, frozen=True, kw_only=True):
    """What is left out stays; ``groupIds`` and ``customFields`` replace the whole list."""

    first_name: ShortText | UnsetType = UNSET
    last_name: LastName | UnsetType = UNSET
    phone: PhoneText | UnsetType = UNSET
    email: EmailAddress | UnsetType | None = UNSET
    branch_id: UUID | UnsetType = UNSET
    group_ids: GroupIds | UnsetType = UNSET
    opt_in_sms: bool | UnsetType = UNSET
    external_id: ShortText | UnsetType | None = UNSET
    custom_fields: CustomFields | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(last_name="Lee-Young")


class MemberQuery(PageQuery, frozen=True, kw_only=True):
    """Which members: all filters hold together."""

    search: (
        Annotated[str, Meta(min_length=1, max_length=100, description="Part of a name, or a whole phone")] | None
    ) = None
    branch_id: UUID | None = None
    group_id: UUID | None = None
    opt_in: bool | None = None


class MemberImportRequest(Request, frozen=True, kw_only=True):
    """Rows as in ``MemberRequest``. Each is judged by itself: a bad one is reported and the rest goes in."""

    members: Annotated[
        list[Any],
        Meta(
            min_length=1,
            max_length=IMPORT_ROWS,
            extra_json_schema={"items": {"$ref": "#/components/schemas/MemberRequest"}},
        ),
    ]
    group_ids: GroupIds = msgspec.field(default_factory=list)

    @override
    @classmethod
    def example(cls) -> Self:
        row = {"firstName": "Anna", "lastName": "Lee", "phone": "+13125550142", "optInSms": True}
        return cls(members=[row], group_ids=[EXAMPLE_ID])


class ImportRowError(Response, frozen=True, kw_only=True):
    """A row that did not go in; ``row`` counts from 1, a CSV's header not included."""

    row: int
    field: str
    message: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(row=3, field="phone", message="No valid phone number")


class ImportResult(Response, frozen=True, kw_only=True):
    """What an import did: ``skipped`` rows were there already, unchanged."""

    created: int
    updated: int
    skipped: int
    errors: list[ImportRowError]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(created=498, updated=1, skipped=0, errors=[ImportRowError.example()])


class MemberMessage(Response, frozen=True, kw_only=True):
    """One person's copy of a text: what they got, or why not.

    ``messageId`` is null where it was no message of the church's to many: a reply, or what the law wants to be said.
    """

    id: UUID
    message_id: UUID | None
    kind: Literal["broadcast", "reply", "compliance"]
    phone: str
    content: str
    media_urls: list[str]
    status: RecipientStatus
    segments: int
    error_code: str | None
    error_message: str | None
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    test: Annotated[bool, Meta(description="Sent with a test key: the simulated carrier answered")] = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            message_id=EXAMPLE_OTHER_ID,
            kind="broadcast",
            phone="+13125550142",
            content="Hi Anna, the service starts at 10 on Sunday.",
            media_urls=[],
            status="delivered",
            segments=1,
            error_code=None,
            error_message=None,
            created_at=EXAMPLE_TIME,
            sent_at=EXAMPLE_TIME,
            delivered_at=EXAMPLE_TIME,
        )


LIST = Endpoint(
    name="members.list",
    method="GET",
    path="/api/members",
    owner="messaging",
    summary="The church's members",
    query=MemberQuery,
    response=Page[Member],
)
CREATE = Endpoint(
    name="members.create",
    method="POST",
    path="/api/members",
    owner="messaging",
    summary="Add a member",
    description="One person once: the same `externalId`, else the same phone and name, answers 409.",
    request=MemberRequest,
    response=Member,
    status=201,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
GET = Endpoint(
    name="members.get",
    method="GET",
    path="/api/members/{id}",
    owner="messaging",
    summary="One member",
    response=Member,
)
PATCH = Endpoint(
    name="members.patch",
    method="PATCH",
    path="/api/members/{id}",
    owner="messaging",
    summary="Change a member",
    request=MemberPatch,
    response=Member,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
DELETE = Endpoint(
    name="members.delete",
    method="DELETE",
    path="/api/members/{id}",
    owner="messaging",
    summary="Delete a member",
    status=204,
    roles=MANAGERS,
    idempotent=True,
)
IMPORT = Endpoint(
    name="members.import",
    method="POST",
    path="/api/members/import",
    owner="messaging",
    summary="Import members",
    description="JSON, or CSV in UTF-8 with a header row of the same names. Up to 10,000 rows; a person who is there "
    "already (by `externalId`, else by phone and name) is updated.",
    request=MemberImportRequest,
    response=ImportResult,
    roles=MANAGERS,
    idempotent=True,
    body_limit=16 * MEBIBYTE,
    consumes=(JSON, "text/csv"),
)
LIST_MESSAGES = Endpoint(
    name="members.listMessages",
    method="GET",
    path="/api/members/{id}/messages",
    owner="delivery",
    summary="What this person got or did not get, and why",
    description="Newest first, at every phone that the member has or had; what went to a shared phone is each of its "
    "people's. It has what is not archived. Known a moment after the member is. Tests are listed apart, by `test`.",
    query=TestableQuery,
    response=Page[MemberMessage],
)

ENDPOINTS = (LIST, CREATE, GET, PATCH, DELETE, IMPORT, LIST_MESSAGES)
