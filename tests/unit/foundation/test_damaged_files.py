"""Whatever a file holds, reading it ends soon, in little memory and with an error of ours."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzzing.files import fuzz_files
from benchmarks.fuzzing.parsing import read
from benchmarks.fuzzing.seeds import seeds
from core.datasets.columns import ColumnMap
from core.datasets.jsonlines import read_jsonlines
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
