"""The second factor: an authenticator app, and recovery codes for whom it is lost."""

from collections.abc import Iterator
from typing import Annotated, Self

from msgspec import Meta
from typing_extensions import override

from koinonia.api.auth import Session
from koinonia.api.common import Request, Response
from koinonia.api.endpoint import Endpoint
from koinonia.api.passwords import KnownPassword
from koinonia.errors import FieldError

AppCode = Annotated[str, Meta(min_length=6, max_length=6, description="Of the app: six digits, good once")]
AnyCode = Annotated[str, Meta(min_length=6, max_length=40, description="Of the app, or a recovery code")]

_EXAMPLE_CODE = "492039"
_EXAMPLE_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - an example
_EXAMPLE_RECOVERY_CODE = "MZXW6Y-TBOIFB-2Q4T3V-LO5X7A"


class MfaSecret(Response, frozen=True, kw_only=True):
    """What an app must know, to be scanned or typed. It is shown this once, and off until it is confirmed."""

    secret: str
    otpauth_url: str
    qr_code: str  # a data URI, SVG

    @override
    @classmethod
    def example(cls) -> Self:
        url = f"otpauth://totp/Koinonia:ruth%40grace.example?secret={_EXAMPLE_SECRET}&issuer=Koinonia"
        return cls(secret=_EXAMPLE_SECRET, otpauth_url=url, qr_code="data:image/svg+xml;charset=utf-8,%3Csvg…")


class MfaEnableRequest(Request, frozen=True, kw_only=True):
    """The password once more: a thief at an open browser shall not lock its owner out."""

    password: KnownPassword

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(password="a long sentence to remember")  # noqa: S106 - an example


class MfaConfirmRequest(Request, frozen=True, kw_only=True):
    """The app's first code."""

    code: AppCode

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(code=_EXAMPLE_CODE)


class RecoveryCodes(Response, frozen=True, kw_only=True):
    """Eight codes, each good once in place of the app's. They are shown this once, and replace all that were before."""

    recovery_codes: list[str]

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(recovery_codes=[_EXAMPLE_RECOVERY_CODE])


class MfaVerifyRequest(Request, frozen=True, kw_only=True):
    """The token of a login, with a code of the app or a recovery code."""

    mfa_token: Annotated[str, Meta(min_length=1, max_length=2048)]
    code: AppCode | None = None
    recovery_code: Annotated[str, Meta(min_length=1, max_length=40)] | None = None

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(mfa_token="eyJhbGciOi…", code=_EXAMPLE_CODE)  # noqa: S106 - an example

    @override
    def check(self) -> Iterator[FieldError]:
        if (self.code is None) == (self.recovery_code is None):
            yield FieldError("code", "Give either a code or a recoveryCode")


class MfaProofRequest(Request, frozen=True, kw_only=True):
    """A code of the app, or a recovery code."""

    code: AnyCode

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(code=_EXAMPLE_CODE)


class MfaDisableRequest(Request, frozen=True, kw_only=True):
    """Both factors."""

    password: KnownPassword
    code: AnyCode

    @override
    @classmethod
    def example(cls) -> Self:
        return cls(password="a long sentence to remember", code=_EXAMPLE_CODE)  # noqa: S106 - an example


_CLOSED = (
    "After five wrong codes in a row none is looked at for a quarter of an hour, and for twice as long each time after "
    "that: 429."
)

ENABLE = Endpoint(
    name="mfa.enable",
    method="POST",
    path="/api/admin/mfa/enable",
    owner="gateway",
    people_only=True,
    summary="Begin to turn the second factor on",
    description="A secret that was never confirmed is replaced.",
    request=MfaEnableRequest,
    response=MfaSecret,
    before_mfa=True,
    extra_errors=("CONFLICT",),
)
CONFIRM = Endpoint(
    name="mfa.confirm",
    method="POST",
    path="/api/admin/mfa/confirm",
    owner="gateway",
    people_only=True,
    summary="Turn the second factor on",
    description="Ends all other sessions; this one goes on under new cookies, and needs a new CSRF token. Wrong "
    "codes are counted as wrong passwords are: 429.",
    request=MfaConfirmRequest,
    response=RecoveryCodes,
    before_mfa=True,
    extra_errors=("CONFLICT",),
)
VERIFY = Endpoint(
    name="mfa.verify",
    method="POST",
    path="/api/admin/mfa/verify",
    owner="gateway",
    summary="Log in, second step",
    description=f"The token begins one session. {_CLOSED}",
    request=MfaVerifyRequest,
    response=Session,
    access="public",
    extra_errors=("AUTH_ERROR",),
)
RECOVERY_CODES = Endpoint(
    name="mfa.renewRecoveryCodes",
    method="POST",
    path="/api/admin/mfa/recovery-codes",
    owner="gateway",
    people_only=True,
    summary="Eight new recovery codes",
    description=_CLOSED,
    request=MfaProofRequest,
    response=RecoveryCodes,
    extra_errors=("CONFLICT",),
)
DISABLE = Endpoint(
    name="mfa.disable",
    method="POST",
    path="/api/admin/mfa/disable",
    owner="gateway",
    people_only=True,
    summary="Turn the second factor off",
    description=f"Ends all other sessions; this one goes on under new cookies, and needs a new CSRF token. {_CLOSED}",
    request=MfaDisableRequest,
    status=204,
    extra_errors=("CONFLICT",),
)

ENDPOINTS = (ENABLE, CONFIRM, VERIFY, RECOVERY_CODES, DISABLE)
