"""Whatever a file holds, reading it ends soon, in little memory and with an error of ours."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fuzzing.files import fuzz_files
from benchmarks.fuzzing.parsing import read
from benchmarks.fuzzing.seeds import seeds
from core.datasets.columns import ColumnMap
from core.datasets.jsonlines import read_jsonlines
from core.datasets.parquet import read_parquet
from core.datasets.probing import FooterProbe
from core.datasets.reading import BadData, Layout
from core.registry.safetensors import BadHeader, tensor_names


def test_damaged_files_and_bombs_are_refused(tmp_path: Path) -> None:
    outcome = fuzz_files(tmp_path, seed=0, count=300)
    assert outcome.findings == []
    assert outcome.files.total() == 300
    refused = {answer.removeprefix("refused ") for answer in outcome.files if answer.startswith("refused ")}
    assert {"unreadable_file", "bad_record", "invalid_model_folder", "truncated_weights"} <= refused, outcome.files


def test_the_files_are_accepted_before_they_are_damaged(tmp_path: Path) -> None:
    for number, (kind, content) in enumerate(seeds().items()):
        path = tmp_path / str(number)
        path.write_bytes(content)
        assert read(kind, path) == "accepted", kind


def test_dimensions_that_nothing_has_are_refused_at_once() -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**62] * 200_000, "data_offsets": [0, 4]}}).encode()
    with pytest.raises(BadHeader, match="describes a tensor wrongly"):
        tensor_names(header, data_bytes=4)


def test_deep_lists_of_pixels_are_counted_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "a", "y": 1, "img": ' + "[" * 900 + "1, 2" + "]" * 900 + "}")
    layout = Layout(ColumnMap("id", image="img", label="y"), (1, 1, 1))
    with pytest.raises(BadData, match="number of pixel values"):
        list(read_jsonlines(path, layout))


@pytest.fixture
def fatal(tmp_path: Path) -> Path:
    """A file of which the library ends the process: a column that has levels, described as one that needs none."""
    path = tmp_path / "fatal.parquet"
    pq.write_table(pa.table({"x": pa.array([1, None])}), path)
    optional, required = b"\x25\x02\x18\x01x", b"\x25\x00\x18\x01x"
    content = path.read_bytes()
    assert content.count(optional) == 1
    path.write_bytes(content.replace(optional, required))
    return path


def test_a_file_that_ends_who_looks_into_it_is_refused(fatal: Path) -> None:
    with pytest.raises(BadData, match="description can be read"):
        list(read_parquet(fatal, Layout(ColumnMap("id", image="img", label="y"), (1, 1, 1))))


def test_a_probe_goes_on_after_its_process_has_died(fatal: Path, tmp_path: Path) -> None:
    probe, good, bad = FooterProbe(), tmp_path / "good.parquet", tmp_path / "bad.parquet"
    pq.write_table(pa.table({"x": [1]}), good)
    bad.write_bytes(good.read_bytes()[:-20])
    assert [probe.readable(path) for path in (good, fatal, good, bad, tmp_path / "none")] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert probe._process is not None
    probe._process.kill()
    assert probe.readable(good)
    probe.close()
    assert probe._process is None
