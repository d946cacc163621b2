"""What kind of sender a phone number is."""

import re
from typing import Literal

_TOLL_FREE = re.compile(r"\+18(00|33|44|55|66|77|88)")
_SHORT_CODE = re.compile(r"[0-9]{5,6}")


def kind_of(phone: str) -> Literal["long_code", "toll_free", "short_code"]:
    """The kind of a US number: its area code tells toll-free ones, its length short codes."""
    if _SHORT_CODE.fullmatch(phone):
        return "short_code"
    return "toll_free" if _TOLL_FREE.match(phone) else "long_code"
