"""Smart encoding: typographic characters become those of GSM-7 that look alike.

One curly quote, pasted from a word processor, makes a text UCS-2 and takes more than half of a segment's room. Links
stay as they are, letter by letter: another dash is another page.
"""

import re
from collections import Counter

import msgspec

_ALIKE = {
    '"': "“”„‟«»″‶",
    "'": "‘’‚‛′‵`´ʼ‹›",
    "-": "‐‑‒–—―−",
    "*": "•‣∙",
    "/": "⁄∕",
    " ": "\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000",
    "\n": "\u2028\u2029",
}
_REMOVED = "\u00ad\u200b\u2060\ufeff"  # soft hyphen and spaces of no width; the joiners inside emoji stay

ELLIPSIS, DOTS = "…", "..."
"""The one character that becomes several."""
SMART_FROM = "".join(_ALIKE.values()) + _REMOVED
SMART_TO = "".join(plain * len(typographic) for plain, typographic in _ALIKE.items())
"""With ``SMART_FROM`` what Postgres' ``translate`` takes: what has no counterpart is removed."""
LINK_PATTERN = r"(https?://|www\.)"
"""A value that holds a link, for Postgres' ``~*`` too, is left alone as a whole."""

_TABLE: dict[int, str | int | None] = str.maketrans(SMART_FROM[: len(SMART_TO)], SMART_TO, _REMOVED) | {
    ord(ELLIPSIS): DOTS
}
# Up to a space or a quote that is none of a link's characters; a full stop or a quote at its end is the sentence's.
_LINK = re.compile(LINK_PATTERN + r"[^\s<>\"“”„«»…]*[^\s<>\"“”„«»….,;:!?'‘’)–—]", re.IGNORECASE)
_HAS_LINK = re.compile(LINK_PATTERN, re.IGNORECASE)
_FIELD_IN_LINK = re.compile(LINK_PATTERN + r"[^\s<>\"]*?\{\{", re.IGNORECASE)


class Replacement(msgspec.Struct, frozen=True):
    """A character that was replaced: by what (by nothing: it has no width), and how often."""

    character: str
    replacement: str
    count: int


def smart(text: str) -> str:
    """A text with its typographic characters replaced, but for those in links."""
    if text.isascii() and "\t" not in text and "`" not in text:
        return text
    return "".join(part if is_link else part.translate(_TABLE) for is_link, part in _parts(text))


def smart_value(value: str) -> str:
    """As ``smart``, for the value of a field; one that holds a link stays as it is."""
    return value if _HAS_LINK.search(value) else value.translate(_TABLE)


def replacements(text: str) -> tuple[Replacement, ...]:
    """What ``smart`` replaces in a text, each character once, in their order."""
    found = Counter(
        character for is_link, part in _parts(text) if not is_link for character in part if ord(character) in _TABLE
    )
    return tuple(Replacement(each, each.translate(_TABLE), count) for each, count in found.items())


def has_field_in_link(template: str) -> bool:
    """Whether a value would become part of a link, and could break it."""
    return _FIELD_IN_LINK.search(template) is not None


def _parts(text: str) -> list[tuple[bool, str]]:
    parts, end = [], 0
    for link in _LINK.finditer(text):
        parts += [(False, text[end : link.start()]), (True, link[0])]
        end = link.end()
    return [*parts, (False, text[end:])]
