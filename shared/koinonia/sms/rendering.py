"""Fields in texts: ``{{firstName}}``, and ``{{firstName|friend}}`` with what stands in for a missing value.

A field is filled once: what looks like a field inside a value stays as it is. Anything that is not a well-formed field
is text.
"""

import re
from collections.abc import Collection, Mapping

from koinonia.sms.segmentation import ONE_SEPTET, Encoding, is_gsm, segments, units

LONGEST_VALUE = 100
"""A value is cut to this many characters, so that nobody's name makes a text ten segments long."""

_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_FIELD = re.compile(r"\{\{[ \t]*(?P<name>" + _NAME + r")[ \t]*(?:\|(?P<fallback>[^{}|]*))?\}\}")

# Controls, lone surrogates, and the marks that turn the reading direction of the text around them. The joiners inside
# emoji and in several scripts' names stay.
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_SPACES = re.compile(r"\s+")
_BREAKS = re.compile(r"[\s\x85\u2028\u2029]+")

# The dash comes last, where no regular expression takes it for a range; nothing else in there has a meaning in
# brackets.
PLAIN_PATTERN = "^[" + "".join(character for character in ONE_SEPTET if character not in "\n\r-") + "-]*$"
"""What ``is_plain`` tests, as Postgres' ``~`` understands it too."""
_PLAIN = re.compile(PLAIN_PATTERN.removeprefix("^").removesuffix("$"))


def render(template: str, fields: Mapping[str, str]) -> str:
    """Fill the fields of a text; one without a value gives its fallback, or nothing."""
    return _FIELD.sub(lambda field: clean_value(fields.get(field["name"], "")) or _fallback(field), template)


def field_names(template: str) -> tuple[str, ...]:
    """The names of the fields in a text, each once, in their order."""
    return tuple(dict.fromkeys(field["name"] for field in _FIELD.finditer(template)))


def without_fields(template: str) -> str:
    """What of a text is the same for everybody."""
    return _FIELD.sub("", template)


def unknown_fields(template: str, known: Collection[str]) -> tuple[str, ...]:
    """The fields of a text that are not among the known ones."""
    return tuple(name for name in field_names(template) if name not in known)


def clean_value(value: str) -> str:
    """A value as it goes into a text: one line, no control characters, at most ``LONGEST_VALUE`` characters."""
    if value.isascii() and value.isprintable() and len(value) <= LONGEST_VALUE and "  " not in value:
        return value.strip()
    one_line = _BREAKS.sub(" ", value)
    return _SPACES.sub(" ", _UNWANTED.sub("", one_line)).strip()[:LONGEST_VALUE].rstrip()


def is_plain(value: str) -> bool:
    """Whether each character of a value takes one septet of GSM-7, so that it changes nothing but a text's length."""
    return _PLAIN.fullmatch(value) is not None


def segment_bound(template: str, max_lengths: Mapping[str, int], plain: bool) -> int:
    """The most segments that any rendering of ``template`` can have: never below the true number.

    Args:
        max_lengths: the longest value of each field over the audience, in characters; a field that is not named has no
        value.
        plain: every value of the audience passes ``is_plain``; else one of them may hold an emoji.
    """
    fields = list(_FIELD.finditer(template))
    if not fields:
        return segments(template).segments
    lengths = [min(max(max_lengths.get(field["name"], 0), 0), LONGEST_VALUE) for field in fields]
    fallbacks = [_fallback(field) for field in fields]
    literal = without_fields(template)
    fixed = literal + "".join(fallbacks)
    plain = plain or not any(lengths)
    encoding: Encoding = "GSM-7" if plain and is_gsm(fixed) else "UCS-2"
    widest = 1 if plain else 2  # units of one character of a value
    most = units(literal, encoding) + sum(
        max(length * widest, units(fallback, encoding)) for length, fallback in zip(lengths, fallbacks, strict=True)
    )
    may_hold_pairs = not plain or units(fixed, encoding) > len(fixed)
    return _most_segments(most, *(_GSM_SIZES if encoding == "GSM-7" else _UCS_SIZES), may_hold_pairs)


_GSM_SIZES = (160, 153)
_UCS_SIZES = (70, 67)


def _most_segments(most: int, alone: int, each: int, may_hold_pairs: bool) -> int:
    if most <= alone:
        return 1
    # Packing leaves at most one unit of a segment empty, where a pair would be split.
    return -(-most // (each - 1 if may_hold_pairs else each))


def _fallback(field: re.Match[str]) -> str:
    return (field["fallback"] or "").strip()
