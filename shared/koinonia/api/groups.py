"""Groups of members."""

from datetime import datetime
from typing import Self
from uuid import UUID

from msgspec import UNSET, UnsetType
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
    """Members who are texted together."""

    id: UUID
    name: str
    description: str
    branch_id: UUID | None
    member_count: int
    created_at: datetime
    updated_at: datetime

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
    query=PageQuery,
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
    status=204,
    roles=MANAGERS,
    idempotent=True,
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

ENDPOINTS = (LIST, CREATE, GET, PATCH, DELETE, LIST_MEMBERS, ADD_MEMBERS, REMOVE_MEMBERS)
