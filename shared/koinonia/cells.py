"""Cells of tables that a spreadsheet would run as formulas: written so that it shows them, and read back.

Source: OWASP, "CSV Injection"; full-width signs count as their plain ones.
"""

import re

FORMULA_STARTS = "=+-@\t\r\n＝＋－＠"
_RUNS = re.compile(rf"'*[{re.escape(FORMULA_STARTS)}]")
_WAS_GUARDED = re.compile(rf"'+[{re.escape(FORMULA_STARTS)}]")


def guarded(text: str) -> str:
    """The text as a cell that no spreadsheet runs: an apostrophe before what would begin a formula.

    A phone's ``+`` has one too. ``unguarded`` takes it away again, so that an export can be imported.
    """
    return f"'{text}" if _RUNS.match(text) else text


def unguarded(cell: str) -> str:
    """What ``guarded`` was given."""
    return cell[1:] if _WAS_GUARDED.match(cell) else cell
