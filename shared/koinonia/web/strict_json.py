"""JSON as the platform takes it: one reading only, bounded, and nothing that Postgres or the next reader would refuse.

The standard library's scanner is used because it can be told of duplicate keys and constants, which msgspec cannot;
msgspec then converts what came out.
"""

import json
import math
import re
from typing import Any, NoReturn

from koinonia.errors import FieldError, ValidationFailed
from koinonia.validation import WHOLE

MAX_DEPTH = 32

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Refused(ValueError):
    """A value that JSON, or we, do not know; the message names it."""


def loads(raw: bytes) -> Any:
    """Parse a UTF-8 body.

    Raises:
        ValidationFailed: not UTF-8, not JSON, nested deeper than 32, a repeated key, NaN or Infinity, a number out of
            range, NUL or half a surrogate pair in a text. The field is its path, or ``body`` for the whole.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_int,
        )
    except UnicodeDecodeError:
        raise ValidationFailed.field(WHOLE, "Must be UTF-8") from None
    except _Refused as refused:
        raise ValidationFailed.field(WHOLE, str(refused)) from None
    except json.JSONDecodeError as error:
        message = f"Not valid JSON at line {error.lineno}, column {error.colno}"
        raise ValidationFailed.field(WHOLE, message) from None
    except RecursionError:
        raise ValidationFailed.field(WHOLE, f"Nested deeper than {MAX_DEPTH}") from None
    _check_values(value)
    return value


def text_error(text: str) -> str | None:
    """Why a text cannot be taken: it would not survive being stored or encoded."""
    if "\x00" in text:
        return "Must not contain NUL"
    if _SURROGATE.search(text):
        return "Must not contain half a surrogate pair"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("A key stands twice in one object")
    return found


def _constant(_name: str) -> NoReturn:
    raise _Refused("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("A number is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > 20:  # more than 64 bits: no field takes it, and turning it into an int costs its square
        raise _Refused("A number is out of range")
    return int(text)


def _check_values(value: Any) -> None:
    pending: list[tuple[str, int, Any]] = [("", 1, value)]
    while pending:
        path, depth, item = pending.pop()
        if isinstance(item, str):
            _check_text(path, item)
        elif isinstance(item, dict | list):
            if depth > MAX_DEPTH:
                raise ValidationFailed.field(_top(path), f"Nested deeper than {MAX_DEPTH}")
            pending.extend((child, depth + 1, inner) for child, inner in _children(path, item))


def _children(path: str, item: dict[str, Any] | list[Any]) -> list[tuple[str, Any]]:
    if isinstance(item, list):
        return [(f"{path}[{position}]", inner) for position, inner in enumerate(item)]
    for key in item:
        _check_text(path, key)
    return [(f"{path}.{key}" if path else key, inner) for key, inner in item.items()]


def _check_text(path: str, text: str) -> None:
    message = text_error(text)
    if message:
        raise ValidationFailed(details=[FieldError(path or WHOLE, message)])


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0] or WHOLE
