"""Errors of fields, in words that people read."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from koinonia.api.common import EmailAddress
from koinonia.errors import ValidationFailed
from koinonia.validation import convert, in_words

_ZONE = "Must have a time zone, as in 2026-11-22T15:30:00Z"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (str, 1, "Must be text"),
        (int, "x", "Must be a whole number"),
        (int | None, "x", "Must be a whole number"),
        (float, "x", "Must be a number"),
        (bool, "yes", "Must be true or false"),
        (list[int], {}, "Must be a list"),
        (dict[str, str], 1, "Must be an object"),
        (Annotated[str, Meta(min_length=1)], "", "Must have at least 1 character"),
        (Annotated[str, Meta(max_length=2)], "aaa", "Must have at most 2 characters"),
        (Annotated[list[int], Meta(max_length=1)], [1, 2], "Must have at most 1 entry"),
        (Annotated[list[int], Meta(min_length=2)], [1], "Must have at least 2 entries"),
        (Annotated[int, Meta(ge=1)], 0, "Must be at least 1"),
        (Annotated[int, Meta(le=100)], 101, "Must be at most 100"),
        (Annotated[str, Meta(pattern=r"\S")], " ", "Must not be blank"),
        (EmailAddress, "anna", "Must be an e-mail address"),
        (Annotated[str, Meta(pattern=r"^a$")], "b", "Is malformed"),
        (UUID, "x", "Must be a UUID"),
        (datetime, "x", "Must be a time such as 2026-11-22T15:30:00Z"),
        (date, "x", "Must be a date such as 2026-11-22"),
        (
            Annotated[datetime, Meta(tz=True)],
            "2026-11-22T15:30:00",
            "Must have a time zone, as in 2026-11-22T15:30:00Z",
        ),
        (Literal["a", "b"], "+12055550100", "Is none of the allowed values"),
    ],
)
def test_an_error_is_told_in_words(kind: Any, value: object, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, kind)
    assert in_words(str(raised.value)) == words


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Outer(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    first_name: str
    inner: list[Inner] = []
    count: int = 0


def test_every_wrong_field_is_named_with_its_path() -> None:
    value = {"count": "x", "inner": [{"size": 1}, {"size": "y"}], "colour": 1}
    with pytest.raises(ValidationFailed) as raised:
        convert(value, Outer)
    assert {(each.field, each.message) for each in raised.value.details} == {
        ("firstName", "Required"),
        ("inner[1].size", "Must be a whole number"),
        ("count", "Must be a whole number"),
        ("colour", "Unknown field"),
    }


@pytest.mark.parametrize(
    ("inner", "field", "message"),
    [({}, "inner[0].size", "Required"), ({"size": 1, "x": 1}, "inner[0].x", "Unknown field")],
)
def test_a_field_deep_inside_is_named(inner: object, field: str, message: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        convert({"firstName": "a", "inner": [inner]}, Outer)
    assert [(each.field, each.message) for each in raised.value.details] == [(field, message)]


def test_what_is_no_object_is_named_as_the_whole() -> None:
    with pytest.raises(ValidationFailed) as raised:
        convert([], Outer)
    assert [(each.field, each.message) for each in raised.value.details] == [("body", "Must be an object")]


def test_what_is_right_is_converted() -> None:
    assert convert({"firstName": "a", "inner": [{"size": 1}]}, Outer) == Outer("a", [Inner(1)])
