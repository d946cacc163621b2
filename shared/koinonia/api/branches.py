"""Branches: a church's places."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType
from typing_extensions import override

from koinonia.api.analytics import Fared
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


class BranchStats(Fared, frozen=True, kw_only=True):
    """A branch's people, and how the texts to them fared: a person is counted with the branch they had then."""

    id: UUID
    name: str
    is_default: bool
    members: int
    opted_in: Annotated[int, Meta(description="Members who may be texted")]
    groups: int

    @override
    @classmethod
    def example(cls) -> Self:
        fared = msgspec.structs.asdict(Fared.example())
        return cls(id=EXAMPLE_ID, name="Downtown", is_default=False, members=140, opted_in=131, groups=4, **fared)


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
STATS = Endpoint(
    name="branches.stats",
    method="GET",
    path="/api/branches/stats",
    owner="messaging",
    summary="The branches' people, and how texts to them fared",
    description="A number that people of several branches share is counted with the first of them. What was sent "
    "before branches were counted is in none.",
    query=PageQuery,
    response=Page[BranchStats],
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
    description="Refused with 409 for the default branch, for one that still has members or groups, and while a "
    "message that is not sent yet, or a recurring one, excludes it.",
    status=204,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)

ENDPOINTS = (LIST, STATS, CREATE, GET, PATCH, DELETE)
