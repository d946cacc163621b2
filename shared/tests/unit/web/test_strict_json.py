"""JSON that has more than one reading, or that something behind us would choke on, is refused with its path."""

import json
import time

import pytest

from koinonia.errors import ValidationFailed
from koinonia.web import strict_json


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"{}{}", "body"),
        (b"{'a': 1}", "body"),
        (b'{"a": 1,}', "body"),
        (b'{"a": 1, "a": 2}', "body"),
        (b'{"a": {"b": 1, "b": 1}}', "body"),
        (b'{"a": NaN}', "body"),
        (b'{"a": -Infinity}', "body"),
        (b'{"a": 1e999}', "body"),
        (b'{"a": ' + b"9" * 5000 + b"}", "body"),
        (b'{"a": 0.' + b"9" * 5000 + b"e99999}", "body"),
        (b'{"a": "\xff"}', "body"),
        ('{"a": "é"}'.encode("utf-16"), "body"),
        ('{"a": "é"}'.encode("latin-1"), "body"),
        (b"\xef\xbb\xbf{}", "body"),
        (b'{"a": "tab\there"}', "body"),
        (b'{"a": "\\u0000"}', "a"),
        (b'{"a": {"b": ["x", "\\ud800"]}}', "a.b[1]"),
        (b'{"a": {"b\\u0000": 1}}', "a"),
        (b'{"b\\udfff": 1}', "body"),
        (b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}", "a"),
        (b"[" * 5000 + b"]" * 5000, "body"),
        (b'{"a":' * 100_000, "body"),
    ],
)
def test_rubbish_is_refused_with_its_path(raw: bytes, field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        strict_json.loads(raw)
    assert [detail.field for detail in refused.value.details] == [field]


def test_what_is_plain_json_is_taken() -> None:
    deep = "x"
    for _ in range(31):
        deep = [deep]  # type: ignore[assignment]
    value = {"a": [1, 2.5, None, True, "é 😀"], "b": {"c": deep[0]}}
    assert strict_json.loads(json.dumps(value).encode()) == value
    assert strict_json.loads(json.dumps({"a": deep}).encode()) == {"a": deep}


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "😀"


def test_a_large_import_is_read_within_seconds() -> None:
    row = {"firstName": "Anna", "lastName": "Lee", "phone": "+13125550142", "optInSms": True}
    raw = json.dumps({"members": [row] * 10_000}).encode()
    started = time.process_time()
    strict_json.loads(raw)
    assert time.process_time() - started < 5
