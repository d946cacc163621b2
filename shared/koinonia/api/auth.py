"""Registering, sessions and API keys."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from msgspec import Meta
from typing_extensions import override

from koinonia.api.common import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    EmailAddress,
    Page,
    PageQuery,
    Query,
    Request,
    Response,
    Role,
    ShortText,
    zone_errors,
)
from koinonia.api.endpoint import MANAGERS, Endpoint
from koinonia.errors import FieldError

Password = Annotated[str, Meta(min_length=12, max_length=128, description="Any characters; length is what counts")]
ZoneName = Annotated[str, Meta(min_length=1, max_length=64, description="IANA name, such as America/Chicago")]


class RegisterRequest(Request, frozen=True, kw_only=True):
    """A new church and its first admin, the owner."""

    church_name: ShortText
    first_name: ShortText
    last_name: ShortText
    email: EmailAddress
    password: Password
    timezone: ZoneName = "America/New_York"

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            church_name="Grace Chapel",
            first_name="Ruth",
            last_name="Miller",
            email="ruth@grace.example",
            password="a long sentence to remember",  # noqa: S106 - an example
            timezone="America/Chicago",
        )

    @override
    def check(self) -> Iterator[FieldError]:
        yield from zone_errors("timezone", self.timezone)


class LoginRequest(Request, frozen=True, kw_only=True):
    """An admin's e-mail and password."""

    email: EmailAddress
    password: Annotated[str, Meta(min_length=1, max_length=128)]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(email="ruth@grace.example", password="a long sentence to remember")  # noqa: S106 - an example


class Church(Response, frozen=True, kw_only=True):
    """The tenant."""

    id: UUID
    name: str
    timezone: str
    created_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(id=EXAMPLE_ID, name="Grace Chapel", timezone="America/Chicago", created_at=EXAMPLE_TIME)


class Admin(Response, frozen=True, kw_only=True):
    """A person who works for a church."""

    id: UUID
    church_id: UUID
    email: str
    first_name: str
    last_name: str
    role: Role
    mfa_enabled: bool
    created_at: datetime

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_OTHER_ID,
            church_id=EXAMPLE_ID,
            email="ruth@grace.example",
            first_name="Ruth",
            last_name="Miller",
            role="owner",
            mfa_enabled=False,
            created_at=EXAMPLE_TIME,
        )


class Session(Response, frozen=True, kw_only=True):
    """Who is logged in; the tokens travel as cookies."""

    church: Church
    admin: Admin
    mfa_required: bool = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(church=Church.example(), admin=Admin.example())


class Login(Response, frozen=True, kw_only=True, omit_defaults=True):
    """Who is logged in; or, with ``mfaRequired`` true, the token to show with the second factor, and nothing else."""

    mfa_required: bool
    church: Church | None = None
    admin: Admin | None = None
    mfa_token: str | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(church=Church.example(), admin=Admin.example(), mfa_required=False)


class Me(Response, frozen=True, kw_only=True):
    """Who is asking: an admin's session, or an API key (then ``admin`` is null)."""

    church: Church
    admin: Admin | None
    principal_id: UUID
    principal_kind: Literal["session", "api_key"]
    role: Role
    mfa_verified: bool
    test: Annotated[bool, Meta(description="By a test key")] = False

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            church=Church.example(),
            admin=Admin.example(),
            principal_id=EXAMPLE_OTHER_ID,
            principal_kind="session",
            role="owner",
            mfa_verified=False,
        )


class CsrfToken(Response, frozen=True, kw_only=True):
    """Send it as ``X-CSRF-Token`` with each state-changing request of this browser session."""

    csrf_token: str

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(csrf_token="4f0cO2aP1nH7yXw3")  # noqa: S106 - an example


class ApiKeyRequest(Request, frozen=True, kw_only=True):
    """A key for a program. It cannot be an owner."""

    name: ShortText
    role: Literal["admin", "sender", "viewer"]
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    kind: Annotated[
        Literal["live", "test"],
        Meta(description="What a test key sends is answered by a simulated carrier; it changes nothing but tests"),
    ] = "live"

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(name="Website", role="sender")


class RotateQuery(Query, frozen=True, kw_only=True):
    """How a key gives way to its successor."""

    overlap_hours: Annotated[
        int, Meta(ge=0, le=168, description="For how long the old key opens beside the new one; 0: it ends at once")
    ] = 24


