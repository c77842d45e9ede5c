"""Which rows are forgotten, retained and held out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.unlearning.failures import UnlearningError
from core.unlearning.selection import read_selection
from tests.unit.unlearning.places import places, write_selection


def test_sets_are_read_in_reading_order(tmp_path: Path) -> None:
    table = {"set": ["retain", "forget", "retain"], "record_id": ["c", "b", "a"], "file": [1, 0, 0], "row": [0, 5, 9]}
    pq.write_table(pa.table(table), tmp_path / "selection.parquet")
    selection = read_selection(tmp_path / "selection.parquet", files=2)
    assert selection.forget.row.tolist() == [5]
    assert (selection.retain.file.tolist(), selection.retain.row.tolist()) == ([0, 1], [9, 0])
    assert (len(selection.holdout), len(selection.earlier), selection.earlier_runs) == (0, 0, ())


def test_records_forgotten_earlier_come_with_the_run_that_forgot_them(tmp_path: Path) -> None:
    table = {
        "set": ["forget", "retain", "earlier", "earlier"],
        "record_id": ["a", "b", "c", "d"],
        "file": [0, 0, 1, 0],
        "row": [0, 1, 7, 9],
        "run_id": [None, None, "run_1", "run_2"],
    }
    pq.write_table(pa.table(table), tmp_path / "selection.parquet")
    selection = read_selection(tmp_path / "selection.parquet", files=2)
    assert (selection.earlier.file.tolist(), selection.earlier.row.tolist()) == ([0, 1], [9, 7])
    assert selection.earlier_runs == ("run_2", "run_1")


@pytest.mark.parametrize(
    ("sets", "code"), [(["retain", "holdout"], "empty_forget_set"), (["forget", "holdout"], "empty_retain_set")]
)
def test_an_empty_set_is_explained(tmp_path: Path, sets: list[str], code: str) -> None:
    with pytest.raises(UnlearningError) as caught:
        read_selection(write_selection(tmp_path / "s.parquet", sets), files=1)
    assert caught.value.code == code


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = write_selection(tmp_path / "s.parquet", ["forget", "retain"])
    with pytest.raises(UnlearningError, match="names a file"):
        read_selection(path, files=0)


def test_an_unreadable_selection_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(b"no parquet")
    with pytest.raises(UnlearningError, match="cannot be read"):
        read_selection(tmp_path / "s.parquet", files=1)


def test_samples_are_seeded_sorted_and_without_repeats() -> None:
    everything = places(*range(1000))
    sample = everything.sample(100, seed=0)
    assert sample.row.tolist() == sorted(set(sample.row.tolist()))
    assert len(sample) == 100
    assert sample.row.tolist() == everything.sample(100, seed=0).row.tolist()
    assert sample.row.tolist() != everything.sample(100, seed=1).row.tolist()
    assert everything.sample(1000, seed=0) is everything
