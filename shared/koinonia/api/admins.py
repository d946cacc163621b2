"""A church's admins: invited, joined, given another role, removed."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta
from typing_extensions import override

from koinonia.api.auth import Password
from koinonia.api.common import (
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    EmailAddress,
    Page,
    PageQuery,
    Request,
    Response,
    Role,
    ShortText,
)
from koinonia.api.endpoint import MANAGERS, Endpoint

_OWNERS = "Only owners invite, change or remove owners. The last owner can be neither removed nor demoted (409)."


class AdminUser(Response, frozen=True, kw_only=True):
    """A person who works for the church, or is invited to. ``invitationExpiresAt``: null once it was accepted."""

    id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    status: Literal["invited", "active"]
    created_at: datetime
    invitation_expires_at: datetime | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_OTHER_ID,
            email="boaz@grace.example",
            first_name="Boaz",
            last_name="Miller",
            role="sender",
            status="invited",
            created_at=EXAMPLE_TIME,
            invitation_expires_at=EXAMPLE_TIME,
        )


class InvitationRequest(Request, frozen=True, kw_only=True):
    """Whom to invite, and as what."""

    email: EmailAddress
    first_name: ShortText
    last_name: ShortText
    role: Role

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(email="boaz@grace.example", first_name="Boaz", last_name="Miller", role="sender")


class AdminPatch(Request, frozen=True, kw_only=True):
    """Another role."""

    role: Role

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(role="admin")


class InvitationAcceptance(Request, frozen=True, kw_only=True):
    """The token of the e-mail, one's own name, and the password to log in with."""

    token: Annotated[str, Meta(min_length=1, max_length=128)]
    first_name: ShortText
    last_name: ShortText
    password: Password

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            token="Vf3kZ0xW1bq7cQ2m",  # noqa: S106 - an example
            first_name="Boaz",
            last_name="Miller",
            password="a long sentence to remember",  # noqa: S106 - an example
        )


LIST = Endpoint(
    name="admins.list",
    method="GET",
    path="/api/admin/users",
    owner="gateway",
    summary="The church's admins, and who is invited",
    query=PageQuery,
    response=Page[AdminUser],
    roles=MANAGERS,
)
INVITE = Endpoint(
    name="admins.invite",
    method="POST",
    path="/api/admin/users",
    owner="gateway",
    summary="Invite an admin",
    description="An e-mail with a link goes out, which works once, for seven days. The answer is the same whether or "
    "not somebody logs in to another church with this e-mail; whoever does is told when accepting. To send another "
    "invitation, remove the first one, or wait until it has expired; so many in a day go to one address, and out from "
    f"one church (429). {_OWNERS}",
    request=InvitationRequest,
    response=AdminUser,
    status=201,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
)
CHANGE = Endpoint(
    name="admins.change",
    method="PATCH",
    path="/api/admin/users/{id}",
    owner="gateway",
    summary="Give an admin another role",
    description=f"It holds within a second, in all sessions. {_OWNERS}",
    request=AdminPatch,
    response=AdminUser,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
)
REMOVE = Endpoint(
    name="admins.remove",
    method="DELETE",
    path="/api/admin/users/{id}",
    owner="gateway",
    summary="Remove an admin, or withdraw an invitation",
    description="Ends all sessions of the admin, and frees the e-mail address. API keys are the church's and stay. "
    f"{_OWNERS}",
    status=204,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
)
ACCEPT = Endpoint(
    name="auth.acceptInvitation",
    method="POST",
    path="/api/auth/invitations/accept",
    owner="gateway",
    summary="Accept an invitation",
    description="Sets name and password; then log in. 401: the token was used, withdrawn or has expired. 409: somebody "
    "logs in with this e-mail address already; the invitation stays good.",
    request=InvitationAcceptance,
    response=AdminUser,
    access="public",
    extra_errors=("AUTH_ERROR", "CONFLICT"),
)

ENDPOINTS = (LIST, INVITE, CHANGE, REMOVE, ACCEPT)
