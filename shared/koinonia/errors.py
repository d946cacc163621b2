"""The errors that the platform raises on purpose; one function in ``koinonia.web`` renders them.

A class's docstring is its message to the client. Errors carry no phone, address or text of a person.
"""

import asyncio
from typing import ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One field of a request, and what is wrong with it."""

    field: str
    message: str


class Outspoken(Exception):
    """Its message names no person: logs and dead letters may show it. Of other errors they show the class alone."""


class KoinoniaError(Outspoken):
    """The request could not be carried out."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        details: list[FieldError] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.details = details or []
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)


class ValidationFailed(KoinoniaError):
    """The request is not valid."""

    code = "VALIDATION_ERROR"
    status = 400

    @classmethod
    def field(cls, field: str, message: str) -> "ValidationFailed":
        """The error for one field."""
        return cls(details=[FieldError(field, message)])


class AuthenticationFailed(KoinoniaError):
    """Log in to do this."""

    code = "AUTH_ERROR"
    status = 401


class Forbidden(KoinoniaError):
    """Your role does not allow this."""

    code = "FORBIDDEN"
    status = 403


class CsrfFailed(KoinoniaError):
    """The CSRF token is missing or does not belong to this session."""

    code = "CSRF_ERROR"
    status = 403


class MfaRequired(KoinoniaError):
    """Confirm with your second factor first."""

    code = "MFA_REQUIRED"
    status = 403


class NotFound(KoinoniaError):
    """There is no such thing here."""

    code = "NOT_FOUND"
    status = 404


class Conflict(KoinoniaError):
    """This does not fit the present state."""

    code = "CONFLICT"
    status = 409


class PayloadTooLarge(KoinoniaError):
    """The body is too large."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class IdempotencyMismatch(KoinoniaError):
    """This Idempotency-Key was used for another request."""

    code = "IDEMPOTENCY_MISMATCH"
    status = 422


class PlanLimit(KoinoniaError):
    """The plan does not cover this."""

    code = "PLAN_LIMIT"
    status = 402


class RateLimited(KoinoniaError):
    """Too many requests; try again later."""

    code = "RATE_LIMITED"
    status = 429


class FeatureDisabled(KoinoniaError):
    """This is switched off here."""

    code = "FEATURE_DISABLED"
    status = 501


class DependencyUnavailable(KoinoniaError):
    """A part of the platform is away; try again in a moment."""

    code = "DEPENDENCY_UNAVAILABLE"
    status = 503


_TRANSIENT_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "25006", "25P03"})
_TRANSIENT_CLASSES = ("08", "53", "58")  # connections, resources (disk, memory, too many), the system's own


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed once a dependency answers again: a database, broker or network that is away.

    Source: PostgreSQL 15 manual, appendix A.
    """
    if isinstance(error, DependencyUnavailable | OSError | TimeoutError | asyncio.IncompleteReadError):
        return True
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return sqlstate in _TRANSIENT_SQLSTATES or sqlstate.startswith(_TRANSIENT_CLASSES)
    # asyncpg says so of a connection that it lost or closed under us; these carry no SQLSTATE. It says it with the same
    # class of a statement called with the wrong number of arguments, which is a bug and stays one.
    if not type(error).__module__.startswith("asyncpg"):
        return False
    lost = type(error).__name__ in {"InterfaceError", "InternalClientError"}
    return lost and "expects" not in str(error)
