"""How many parts a text has, counted as the carrier counts: on its own, so that our count has something to agree with.

Source: developers.telnyx.com, docs/messaging/messages/message-encoding. Its GSM-7 alphabet lacks Greek, Ç and ¤.
"""

from collections.abc import Callable
from functools import lru_cache

_BASIC = frozenset(
    "@£$¥èéùìò\nØø\rÅå_ÆæßÉ !\"#%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPED = frozenset("^{}\\[]~|€\f")
_GSM7 = _BASIC | _ESCAPED


@lru_cache(maxsize=4096)
def encode(text: str, wanted: str = "auto") -> tuple[str, int] | None:
    """The encoding and the number of parts; None when ``gsm7`` is wanted and cannot be."""
    fits_gsm7 = _GSM7.issuperset(text)
    if wanted == "gsm7" and not fits_gsm7:
        return None
    if fits_gsm7 and wanted != "ucs2":
        return "GSM-7", _pack(text, lambda character: 2 if character in _ESCAPED else 1, 160, 153)
    return "UCS-2", _pack(text, lambda character: 2 if ord(character) > 0xFFFF else 1, 70, 67)


def _pack(text: str, width: Callable[[str], int], alone: int, each: int) -> int:
    """Fill part by part; a character of two units is not split between parts."""
    widths = [width(character) for character in text]
    if sum(widths) <= alone:
        return 1
    parts, free = 1, each
    for needed in widths:
        if needed > free:
            parts, free = parts + 1, each
        free -= needed
    return parts
