"""CSV for spreadsheets: nothing in it is run."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import spreadsheets


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x")', "+1", "-1+2", "@SUM(A1)", "\t=1", "  =1", "＝1", "\r=1"])
def test_formulas_become_text(text: str) -> None:
    (row,) = csv.reader(io.StringIO(spreadsheets.lines([[text]]), newline=""))
    assert row == [f"'{text}"]


def test_numbers_nothing_and_plain_text_stay() -> None:
    assert spreadsheets.lines([["a=b", -5, None, 'say "x", y']]) == 'a=b,-5,,"say ""x"", y"\r\n'


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2)))
def test_what_was_written_is_read(rows: list[list[str]]) -> None:
    read = list(csv.reader(io.StringIO(spreadsheets.lines(rows), newline="")))
    assert [[cell.removeprefix("'") for cell in row] for row in read] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]
