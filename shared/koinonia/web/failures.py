"""Errors as clients see them: one function renders them all, and none shows a trace."""

import structlog
from aiohttp import web

from koinonia.api import ErrorBody, ErrorResponse
from koinonia.db.statistics import StatementLog
from koinonia.errors import (
    Conflict,
    DependencyUnavailable,
    KoinoniaError,
    NotFound,
    PayloadTooLarge,
    ValidationFailed,
    is_transient,
)
from koinonia.web.rendering import json_response

log = structlog.get_logger()

_RETRY_AFTER_SECONDS = 2


class MethodNotAllowed(KoinoniaError):
    """This path does not take that method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


def as_known(error: BaseException) -> KoinoniaError:
    """What a client is told of ``error``, and what operators are: an unexpected one is logged with its trace, and the
    client told nothing of it.
    """
    if isinstance(error, KoinoniaError):
        _log_ours(error)
        return error
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        known = _of_database(sqlstate, error)
        if known is not None:
            return known
    if is_transient(error):
        log.warning("dependency_unavailable", error=type(error).__name__)
        return DependencyUnavailable()
    log.error("request_failed", exc_info=error)
    return KoinoniaError()


def render(error: KoinoniaError, request_id: str) -> web.Response:
    """The answer for an error."""
    body = ErrorBody(code=error.code, message=error.message, details=error.details, request_id=request_id)
    response = json_response(ErrorResponse(error=body), error.status)
    wait = error.retry_after_seconds
    if wait is None and error.status in {429, 503}:
        wait = _RETRY_AFTER_SECONDS
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def warn_of_repetition(route: str, noted: StatementLog) -> None:
    """Say when one statement ran more than ten times in a request: most likely once per row."""
    for name in noted.repeated:
        log.warning("statement_repeated", route=route, statement=name, count=noted.by_name[name])


def _log_ours(error: KoinoniaError) -> None:
    """Only what is no fault of the client's. Our own messages hold nothing of a person."""
    if isinstance(error, DependencyUnavailable):
        cause = type(error.__cause__).__name__ if error.__cause__ is not None else None
        log.warning("dependency_unavailable", error=type(error).__name__, message=error.message, cause=cause)
    elif error.status >= 500:
        log.error("request_failed", error=type(error).__name__, message=error.message, exc_info=error)


def _of_http(error: web.HTTPException) -> KoinoniaError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed()
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return PayloadTooLarge()
    return NotFound() if error.status == 404 else ValidationFailed()


def _of_database(sqlstate: str, error: BaseException) -> KoinoniaError | None:
    """Class 22: a value that Postgres cannot take and no check caught. 23505 and 23503: two requests crossed."""
    if sqlstate.startswith("22"):
        log.warning("value_refused_by_database", sqlstate=sqlstate, error=type(error).__name__)
        return ValidationFailed()
    if sqlstate in {"23505", "23503"}:
        log.warning("row_refused_by_database", sqlstate=sqlstate, constraint=getattr(error, "constraint_name", None))
        return Conflict()
    return None
