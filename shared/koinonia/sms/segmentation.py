"""How a carrier cuts a text into segments, which is what it bills."""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

Encoding = Literal["GSM-7", "UCS-2"]

MOST_SEGMENTS = 10

# The carrier's reduced GSM-7: the default alphabet without its Greek capitals, and without Ç and ¤.
# Source: developers.telnyx.com, docs/messaging/messages/message-encoding (read 2026-11).
ONE_SEPTET = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    " \n\r!\"#$%&'()*+,-./:;<=>?@_£¥èéùìòØøÅåÆæßÉ¡ÄÖÑÜ§¿äöñüà"
)
TWO_SEPTETS = "\f^{}\\[~]|€"

_GSM = re.compile(f"[{re.escape(ONE_SEPTET + TWO_SEPTETS)}]*")
_EXTENDED = re.compile(f"[{re.escape(TWO_SEPTETS)}]")
_ESCAPE = "\x1b"  # never in a text: the alphabet above lacks it


class Segmentation(msgspec.Struct, frozen=True):
    """How a text travels; ``units`` are septets in GSM-7 and UTF-16 units in UCS-2, headers not counted."""

    encoding: Encoding
    segments: int
    units: int


def is_gsm(text: str) -> bool:
    """Whether every character is in the carrier's GSM-7."""
    return _GSM.fullmatch(text) is not None


def units(text: str, encoding: Encoding) -> int:
    """The length of ``text`` in septets or UTF-16 units; a text for GSM-7 must be of that alphabet."""
    if encoding == "GSM-7":
        return len(text) + len(_EXTENDED.findall(text))
    return len(text) + sum(1 for character in text if character > "\uffff")


def segments(text: str) -> Segmentation:
    """Count the SMS segments a carrier bills for ``text``; none for an empty one.

    160 septets of GSM-7 fit one segment, 153 each of several; one character outside GSM-7 makes it 70 and 67 UTF-16
    units. Characters of the extension table, such as € and [, take two septets. They and surrogate pairs are not split
    across segments, so a segment may stay a unit short.

    Source: 3GPP TS 23.038, 6.2.1 and 6.2.1.1; TS 23.040, 9.2.3.24.1.
    """
    if is_gsm(text):
        length = units(text, "GSM-7")
        return Segmentation("GSM-7", _gsm_segments(text, length), length)
    length = units(text, "UCS-2")
    return Segmentation("UCS-2", _ucs_segments(text, length), length)


def _gsm_segments(text: str, length: int) -> int:
    if length <= 160:
        return 1 if length else 0
    if length == len(text):
        return -(-length // 153)
    septets = _EXTENDED.sub(_ESCAPE + ".", text)
    return _packed(length, 153, lambda last: septets[last] == _ESCAPE)


def _ucs_segments(text: str, length: int) -> int:
    if length <= 70:
        return 1
    if length == len(text):
        return -(-length // 67)
    pairs = "".join("hl" if character > "\uffff" else "." for character in text)
    return _packed(length, 67, lambda last: pairs[last] == "h")


def _packed(length: int, capacity: int, opens_pair: Callable[[int], bool]) -> int:
    # Greedy: fill each segment, and leave its last unit empty where that would begin a pair.
    count, start = 0, 0
    while start < length:
        end = start + capacity
        if end < length and opens_pair(end - 1):
            end -= 1
        start, count = end, count + 1
    return count
