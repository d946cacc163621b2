"""Forgotten and changed passwords."""

from typing import Annotated, Self

from msgspec import Meta
from typing_extensions import override

from koinonia.api.auth import Password
from koinonia.api.common import EmailAddress, Request
from koinonia.api.endpoint import Endpoint

KnownPassword = Annotated[str, Meta(min_length=1, max_length=128)]


class PasswordForgotten(Request, frozen=True, kw_only=True):
    """Whoever logs in with this e-mail has forgotten the password."""

    email: EmailAddress

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(email="ruth@grace.example")


class PasswordReset(Request, frozen=True, kw_only=True):
    """A new password in place of a forgotten one."""

    token: Annotated[str, Meta(min_length=1, max_length=200, description="From the e-mail")]
    password: Password

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(token="qJ3vN0sYb7Zr", password="another long sentence to remember")  # noqa: S106 - an example


class PasswordChange(Request, frozen=True, kw_only=True):
    """A new password in place of a known one."""

    current_password: KnownPassword
    new_password: Password

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(
            current_password="a long sentence to remember",  # noqa: S106 - an example
            new_password="another long sentence to remember",  # noqa: S106 - an example
        )


FORGOT = Endpoint(
    name="passwords.forgot",
    method="POST",
    path="/api/auth/password/forgot",
    owner="gateway",
    summary="Ask for a new password by e-mail",
    description="The answer is the same whether anybody logs in with this e-mail or not.",
    request=PasswordForgotten,
    status=204,
    access="public",
)
RESET = Endpoint(
    name="passwords.reset",
    method="POST",
    path="/api/auth/password/reset",
    owner="gateway",
    summary="Set a forgotten password anew",
    description="The token of the e-mail is good once, for half an hour, and until the password changes. All sessions "
    "end, and none begins: log in with the new password.",
    request=PasswordReset,
    status=204,
    access="public",
)
CHANGE = Endpoint(
    name="passwords.change",
    method="POST",
    path="/api/auth/password/change",
    owner="gateway",
    people_only=True,
    summary="Change one's own password",
    description="The admin's other sessions end, and with them what was mailed for a forgotten password.",
    request=PasswordChange,
    status=204,
    extra_errors=("CONFLICT",),
)

ENDPOINTS = (FORGOT, RESET, CHANGE)
