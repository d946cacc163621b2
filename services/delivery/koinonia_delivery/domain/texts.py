"""A recipient's text as it will go out: rendered, counted, and whether it goes at all."""

from collections.abc import Mapping, Sequence

import msgspec

from koinonia.sms import Encoding, render, segments

LEFT_OUT_SENTENCES = {
    "no_consent": "This person has not agreed to get texts.",
    "suppressed": "This person has opted out.",
    "weekly_limit": "This person has had as many texts this week as the church allows.",
}


class Rendered(msgspec.Struct, frozen=True):
    """A text for one person."""

    text: str
    encoding: Encoding
    segments: int


def render_text(content: str, fields: Mapping[str, str], media_urls: Sequence[str]) -> Rendered:
    """Fill a text's fields and count what the carrier bills; with pictures it is one segment, whatever its length."""
    return whole_text(render(content, fields), media_urls)


def whole_text(text: str, media_urls: Sequence[str]) -> Rendered:
    """Count what the carrier bills for a text that is whole: what looks like a field in it stays as it is.

    Source: messaging facts, section 2 (an MMS counts as one part).
    """
    counted = segments(text)
    return Rendered(text, counted.encoding, 1 if media_urls else max(counted.segments, 1))
