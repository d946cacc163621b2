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
    Query,
    Request,
    Response,
    ShortText,
    TestableQuery,
)
from koinonia.api.endpoint import JSON, MANAGERS, MEBIBYTE, Endpoint
from koinonia.api.messages import RecipientStatus

IMPORT_ROWS = 10_000
"""In the request; a table with more goes on in the background."""
BACKGROUND_ROWS = 200_000

FieldName = Annotated[str, Meta(min_length=1, max_length=64)]
CustomFields = Annotated[dict[FieldName, Annotated[str, Meta(max_length=500)]], Meta(max_length=50)]
ConsentSource = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"\S",
        description="Where consent was given: kept as its proof where the member comes to consent by this request; no "
        "phone number and no e-mail address",
        examples=["paper card, May 2024"],
    ),
]
LastName = Annotated[str, Meta(max_length=100)]
Search = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        description="Words of a name or their beginnings, in any order, accents and case apart; or a whole phone, in "
        "the church's national form or E.164; or a whole e-mail address; or an external id",
    ),
]
Sort = Annotated[
    Literal["name", "-name", "createdAt", "-createdAt"],
    Meta(description="By name as it is written, accents and case apart, or by age; `-`: the other way round"),
]
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
    deleted_at: datetime | None = None

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
    consent_source: ConsentSource | None = None

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
    consent_source: ConsentSource | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(last_name="Lee-Young")


class MergeRequest(Request, frozen=True, kw_only=True):
    """Which member is merged into the one of the path."""

    member_id: UUID

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(member_id=EXAMPLE_OTHER_ID)


class LikelyDouble(Response, frozen=True, kw_only=True):
    """Two members who are likely one person, the older record first, and what they share.

    ``phone``: and their names are alike; ``email``; ``name``: first and last, the phones are different.
    """

    reason: Literal["phone", "email", "name"]
    members: list[Member]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(reason="phone", members=[Member.example(), Member.example()])


class MemberQuery(PageQuery, frozen=True, kw_only=True):
    """Which members, in which order: all filters hold together."""

    search: Search | None = None
    branch_id: UUID | None = None
    group_id: UUID | None = None
    opt_in: bool | None = None
    sort: Sort = "-createdAt"
    deleted: Annotated[bool, Meta(description="The deleted ones instead; for owners and admins")] = False


ImportStatus = Annotated[
    Literal["running", "completed", "failed"],
    Meta(description="`failed`: it stopped at rows that could not be written, and what was written before stays"),
]


class ImportQuery(Query, frozen=True, kw_only=True):
    """How a table is taken."""

    dry_run: Annotated[
        bool,
        Meta(
            description="Report what the first 10,000 rows would do, and the mapping of columns that would be used; "
            "change nothing"
        ),
    ] = False
    background: Annotated[
        bool, Meta(description="Answer 202 at once; a table of more than 10,000 rows or 16 MiB goes there anyway")
    ] = False
    mapping: (
        Annotated[
            str,
            Meta(
                max_length=6000,
                description="Which field a column of a table means, as a JSON object of the header's names, in "
                "place of what the name says; null leaves the column out",
                examples=['{"Handy-Nr": "phone", "Shirt": "customFields.shirt", "Notes": null}'],
            ),
        ]
        | None
    ) = None


class ExportQuery(Query, frozen=True, kw_only=True):
    """Which members: all filters hold together."""

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
    """A row that did not go in. ``row`` counts from 1, a CSV's header not included; ``line`` is the CSV file's own."""

    row: int
    field: str
    message: str
    line: int | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(row=3, field="phone", message="No valid phone number", line=4)


