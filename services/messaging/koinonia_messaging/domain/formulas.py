"""Cells that a spreadsheet would run, made harmless where they come in."""

import re

from koinonia.cells import FORMULA_STARTS

_NUMBER = re.compile(r"[+-]?[\d\s.,()/-]+")


def harmless(text: str) -> str:
    """The text without what would make a spreadsheet run it as a formula when it is exported again; numbers stay."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return text
    return text.lstrip(FORMULA_STARTS + " ")
