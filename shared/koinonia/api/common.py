"""What the nouns of the public contract share: bases, bounded text, pages, errors, examples."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, get_args, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from koinonia.errors import FieldError

Role = Literal["owner", "admin", "sender", "viewer"]
ItemT = TypeVar("ItemT")

ShortText = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
LongText = Annotated[str, Meta(max_length=1000)]
EmailAddress = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$(?!\n)")]
PhoneText = Annotated[
    str, Meta(min_length=3, max_length=32, description="Any usual form of a US number; E.164 from elsewhere")
]
Limit = Annotated[int, Meta(ge=1, le=100, description="How many at most")]
CursorText = Annotated[str, Meta(min_length=1, max_length=1000, description="`nextCursor` of the page before")]
TextContent = Annotated[
    str, Meta(min_length=1, max_length=1600, pattern=r"\S", description="At most 10 segments once filled in")
]
IdList = Annotated[list[UUID], Meta(min_length=1, max_length=500)]

EXAMPLE_ID = UUID("0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10")
EXAMPLE_OTHER_ID = UUID("0196f5b0-7c01-7b52-9a1d-4c2e6b8f3a21")
EXAMPLE_TIME = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A body that a client sends. Unknown fields are refused."""

    @classmethod
    def example(cls) -> Self:
        """A valid one, for the API page and the tests."""
        raise NotImplementedError(cls.__name__)

    def check(self) -> Iterator[FieldError]:
        """What is wrong beyond the types of single fields; the door refuses the request when anything is."""
        yield from ()


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The query string of a request. Unknown and repeated names are refused."""

    def check(self) -> Iterator[FieldError]:
        """What is wrong beyond the types of single fields."""
        yield from ()


class NoQuery(Query, frozen=True, kw_only=True):
    """No parameters."""


class PageQuery(Query, frozen=True, kw_only=True):
    """A page of a list."""

    limit: Limit = 20
    cursor: CursorText | None = None


class TestableQuery(PageQuery, frozen=True, kw_only=True):
    """A page of what was sent, or (``test``) of what was sent with a test key: the two are never in one list."""

    __test__ = False  # no test of pytest's

    test: Annotated[bool, Meta(description="Unless given: whether a test key asks")] | None = None


class Response(Struct, frozen=True, kw_only=True, rename="camel"):
    """A body that the platform answers."""

    @classmethod
    def example(cls) -> Self:
        """A likely one, for the API page and the tests."""
        raise NotImplementedError(cls.__name__)


class Page(Struct, Generic[ItemT], frozen=True, kw_only=True, rename="camel"):
    """A page of a list, newest first unless the path says otherwise."""

    data: list[ItemT]
    has_more: bool
    next_cursor: str | None


class ErrorBody(Response, frozen=True, kw_only=True):
    """What went wrong."""

    code: str
    message: str
    details: list[FieldError]
    request_id: str


class ErrorResponse(Response, frozen=True, kw_only=True):
    """Every error's shape."""

    error: ErrorBody


def example_of(kind: Any) -> Any:
    """The example of a struct, or a page with one."""
    if get_origin(kind) is Page:
        return Page(data=[example_of(get_args(kind)[0])], has_more=False, next_cursor=None)
    return kind.example()


def zone_errors(field: str, name: str) -> Iterator[FieldError]:
    """One error when ``name`` is no IANA time zone."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        yield FieldError(field, "No such IANA time zone")