class ImportResult(Response, frozen=True, kw_only=True):
    """What an import has done so far: ``skipped`` rows were there already, unchanged.

    ``errors`` has all errors of an import in the request, and the first 100 of one in the background: its report has
    the rest. ``id`` is null for a dry run, ``mapping`` for all else: it says which field each column means.
    """

    created: int
    updated: int
    skipped: int
    errors: list[ImportRowError]
    id: UUID | None = None
    status: ImportStatus = "completed"
    rows: Annotated[int, Meta(description="That are to be judged; blank ones do not count")] = 0
    done_rows: int = 0
    bad_rows: int = 0
    mapping: dict[str, str | None] | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            created=498,
            updated=1,
            skipped=0,
            errors=[ImportRowError.example()],
            id=EXAMPLE_ID,
            rows=500,
            done_rows=500,
            bad_rows=1,
        )


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
    extra_errors=("FORBIDDEN",),
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
LIST_DOUBLES = Endpoint(
    name="members.listDuplicates",
    method="GET",
    path="/api/members/duplicates",
    owner="messaging",
    summary="Members who are likely one person",
    description="Each record once by its strongest reason, beside the oldest it is like: by phone first, then by "
    "e-mail, then by name. What more than 50 members share (an office's phone) makes nobody a likely double.",
    query=PageQuery,
    response=Page[LikelyDouble],
    roles=MANAGERS,
)
MERGE = Endpoint(
    name="members.merge",
    method="POST",
    path="/api/members/{id}/merge",
    owner="messaging",
    summary="Merge another member into this one",
    description="The member of the path stays, with its name and phone; groups are united, an e-mail address, an "
    "external id and custom fields that only the other has are taken over, and consent stays only where both have it, "
    "and neither number has opted out. "
    "The other is gone from all lists: asked for by its id, it answers as the one that stays, whose messages are those "
    "of both. It cannot be undone. Broadcasts and recurring messages "
    "that name or exclude the other go to, or exclude, the one that stays, unless they have begun. Inbox threads keep "
    "their own number: only messages are united.",
    request=MergeRequest,
    response=Member,
    roles=MANAGERS,
    idempotent=True,
)
RESTORE = Endpoint(
    name="members.restore",
    method="POST",
    path="/api/members/{id}/restore",
    owner="messaging",
    summary="Bring a deleted member back",
    description="With the groups that the member was in, as far as they are still there. Consent that was withdrawn "
    "for the phone meanwhile stays withdrawn. 409: the person was added again, or the record was merged into another.",
    response=Member,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
IMPORT = Endpoint(
    name="members.import",
    method="POST",
    path="/api/members/import",
    owner="messaging",
    summary="Import members",
    description="A person who is there already (by `externalId`, else by phone and name) is updated; nobody's opt-out "
    "is lifted; a bad row is reported and the rest goes in. JSON of up to 16 MiB, or CSV of up to 64 MiB in UTF-8, "
    "UTF-16 or Windows-1252 with commas, semicolons, tabs or pipes; its header has the names of the fields, and names "
    "like `First Name`, `Mobile` or `E-mail` are understood. Show people the mapping that a dry run answers, and send "
    "the file again with theirs. Up to 10,000 rows are in when the answer comes; a CSV file of up to 200,000 rows goes "
    "on in the background.",
    request=MemberImportRequest,
    query=ImportQuery,
    response=ImportResult,
    also=((202, "The file is taken: poll the import"),),
    roles=MANAGERS,
    idempotent=True,
    body_limit=64 * MEBIBYTE,
    consumes=(JSON, "text/csv"),
    extra_errors=("CONFLICT",),
)
GET_IMPORT = Endpoint(
    name="members.getImport",
    method="GET",
    path="/api/members/imports/{id}",
    owner="messaging",
    summary="How far an import is",
    response=ImportResult,
    roles=MANAGERS,
)
IMPORT_REPORT = Endpoint(
    name="members.getImportReport",
    method="GET",
    path="/api/members/imports/{id}/report",
    owner="messaging",
    summary="The rows that an import did not take",
    description="As CSV: `line` (of the file; of JSON the row), `field`, `reason`; nothing of what stood there.",
    produces="text/csv",
    roles=MANAGERS,
)
EXPORT = Endpoint(
    name="members.export",
    method="GET",
    path="/api/members/export",
    owner="messaging",
    summary="All members, as CSV",
    description="In UTF-8 with a byte order mark, newest first, with the columns that an import takes. An apostrophe "
    "stands before what a spreadsheet would take for a formula, the `+` of phones included; an import takes it away "
    "again. `optInSms` is empty where somebody who consented has sent STOP: an import leaves both as they are. With "
    "more than 1,000 custom fields it is refused.",
    query=ExportQuery,
    produces="text/csv",
    roles=MANAGERS,
    extra_errors=("CONFLICT",),
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

ENDPOINTS = (
    LIST,
    LIST_DOUBLES,
    CREATE,
    MERGE,
    EXPORT,
    GET,
    PATCH,
    DELETE,
    RESTORE,
    IMPORT,
    GET_IMPORT,
    IMPORT_REPORT,
    LIST_MESSAGES,
)
