"""CSV that a spreadsheet shows and never runs: cells that it would take for formulas begin with an apostrophe."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that Excel, LibreOffice and their likes calculate (OWASP, CSV injection); full-width forms included."""


def lines(rows: Iterable[Sequence[str | int | float | None]]) -> str:
    """Rows as CSV (RFC 4180: comma, quotes where needed, CRLF); None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: str | int | float | None) -> str | int | float | None:
    harmful = isinstance(value, str) and value.lstrip(" ").startswith(_FORMULAS)
    return f"'{value}" if harmful else value
