"""Records are found by file and row, in both formats, a group at a time."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.unlearning import records
from core.unlearning.failures import BadRecord, UnlearningError
from core.unlearning.records import Dataset
from tests.unit.unlearning.places import places, source, write_jsonl


def parquet(path: Path, rows: int, *, group: int) -> Path:
    table = pa.table({"id": list(range(rows)), "x": [f"x{i}" for i in range(rows)], "other": [0] * rows})
    pq.write_table(table, path, row_group_size=group)
    return path


def test_parquet_rows_across_row_groups(tmp_path: Path) -> None:
    dataset = Dataset(source({}), [parquet(tmp_path / "a.parquet", 1000, group=300)], ["x"])
    found = list(dataset.read(places(0, 299, 300, 599, 600, 999)))
    assert [record.row for record in found] == [0, 299, 300, 599, 600, 999]
    assert [record.values for record in found] == [{"x": f"x{record.row}"} for record in found]


def test_threads_read_one_file_at_once(tmp_path: Path) -> None:
    dataset = Dataset(source({}), [parquet(tmp_path / "a.parquet", 3000, group=1000)], ["x"])

    def read(first: int) -> list[int]:
        return [record.row for record in dataset.read(places(*range(first, 3000, 7)))]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(7))) == [list(range(first, 3000, 7)) for first in range(7)]


def test_wide_rows_are_decoded_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows of 1 MiB, with room for two at once."""
    monkeypatch.setattr(records, "_BYTES_DECODED_AT_ONCE", 2 * 2**20 + 1000)
    table = pa.table({"x": [bytes([i]) * 2**20 for i in range(10)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    asked: list[int] = []
    honest = pq.ParquetFile.iter_batches

    def iter_batches(file: pq.ParquetFile, batch_size: int, **more: Any) -> Any:
        asked.append(batch_size)
        return honest(file, batch_size=batch_size, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    dataset = Dataset(source({}), [tmp_path / "a.parquet"], ["x"])
    assert [record.values["x"][0] for record in dataset.read(places(1, 4, 9))] == [1, 4, 9]
    assert asked == [2]


def test_a_row_group_is_never_held_whole(tmp_path: Path) -> None:
    table = pa.table({"x": [random.randbytes(2**17) for _ in range(320)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False, write_batch_size=8)
    del table
    dataset = Dataset(source({}), [tmp_path / "a.parquet"], ["x"])
    before, most = pa.total_allocated_bytes(), 0
    for _ in dataset.read(places(*range(320))):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 24 * 2**20  # of 40


def test_json_lines_ignore_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": "ä"}\n\n{"x": "b"}\n   \n{"x": "c", "y": 1}')
    dataset = Dataset(source({}, format="jsonl"), [tmp_path / "a.jsonl"], ["x"])
    assert [record.values["x"] for record in dataset.read(places(0, 1, 2))] == ["ä", "b", "c"]


def test_files_are_told_apart(tmp_path: Path) -> None:
    files = [write_jsonl(tmp_path / f"{name}.jsonl", [{"x": name}, {"x": name * 2}]) for name in "ab"]
    dataset = Dataset(source({}, format="jsonl"), files, ["x"])
    (record,) = dataset.read(places(1, file=1))
    assert (record.file, record.row, record.values["x"]) == ("b.jsonl", 1, "bb")


def test_groups_are_numbered_across_files(tmp_path: Path) -> None:
    files = [parquet(tmp_path / f"{name}.parquet", 10, group=5) for name in "ab"]
    dataset = Dataset(source({}), files, ["x"])
    first, second = dataset.groups(places(0, 4, 5, 9)), dataset.groups(places(0, 9, file=1))
    assert first[0] == first[1] != first[2] == first[3]
    assert not set(first) & set(second)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnlearningError, match="has no column 'y'"):
        Dataset(source({}), [parquet(tmp_path / "a.parquet", 3, group=3)], ["y"])


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    dataset = Dataset(source({}), [parquet(tmp_path / "a.parquet", 3, group=3)], ["x"])
    with pytest.raises(UnlearningError, match=r"a\.parquet has no row 3"):
        list(dataset.read(places(3)))


@pytest.mark.parametrize(("line", "why"), [("{", "not a JSON object"), ("[1]", "not a JSON object"), ("{}", "'x'")])
def test_a_bad_line_is_named_by_its_place(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"x": 1}}\n{line}\n')
    dataset = Dataset(source({}, format="jsonl"), [tmp_path / "a.jsonl"], ["x"])
    with pytest.raises(BadRecord, match=rf"row 1 of a\.jsonl.*{why}"):
        list(dataset.read(places(0, 1)))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UnlearningError, match="cannot be opened"):
        Dataset(source({}), [tmp_path / "a.parquet"], ["x"])
