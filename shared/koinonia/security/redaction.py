"""Redaction: the last look at what is logged. No phone, e-mail or secret passes, wherever it hides.

Log lines hold ids in the first place; this is the net below. It takes what looks like a number or an address out of
every text, and the whole value where the key says what it is. Ids, times, counts and hex digests survive. The message
of an exception may hold any value of a row or an event, so only an ``Outspoken`` one's is shown.
"""

import re
import traceback
from collections.abc import Mapping, MutableMapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

from structlog.processors import ExceptionRenderer
from structlog.typing import ExcInfo

from koinonia.errors import Outspoken

HIDDEN = "[redacted]"

_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?"
_HEX = r"(?=[0-9]*[a-fA-F])[0-9a-fA-F]{16,}(?![0-9A-Za-z])"
_PLUS = r"(?:\+|%2[Bb]|\\u002[Bb]|\\x2[Bb])"
_GAP = r"[-.\s/\u2010-\u2015]"

# One pass, first alternative first: what may stay is consumed as a whole, so that no part of it looks like a number.
_PATTERN = re.compile(
    rf"""
    (?P<keep> (?<![0-9A-Za-z]) (?: {_UUID} (?![0-9A-Za-z]) | {_TIME} (?!\d) | {_HEX} ) )
  | (?P<credentials> (?<=://) [^\s/:@]* : [^\s/@]+ (?=@) )
  | (?P<email> (?!') [\w.!\#$%&'*+=?^`{{|}}~-]{{1,64}} (?:@|%40) (?:[\w-]{{1,63}}\.){{1,8}} [^\W\d_]{{2,63}} )
  | (?P<key> \b(?: koi_(?:live|test)_\w+ | KEY[0-9A-Fa-f]{{20,}}\w* | (?:sk|rk|pk)_(?:live|test)_\w+ | whsec_[\w+/=]+
                 | SG\.[\w-]{{16,}}\.[\w-]+ | eyJ[\w-]+\.[\w-]+\.[\w-]* ) )
  | (?P<bearer> (?<=[Bb]earer\s) [^\s"',;]+ )
  | (?P<international> {_PLUS} [\s(]? [1-9] (?: [-\s().\u2010-\u2015]{{0,2}} \d ){{6,14}} (?!\d) )
  | (?P<national>
        (?<!\d)(?<!\d\.) (?: 1 {_GAP}? )?
        (?: \( [2-9]\d\d \) {_GAP}? [2-9]\d\d {_GAP}? \d{{4}}
          | [2-9]\d\d {_GAP} [2-9]\d\d {_GAP} \d{{4}}
          | [2-9]\d\d [2-9]\d{{6}} )
        (?!\d)(?!\.\d) )
    """,
    re.VERBOSE,
)
# What most values of a line are, a route or an event's name: whatever the pattern looks for has a digit, an @, a
# capital, a space or one of these marks of a key. To see that there is none costs less than to walk the pattern.
_BLAND = re.compile(r"(?!.*(?:_live_|_test_|whsec_))[a-z_/{}-]*")
_NAMES = {
    "credentials": HIDDEN,
    "email": "[email]",
    "key": "[key]",
    "bearer": "[key]",
    "international": "[phone]",
    "national": "[phone]",
}

# Keys whose values are private whatever they look like: names alone, and ends of names.
_PRIVATE_NAMES = frozenset({"text", "content", "body", "authorization", "cookie", "cookies", "signature", "otp"})
_PRIVATE_ENDS = (
    *("phone", "phonenumber", "email", "emailaddress", "password", "secret", "token", "apikey", "authorization"),
    *("cookie", "recoverycode", "firstname", "lastname", "fullname", "passphrase"),
    *("privatekey", "secretkey", "signingkey", "encryptionkey", "tokenkey", "indexkey", "keys"),
)
_SAFE = (bool, int, float, UUID, date, time, timedelta, Decimal, type(None))
_DEEPEST = 12
_STACK_FRAMES = 30
_MOST_CAUSES = 10


def redact(text: str) -> str:
    """The text without phones, e-mails, keys and passwords in URLs."""
    return text if _BLAND.fullmatch(text) else _PATTERN.sub(_replacement, text)


def redact_value(value: object, depth: int = 0) -> object:
    """The value without them, containers copied; anything but plain values and containers becomes its redacted text."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return redact(value)
    if isinstance(value, _SAFE):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, BaseException):
        return describe(value)
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_redact_key(key): _by_key(key, item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [redact_value(item, depth + 1) for item in value]
    return redact(str(value) if isinstance(value, Enum) else repr(value))


def describe(error: BaseException) -> str:
    """What may be told of an error: class, SQLSTATE and constraint; of an ``Outspoken`` one, class and message."""
    name = type(error).__name__
    if isinstance(error, Outspoken):
        return redact(f"{name}: {error}")
    found = {"SQLSTATE": getattr(error, "sqlstate", None), "constraint": getattr(error, "constraint_name", None)}
    details = ", ".join(f"{key} {value}" for key, value in found.items() if isinstance(value, str))
    return redact(f"{name} ({details})" if details else name)


def stack_of(error: BaseException) -> str:
    """Where the error arose: ``file:line function`` per frame, innermost last, without source lines or values."""
    frames = traceback.extract_tb(error.__traceback__)[-_STACK_FRAMES:]
    return "\n".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames)


def trace_of(error: BaseException, depth: int = 0) -> str:
    """The stack and description of an error, after those of what caused it and before those that it groups."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    grouped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    if depth == _MOST_CAUSES:
        cause, grouped = None, ()
    parts = [trace_of(cause, depth + 1), "which led to:"] if cause is not None else []
    parts += [part for part in (stack_of(error), describe(error)) if part]
    for each in grouped:
        parts += ["of which:", trace_of(each, depth + 1)]
    return "\n".join(parts)


def _short(path: str) -> str:
    return "/".join(path.split("/")[-3:])


def _format_exception(exc_info: ExcInfo) -> str:
    return trace_of(exc_info[1])


_write_exception = ExceptionRenderer(_format_exception)


def redact_event(logger: Any, method_name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog's processor: the event with every value redacted, its exception written out by ``trace_of``.

    It comes last before the renderer; processors after it are not looked at.
    """
    event = _write_exception(logger, method_name, event)
    return {key: _by_key(key, value, 0) for key, value in event.items()}


def _by_key(key: object, value: object, depth: int) -> object:
    if isinstance(key, str) and _is_private(key) and not isinstance(value, bool | None):
        return HIDDEN
    return redact_value(value, depth)


def _redact_key(key: object) -> object:
    return key if isinstance(key, _SAFE) else redact(str(key))


@lru_cache(maxsize=1024)  # most keys are written in the code, and come with every line
def _is_private(key: str) -> bool:
    name = key.casefold().replace("_", "").replace("-", "")
    return name in _PRIVATE_NAMES or name.endswith(_PRIVATE_ENDS)


def _replacement(match: re.Match[str]) -> str:
    return match[0] if match.lastgroup == "keep" else _NAMES[match.lastgroup or ""]
