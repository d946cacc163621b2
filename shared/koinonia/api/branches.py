"""Branches: a church's places."""

from datetime import datetime
from typing import Self
from uuid import UUID

from msgspec import UNSET, UnsetType
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_TIME,
    LongText,
    Page,
    PageQuery,
    Request,
    Response,
    ShortText,
)
from koinonia.api.endpoint import MANAGERS, Endpoint


class Branch(Response, frozen=True, kw_only=True):
    """A place of the church; one is the default."""

    id: UUID
    name: str
    description: str
    is_default: bool
    created_at: datetime
    updated_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Downtown",
            description="Main Street",
            is_default=False,
            created_at=EXAMPLE_TIME,
            updated_at=EXAMPLE_TIME,
        )


class BranchRequest(Request, frozen=True, kw_only=True):
    """A new branch."""

    name: ShortText
    description: LongText = ""

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(name="Downtown", description="Main Street")


class BranchPatch(Request, frozen=True, kw_only=True):
    """What is left out stays."""

    name: ShortText | UnsetType = UNSET
    description: LongText | UnsetType = UNSET

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(description="Main Street 12")


LIST = Endpoint(
    name="branches.list",
    method="GET",
    path="/api/branches",
    owner="messaging",
    summary="The church's branches",
    query=PageQuery,
    response=Page[Branch],
)
CREATE = Endpoint(
    name="branches.create",
    method="POST",
    path="/api/branches",
    owner="messaging",
    summary="Make a branch",
    request=BranchRequest,
    response=Branch,
    status=201,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
GET = Endpoint(
    name="branches.get",
    method="GET",
    path="/api/branches/{id}",
    owner="messaging",
    summary="One branch",
    response=Branch,
)
PATCH = Endpoint(
    name="branches.patch",
    method="PATCH",
    path="/api/branches/{id}",
    owner="messaging",
    summary="Change a branch",
    request=BranchPatch,
    response=Branch,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
DELETE = Endpoint(
    name="branches.delete",
    method="DELETE",
    path="/api/branches/{id}",
    owner="messaging",
    summary="Delete a branch",
    description="Refused with 409 for the default branch and for one that still has members or groups.",
    status=204,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)

ENDPOINTS = (LIST, CREATE, GET, PATCH, DELETE)