class ApiKey(Response, frozen=True, kw_only=True):
    """An API key without its secret. ``successorId``: it was rotated, and opens until ``expiresAt``.
    ``createdBy``: the admin who made it, or rotated it last; null where that is not known.
    """

    id: UUID
    name: str
    kind: Literal["live", "test"]
    prefix: str
    role: Role
    created_at: datetime
    last_used_at: datetime | None  # to the minute
    expires_at: datetime | None
    successor_id: UUID | None
    created_by: UUID | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            id=EXAMPLE_ID,
            name="Website",
            kind="live",
            prefix="koi_live_3Fz8Qm0cXw2L",
            role="sender",
            created_at=EXAMPLE_TIME,
            last_used_at=None,
            expires_at=None,
            successor_id=None,
            created_by=EXAMPLE_ID,
        )


class ApiKeyCreated(Response, frozen=True, kw_only=True):
    """A new key. Its secret is shown this once; a repeated request gets null."""

    api_key: ApiKey
    key: str | None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(api_key=ApiKey.example(), key="koi_live_3Fz8Qm0cXw2L_…")


REGISTER = Endpoint(
    name="auth.register",
    method="POST",
    path="/api/auth/register",
    owner="gateway",
    summary="Register a church",
    description="Makes the church, its owner and a session. Branch, trial plan and number follow within seconds: "
    "`ready` of the church's settings tells.",
    request=RegisterRequest,
    response=Session,
    status=201,
    access="public",
    extra_errors=("CONFLICT",),
)
LOGIN = Endpoint(
    name="auth.login",
    method="POST",
    path="/api/auth/login",
    owner="gateway",
    summary="Log in",
    description="Where the account has a second factor there is no session yet: the answer is `mfaRequired: true` with "
    "an `mfaToken`, for `POST /api/admin/mfa/verify`. It holds five minutes.",
    request=LoginRequest,
    response=Login,
    access="public",
    extra_errors=("AUTH_ERROR",),
)
REFRESH = Endpoint(
    name="auth.refresh",
    method="POST",
    path="/api/auth/refresh",
    owner="gateway",
    summary="Renew the session",
    description="Rotates the refresh token; a replayed one ends its whole family.",
    response=Session,
    access="public",
    extra_errors=("AUTH_ERROR", "CSRF_ERROR"),
)
LOGOUT = Endpoint(
    name="auth.logout",
    method="POST",
    path="/api/auth/logout",
    owner="gateway",
    summary="End the session",
    status=204,
    access="public",
    extra_errors=("CSRF_ERROR",),
)
ME = Endpoint(
    name="auth.me",
    method="GET",
    path="/api/auth/me",
    owner="gateway",
    summary="Who is asking",
    response=Me,
    before_mfa=True,
)
CSRF = Endpoint(
    name="auth.csrf",
    method="GET",
    path="/api/csrf-token",
    owner="gateway",
    summary="A CSRF token for this browser session",
    response=CsrfToken,
    access="public",
)
LIST_API_KEYS = Endpoint(
    name="apiKeys.list",
    method="GET",
    path="/api/admin/api-keys",
    owner="gateway",
    summary="The church's API keys",
    query=PageQuery,
    response=Page[ApiKey],
    roles=MANAGERS,
)
CREATE_API_KEY = Endpoint(
    name="apiKeys.create",
    method="POST",
    path="/api/admin/api-keys",
    owner="gateway",
    summary="Make an API key",
    description="The church's owners are told by e-mail, once an hour.",
    request=ApiKeyRequest,
    response=ApiKeyCreated,
    status=201,
    roles=MANAGERS,
    people_only=True,
    idempotent=True,
)
ROTATE_API_KEY = Endpoint(
    name="apiKeys.rotate",
    method="POST",
    path="/api/admin/api-keys/{id}/rotate",
    owner="gateway",
    summary="Give an API key a successor",
    description="Makes a key of the same name, kind, role and expiry. The old one opens for `overlapHours` more (24 "
    "unless said otherwise, a week at most), so that programs can be changed in turn; both are in the list. An API key "
    "rotates itself and no other. The church's owners are told by e-mail, once an hour.",
    query=RotateQuery,
    response=ApiKeyCreated,
    roles=MANAGERS,
    idempotent=True,
    extra_errors=("CONFLICT",),
)
DELETE_API_KEY = Endpoint(
    name="apiKeys.delete",
    method="DELETE",
    path="/api/admin/api-keys/{id}",
    owner="gateway",
    summary="Revoke an API key",
    description="Within a second, everywhere. A successor stays: see `successorId` in the list.",
    status=204,
    roles=MANAGERS,
    idempotent=True,
)

ENDPOINTS = (
    REGISTER,
    LOGIN,
    REFRESH,
    LOGOUT,
    ME,
    CSRF,
    LIST_API_KEYS,
    CREATE_API_KEY,
    ROTATE_API_KEY,
    DELETE_API_KEY,
)
