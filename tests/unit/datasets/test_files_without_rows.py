"""Files written anew hold the rows that stay, as they were and in order, and nothing else."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.datasets import rewriting
from core.datasets.places import Places
from core.datasets.rewriting import Unwritable, rewrite_jsonlines, rewrite_parquet

FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CODECS = st.sampled_from(["zstd", "snappy", "none", "gzip"])


def quiet() -> None:
    """Nobody's lease."""


def table(rows: int) -> pa.Table:
    fields = {
        "id": pa.array([f"r-{i}" for i in range(rows)]),
        "picture": pa.array([{"bytes": bytes([i % 256]) * (i % 7), "path": None} for i in range(rows)]),
        "words": pa.array([[f"w{j}" for j in range(i % 3)] if i % 4 else None for i in range(rows)]),
        "kind": pa.array([f"k{i % 5}" for i in range(rows)]).dictionary_encode(),
        "when": pa.array(range(rows), pa.timestamp("us", tz="UTC")),
    }
    made = pa.table(fields)
    return made.replace_schema_metadata({"huggingface": '{"info": 1}'})


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    rows = draw(st.integers(1, 60))
    return rows, draw(st.integers(1, 25)), sorted(draw(st.sets(st.integers(0, rows - 1))))


@FAST
@given(case=cases(), codec=CODECS)
def test_parquet_keeps_the_other_rows_as_they_were(
    tmp_path: Path, case: tuple[int, int, list[int]], codec: str
) -> None:
    rows, group, gone = case
    before, old, new = table(rows), tmp_path / "old", tmp_path / "new"
    pq.write_table(before, old, row_group_size=group, compression=codec)
    left = rewrite_parquet(old, new, gone, quiet)
    after = pq.read_table(new)
    assert left == after.num_rows == rows - len(gone)
    assert after.schema.equals(pq.read_table(old).schema, check_metadata=True)
    assert after.to_pylist() == [row for i, row in enumerate(before.to_pylist()) if i not in set(gone)]


def test_codecs_dictionaries_and_groups_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    codecs = {"id": "zstd", "kind": "gzip", "when": "snappy", "picture.bytes": "none"}
    pq.write_table(
        table(60), old, row_group_size=20, compression=codecs, use_dictionary=["kind"], version="2.4",
        write_statistics=["id"], write_page_index=True,
    )  # fmt: skip
    rewrite_parquet(old, new, [0, *range(20, 40)], quiet)
    was, now = pq.read_metadata(old), pq.read_metadata(new)
    assert [now.row_group(i).num_rows for i in range(now.num_row_groups)] == [19, 20]
    assert now.format_version == was.format_version
    for i in range(was.num_columns):
        before, after = was.row_group(0).column(i), now.row_group(0).column(i)
        for name in ("path_in_schema", "compression", "is_stats_set", "has_dictionary_page", "has_offset_index"):
            assert getattr(after, name) == getattr(before, name), (before.path_in_schema, name)


def test_a_large_group_is_cut_into_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "_PIECE_BYTES", 4000)
    monkeypatch.setattr(rewriting, "_DECODED_AT_ONCE", 1000)
    old, new, beats = tmp_path / "old", tmp_path / "new", list[int]()
    pq.write_table(pa.table({"id": [f"r-{i:04}" for i in range(2000)]}), old)
    rewrite_parquet(old, new, [3], lambda: beats.append(1))
    assert pq.read_metadata(new).num_row_groups > 3
    assert len(beats) > 3
    assert pq.read_table(new)["id"].to_pylist() == [f"r-{i:04}" for i in range(2000) if i != 3]


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(Unwritable):
        rewrite_parquet(tmp_path / "old", tmp_path / "new", [0], quiet)


@FAST
@given(case=cases(), blank=st.booleans(), ends=st.booleans())
def test_json_lines_keep_the_other_lines_byte_for_byte(
    tmp_path: Path, case: tuple[int, int, list[int]], blank: bool, ends: bool
) -> None:
    rows, _, gone = case
    lines = [json.dumps({"id": i, "é": "\u2028"}, ensure_ascii=bool(i % 2)).encode() + b"\n" for i in range(rows)]
    kept = [line for i, line in enumerate(lines) if i not in set(gone)]
    gap = [b" \n"] if blank else []
    old = b"".join([*gap, *lines])
    if not ends and (rows - 1) in gone:
        old = old[:-1]
    (tmp_path / "old").write_bytes(old)
    assert rewrite_jsonlines(tmp_path / "old", tmp_path / "new", gone, quiet) == len(kept)
    assert (tmp_path / "new").read_bytes() == b"".join([*gap, *kept])


@FAST
@given(rows=st.integers(1, 40), steps=st.lists(st.sets(st.integers(0, 39)), max_size=3))
def test_a_place_is_found_in_every_edition(rows: int, steps: list[set[int]]) -> None:
    present, gone = list(range(rows)), set[int]()
    for leaving in steps:
        present = [row for row in present if row not in leaving]
        gone |= {row for row in leaving if row < rows}
        places = Places.without((0, row) for row in sorted(gone))
        assert [places.row(0, row) for row in present] == list(range(len(present)))
        assert places.moved([("a", 1, 7)]) == [("a", 1, 7)]
