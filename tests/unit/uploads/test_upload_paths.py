"""Which file names may be announced."""

import pytest

from core.uploads.paths import path_problem, path_problems


@pytest.mark.parametrize("path", ["a", "a/b.parquet", "ünïcode.json", "a b", "...", "a..b", ".hidden", "x" * 200])
def test_ordinary_relative_paths_are_taken(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a\nb", "a\0b", "a\x7fb", "a\u202eb",
     "..\\a", "C:\\a", "/../a", "a/..", "a\x1b[2J", "a\x85", "a\u2028b", "a\u2066b", "\ufeffa", "a\ud800",
     "x" * 201, "a/" * 300 + "a"],
)  # fmt: skip
def test_paths_that_could_lead_astray_are_refused(path: str) -> None:
    assert path_problem(path) is not None


def test_problems_point_at_their_files() -> None:
    found = path_problems(["a", "../b", "a", "d", "d/e"])
    assert [(p.pointer, p.code) for p in found] == [
        ("/files/1/path", "bad_path"),
        ("/files/2/path", "duplicate_path"),
        ("/files/3/path", "duplicate_path"),
    ]
