"""A record is encoded once, comes back as it was, and leaves no file behind."""

import os
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from core.unlearning.batches import ExampleSet, Family, RetainBatches
from core.unlearning.cache import ExampleCache
from core.unlearning.example import Example
from core.unlearning.failures import BadRecord
from core.unlearning.records import Dataset, Record
from tests.unit.unlearning.places import places, source

VALUES = st.one_of(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)),
    arrays.arrays(np.int64, st.tuples(st.integers(0, 20))),
)


@given(values=VALUES, labels=arrays.arrays(np.int64, st.tuples(st.integers(0, 5))))
def test_an_example_comes_back_bit_for_bit(values: Any, labels: Any) -> None:
    cache = ExampleCache(Path(tempfile.gettempdir()))
    cache.add(3, 7, Example(values, labels))
    found = cache.get(3, 7)
    assert (found.values.dtype, found.values.shape) == (values.dtype, values.shape)
    assert found.values.tobytes() == values.tobytes()
    assert found.labels.tobytes() == labels.tobytes()


def known(cache: ExampleCache, *rows: int, file: int = 0) -> list[bool]:
    where = places(*rows, file=file)
    return cache.known(where.file, where.row).tolist()


def one(value: float, size: int = 4) -> Example:
    return Example(np.full(size, value, dtype=np.float32), np.array([1]))


def test_rows_and_files_are_told_apart(tmp_path: Path) -> None:
    cache = ExampleCache(tmp_path)
    for file, row in ((0, 0), (0, 5), (2, 5)):
        cache.add(file, row, one(10 * file + row))
    assert known(cache, 0, 4, 5, 999) == [True, False, True, False]
    assert known(cache, 0, 5, file=2) == [False, True]
    assert known(cache, 5, file=1) == [False]
    assert [cache.get(file, row).values[0] for file, row in ((0, 0), (0, 5), (2, 5))] == [0, 5, 25]


def test_it_takes_no_more_than_it_may(tmp_path: Path) -> None:
    cache = ExampleCache(tmp_path, most_bytes=200)
    for row in range(5):  # 64 bytes of head, 8 of label, 16 of values
        cache.add(0, row, one(row))
    assert known(cache, *range(5)) == [True, True, False, False, False]


def test_a_full_disk_ends_the_adding_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ExampleCache(tmp_path)
    cache.add(0, 0, one(1.0))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        cache.add(0, 1, one(2.0))
    cache.add(0, 2, one(3.0))
    assert known(cache, 0, 1, 2) == [True, False, False]


def test_it_has_no_name_that_could_outlive_the_process(tmp_path: Path) -> None:
    cache = ExampleCache(tmp_path)
    cache.add(0, 0, one(1.0))
    assert list(tmp_path.iterdir()) == []


class Counting:
    """Numbers become examples; counts how often each row is encoded."""

    columns = ("x",)

    def __init__(self) -> None:
        self.times: dict[int, int] = {}

    def encode(self, record: Record) -> Example:
        if record.values["x"] is None:
            raise record.bad("it holds nothing")
        self.times[record.row] = self.times.get(record.row, 0) + 1
        return one(record.values["x"])


def dataset_of(folder: Path, values: Sequence[float | None], group: int = 10) -> Dataset:
    path = folder / "a.parquet"
    pq.write_table(pa.table({"x": pa.array(values, pa.float32())}), path, row_group_size=group)
    return Dataset(source({}), [path], ["x"])


def numbers(batches: RetainBatches, count: int) -> list[list[float]]:
    return [[float(example.values[0]) for example in batch] for batch in islice(batches, count)]


def test_with_a_cache_the_batches_are_the_same_and_each_record_is_encoded_once(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [float(i) for i in range(100)])
    without, with_cache = Counting(), Counting()
    cache, everything = ExampleCache(tmp_path), places(*range(100))
    plain = RetainBatches(dataset, cast("Family", without), everything, batch_size=10, seed=1)
    cached = RetainBatches(dataset, cast("Family", with_cache), everything, batch_size=10, seed=1, cache=cache)
    assert numbers(cached, 50) == numbers(plain, 50)
    some = ExampleSet(dataset, cast("Family", with_cache), places(3, 50, 99), cache=cache, hold_bytes=0)
    for _ in range(2):
        assert [float(example.values[0]) for chunk in some.chunks(2) for example in chunk] == [3, 50, 99]
    assert set(with_cache.times.values()) == {1}
    assert max(without.times.values()) > 1


def test_a_bad_record_is_named_though_it_was_read_ahead(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [*(float(i) for i in range(20)), None, *(float(i) for i in range(20))])
    batches = RetainBatches(dataset, cast("Family", Counting()), places(*range(41)), batch_size=4, seed=1)
    with pytest.raises(BadRecord, match=r"row 20 of a\.parquet"):
        numbers(batches, 11)
