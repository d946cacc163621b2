"""Groups of members."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    IdList,
    LongText,
    Page,
    PageQuery,
    Request,
    Response,
    ShortText,
)
from koinonia.api.endpoint import MANAGERS, Endpoint
from koinonia.api.members import Member


class Group(Response, frozen=True, kw_only=True):
    """Members who are texted together. ``memberCount`` of a deleted one: how many it had."""

    id: UUID
    name: str
    description: str
    branch_id: UUID | None
    member_count: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Choir",
            description="",
            branch_id=EXAMPLE_OTHER_ID,
            member_count=24,
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class GroupQuery(PageQuery, frozen=True, kw_only=True):
    """Which groups."""

    deleted: Annotated[bool, Meta(description="The deleted ones instead; for owners and admins")] = False


class GroupRequest(Request, frozen=True, kw_only=True):
    """A new group, of one branch or (null) of the whole church."""

    name: ShortText
    description: LongText = ""
    branch_id: UUID | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(name="Choir")


class GroupPatch(Request, frozen=True, kw_only=True):
    """What is left out stays."""

    name: ShortText | UnsetType = UNSET
    description: LongText | UnsetType = UNSET
    branch_id: UUID | UnsetType | None = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(description="Rehearses on Thursdays")


class GroupMembersRequest(Request, frozen=True, kw_only=True):
    """Members to add or to take out; who is already in (or out) stays so."""

    member_ids: IdList

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(member_ids=[EXAMPLE_ID])


LIST = Endpoint(
    name="groups.list",
    method="GET",
    path="/api/groups",
    owner="messaging",
    summary="The church's groups",
    query=GroupQuery,
    response=Page[Group],
)
CREATE = Endpoint(
    name="groups.create",
    method="POST",
    path="/api/groups",
    owner="messaging",
    summary="Make a group",
    request=GroupRequest,
    response=Group,
    status=201,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
GET = Endpoint(
    name="groups.get", method="GET", path="/api/groups/{id}", owner="messaging", summary="One group", response=Group
)
PATCH = Endpoint(
    name="groups.patch",
    method="PATCH",
    path="/api/groups/{id}",
    owner="messaging",
    summary="Change a group",
    request=GroupPatch,
    response=Group,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
DELETE = Endpoint(
    name="groups.delete",
    method="DELETE",
    path="/api/groups/{id}",
    owner="messaging",
    summary="Delete a group; its members stay",
    description="It can be brought back. Refused with 409 while a message that is not sent yet, or a recurring one, "
    "excludes it: its members would get that.",
    status=204,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
RESTORE = Endpoint(
    name="groups.restore",
    method="POST",
    path="/api/groups/{id}/restore",
    owner="messaging",
    summary="Bring a deleted group back",
    description="With its members: those that were merged into others meanwhile come as these, those that are deleted "
    "come when they are brought back. Where its branch is gone, it is one of the whole church. Messages that are not "
    "sent yet and name it reach its members again. 409: another group has its name by now.",
    response=Group,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
LIST_MEMBERS = Endpoint(
    name="groups.listMembers",
    method="GET",
    path="/api/groups/{id}/members",
    owner="messaging",
    summary="The members of a group",
    query=PageQuery,
    response=Page[Member],
)
ADD_MEMBERS = Endpoint(
    name="groups.addMembers",
    method="POST",
    path="/api/groups/{id}/members",
    owner="messaging",
    summary="Add members to a group",
    description="An unknown member id refuses the whole request with 404.",
    request=GroupMembersRequest,
    response=Group,
    roles=MANAGERS,
    idempotent=True,
)
REMOVE_MEMBERS = Endpoint(
    name="groups.removeMembers",
    method="DELETE",
    path="/api/groups/{id}/members",
    owner="messaging",
    summary="Take members out of a group",
    request=GroupMembersRequest,
    response=Group,
    roles=MANAGERS,
    idempotent=True,
)

ENDPOINTS = (LIST, CREATE, GET, PATCH, DELETE, RESTORE, LIST_MEMBERS, ADD_MEMBERS, REMOVE_MEMBERS)
