"""From plain values to structs, with every error that can be named: its field, and words that people read."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from koinonia.errors import FieldError, ValidationFailed

WHOLE = "body"
MAX_REPORTED = 50

_WITH_PATH = re.compile(r"^(?P<message>.*) - at `(?P<path>[^`]*)`$", re.DOTALL)
_OF_NAME = re.compile(r"^(?P<message>.*) - at `key` in `(?P<path>[^`]*)`$", re.DOTALL)
_ENTRY = "[...]"  # how msgspec writes any entry of an object
_NAMED = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(?P<type>[^`]*)`(?P<rule>.*)$", re.DOTALL)
_LENGTH = re.compile(r"^ of length (?P<sign>[<>])= (?P<count>\d+)$")
_RANGE = re.compile(r"^ (?P<sign>[<>])= (?P<count>\S+)$")

_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a time such as 2026-11-22T15:30:00Z",
    "date": "a date such as 2026-11-22",
}
_OTHERS = {
    "Invalid UUID": "Must be a UUID",
    "Invalid RFC3339 encoded datetime": f"Must be {_KINDS['datetime']}",
    "Invalid RFC3339 encoded date": f"Must be {_KINDS['date']}",
}


def convert(value: Any, kind: Any, *, strict: bool = True) -> Any:
    """The value as a struct.

    Raises:
        ValidationFailed: every field that is wrong, each with one error.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        details = list(_field_errors(value, kind, strict=strict)) or [field_error(str(error))]
        raise ValidationFailed(details=details[:MAX_REPORTED]) from None


def in_words(message: str) -> str:
    """msgspec's "Expected `str` of length >= 1" as "Must have at least 1 character"; never a value of the client's."""
    if message.startswith("Invalid enum value"):
        return "Is none of the allowed values"
    expected = _EXPECTED.match(message)
    if expected is None:
        return _OTHERS.get(message, message)
    wanted, rule = expected["type"].removesuffix(" | null"), expected["rule"]
    if length := _LENGTH.match(rule):
        unit = "character" if wanted == "str" else "entry" if wanted == "array" else "field"
        count = int(length["count"])
        plural = "" if count == 1 else "s"
        unit = "entries" if unit == "entry" and plural else unit + plural
        return f"Must have at {'least' if length['sign'] == '>' else 'most'} {count} {unit}"
    if bound := _RANGE.match(rule):
        return f"Must be at {'least' if bound['sign'] == '>' else 'most'} {bound['count']}"
    if rule.startswith(" matching regex"):
        return "Must be an e-mail address" if "@" in rule else "Must not be blank" if r"\S" in rule else "Is malformed"
    if rule.startswith(" with a timezone"):
        return "Must have a time zone, as in 2026-11-22T15:30:00Z"
    return f"Must be {_KINDS.get(wanted, wanted)}"


def _field_errors(value: Any, kind: Any, *, strict: bool) -> Iterator[FieldError]:
    """msgspec stops at the first error: convert field by field, so that a form shows them all."""
    if not isinstance(value, dict):
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in value.keys() - fields.keys():
        yield FieldError(str(name)[:64], "Unknown field")
    for name, field in fields.items():
        if name in value:
            try:
                msgspec.convert(value[name], field.type, strict=strict)
            except msgspec.ValidationError as error:
                found = field_error(str(error), name)
                is_entry = found.field.startswith(f"{name}{_ENTRY}")
                yield from _entry_errors(name, value[name], field.type, strict=strict) if is_entry else [found]
        elif field.required:
            yield FieldError(name, "Required")


def _entry_errors(name: str, value: dict[str, Any], kind: Any, *, strict: bool) -> Iterator[FieldError]:
    """msgspec does not say which entry of an object with any names is wrong: each is converted alone."""
    for key, each in value.items():
        try:
            msgspec.convert({key: each}, kind, strict=strict)
        except msgspec.ValidationError as error:
            found = field_error(str(error), name)
            yield FieldError(found.field.replace(_ENTRY, f".{key[:64]}", 1), found.message)


def field_error(text: str, prefix: str = "") -> FieldError:
    """Turn msgspec's "Expected `int`, got `str` - at `$.a[0]`" into its path and message."""
    if of_name := _OF_NAME.match(text):
        words = in_words(of_name["message"])
        return FieldError(prefix + of_name["path"].removeprefix("$"), f"A name in it {words[0].lower()}{words[1:]}")
    with_path = _WITH_PATH.match(text)
    message = with_path["message"] if with_path else text
    path = prefix + (with_path["path"].removeprefix("$") if with_path else "")
    named = _NAMED.match(message)
    if named:
        path = f"{path}.{named['name'][:64]}"
        message = "Required" if named["what"] == "missing required" else "Unknown field"
    return FieldError(path.lstrip(".") or WHOLE, in_words(message))
