"""Telnyx's error answers."""

from typing import TypeVar

import msgspec
from aiohttp import web

_Body = TypeVar("_Body")


class TelnyxError(Exception):
    """An answer other than 2xx, as Telnyx words it."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        pointer: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.error: dict[str, object] = {"code": code, "title": title, "detail": detail or title}
        if pointer is not None:
            self.error["source"] = {"pointer": pointer}
        self.error["meta"] = {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"}

    def response(self) -> web.Response:
        """The HTTP answer."""
        answer = json_answer({"errors": [self.error]}, self.status)
        if self.retry_after_seconds is not None:
            answer.headers["Retry-After"] = str(self.retry_after_seconds)
        return answer


def json_answer(body: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def not_found() -> TelnyxError:
    """The path or the id is not known."""
    return TelnyxError(404, "10005", "Resource not found", "The requested resource or URL could not be found.")


def malformed(detail: str) -> TelnyxError:
    """The request cannot be read."""
    return TelnyxError(400, "10015", "Bad Request", detail)


def missing(pointer: str) -> TelnyxError:
    """A required field is not there."""
    return TelnyxError(400, "10004", "Missing required parameter", f"{pointer[1:]} is required.", pointer=pointer)


def decode(body: bytes, kind: type[_Body]) -> _Body:
    """Read a request's body.

    Raises:
        TelnyxError: it is no JSON (10015) or a field has another type (10023, with its pointer).
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        # "Expected `str`, got `int` - at `$.to`"
        what, _, where = str(error).partition(" - at `$.")
        pointer = "/" + where.rstrip("`").replace(".", "/") if where else None
        raise TelnyxError(400, "10023", "Invalid parameter type", what, pointer=pointer) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise malformed("The request failed because it was not well-formed.") from None
