"""Requests become structs, or errors that name each field."""

from uuid import UUID

import pytest
from multidict import MultiDict

from koinonia.api import auth, billing, groups, members, messages
from koinonia.api.members import MemberQuery, MemberRequest
from koinonia.errors import NotFound, ValidationFailed
from koinonia.web import decoding


def fields(refused: pytest.ExceptionInfo[ValidationFailed]) -> dict[str, str]:
    return {detail.field: detail.message for detail in refused.value.details}


def test_all_wrong_fields_are_named_at_once() -> None:
    raw = b'{"lastName": 5, "phone": "1", "groupIds": ["no"], "customFields": {"a": 1, "b": "", "c": []}, "extra": 1}'
    with pytest.raises(ValidationFailed) as refused:
        decoding.body(members.CREATE, raw, "application/json")
    assert set(fields(refused)) == {
        "firstName", "lastName", "phone", "groupIds[0]", "customFields.a", "customFields.c", "extra",
    }  # fmt: skip
    assert fields(refused)["firstName"] == "Required"
    assert fields(refused)["extra"] == "Unknown field"


def test_a_name_that_a_field_cannot_have_is_told_of_what_it_stands_in() -> None:
    raw = b'{"firstName": "Anna", "phone": "3125550142", "customFields": {"%s": "x"}}' % (b"k" * 65)
    with pytest.raises(ValidationFailed) as refused:
        decoding.body(members.CREATE, raw, "application/json")
    assert fields(refused) == {"customFields": "A name in it must have at most 64 characters"}


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"5", b"null"])
def test_a_body_that_is_no_object_is_refused_as_a_whole(raw: bytes) -> None:
    with pytest.raises(ValidationFailed) as refused:
        decoding.body(members.CREATE, raw, "application/json")
    assert set(fields(refused)) == {"body"}


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "text/csv"],
)
def test_another_content_type_is_refused(content_type: str | None) -> None:
    with pytest.raises(ValidationFailed) as refused:
        decoding.body(auth.LOGIN, b'{"email": "a@b.co", "password": "x"}', content_type)
    assert set(fields(refused)) == {"Content-Type"}


def test_a_charset_of_utf_8_may_be_said() -> None:
    body = decoding.body(members.CREATE, b'{"firstName": "A", "phone": "123"}', 'Application/JSON; charset="UTF-8"')
    assert body == MemberRequest(first_name="A", phone="123")


def test_the_charset_of_a_table_is_not_what_is_said_of_it() -> None:
    assert decoding.media_type(members.IMPORT, "Text/CSV; charset=windows-1252") == "text/csv"
    with pytest.raises(ValidationFailed):
        decoding.media_type(members.IMPORT, "application/json; charset=utf-16")


def test_a_route_without_a_body_takes_none() -> None:
    assert decoding.body(messages.CANCEL, b" {} ", None) is None
    with pytest.raises(ValidationFailed) as refused:
        decoding.body(messages.CANCEL, b'{"really": true}', "application/json")
    assert set(fields(refused)) == {"body"}


def test_a_query_is_read_from_its_texts() -> None:
    values = MultiDict(limit="5", optIn="true", groupId=str(UUID(int=7)))
    assert decoding.query(members.LIST, values) == MemberQuery(limit=5, opt_in=True, group_id=UUID(int=7))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (MultiDict(limit="0"), "limit"),
        (MultiDict(limit="101"), "limit"),
        (MultiDict(limit="5.5"), "limit"),
        (MultiDict(limit="9" * 5000), "limit"),
        (MultiDict(optIn="perhaps"), "optIn"),
        (MultiDict(groupId="7"), "groupId"),
        (MultiDict(search="a\x00"), "search"),
        (MultiDict(search=""), "search"),
        (MultiDict(cursor=""), "cursor"),
        (MultiDict(offset="5"), "offset"),
        (MultiDict(optIn="null"), "optIn"),
        (MultiDict(groupId="NULL"), "groupId"),
        (MultiDict([("limit", "5"), ("limit", "6")]), "limit"),
    ],
)
def test_a_wrong_query_is_refused_by_name(values: MultiDict[str], field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        decoding.query(members.LIST, values)
    assert set(fields(refused)) == {field}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"from": "2026-02-01", "to": "2026-01-01"}, "to"),
        ({"from": "1969-12-31"}, "from"),
        ({"to": "0001-01-01"}, "to"),
    ],
)
@pytest.mark.asvs("v5.0.0-2.2.3")
def test_a_range_of_days_is_checked_as_a_whole(values: dict[str, str], field: str) -> None:
    query = decoding.query(billing.GET_USAGE, MultiDict(values))
    with pytest.raises(ValidationFailed) as refused:
        decoding.check(query)
    assert set(fields(refused)) == {field}


@pytest.mark.parametrize(
    "text", ["7", "", "x" * 36, "0196f5b07c007a618f0c3d1f5a9e2b10", "{0196f5b0-7c00-7a61-8f0c-3d1f5a9e2b10}"]
)
def test_an_id_that_is_none_names_nothing(text: str) -> None:
    with pytest.raises(NotFound):
        decoding.path_ids(groups.GET, {"id": text})
