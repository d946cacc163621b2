"""Cells that no spreadsheet runs."""

import pytest

from koinonia.cells import guarded


@pytest.mark.parametrize(
    "text", ["=1+1", "+13125550142", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''+1"]
)
def test_what_would_begin_a_formula_is_text(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "Anna", "O'Neil", "'n Sync", "a=b", " =1"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text
