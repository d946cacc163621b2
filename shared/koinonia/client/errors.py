"""What a call can end in, other than its answer."""

import msgspec

from koinonia.api import ErrorBody, ErrorResponse
from koinonia.errors import FieldError


class ApiError(Exception):
    """The platform refused a request, or could not carry it out."""

    def __init__(self, status: int, code: str, message: str, details: list[FieldError], request_id: str | None) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.request_id = request_id
        self.retry_after_seconds: float | None = None
        fields = ", ".join(f"{detail.field}: {detail.message}" for detail in details)
        super().__init__(f"{status} {code}: {message}" + (f" ({fields})" if fields else ""))

    @classmethod
    def of(cls, status: int, raw: bytes, request_id: str | None, retry_after: str | None = None) -> "ApiError":
        """From an answer; one that is not the platform's own (a proxy's page) has the code ``UNREADABLE``."""
        try:
            body = msgspec.json.decode(raw, type=ErrorResponse).error
        except msgspec.DecodeError:
            body = ErrorBody(code="UNREADABLE", message="Not an answer of the platform", details=[], request_id="")
        error = cls(status, body.code, body.message, body.details, request_id or body.request_id or None)
        if retry_after and retry_after.isdigit():
            error.retry_after_seconds = float(retry_after)
        return error
