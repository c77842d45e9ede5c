"""Small datasets and selections on disk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.unlearning.job import DatasetSource
from core.unlearning.selection import Places


def places(*rows: int, file: int = 0) -> Places:
    return Places(np.full(len(rows), file, dtype=np.int64), np.array(rows, dtype=np.int64))


def source(columns: Mapping[str, str], **more: Any) -> DatasetSource:
    return DatasetSource(format=more.pop("format", "parquet"), columns=columns, files=(), fingerprint="", **more)


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_selection(path: Path, sets: Sequence[str]) -> Path:
    """One file; ``sets[i]`` is the set of row i, "" for a row that is in none."""
    rows = sorted((name, row) for row, name in enumerate(sets) if name)
    table = {
        "set": [name for name, _ in rows],
        "record_id": [f"r{row}" for _, row in rows],
        "file": pa.array([0] * len(rows), pa.int32()),
        "row": pa.array([row for _, row in rows], pa.int64()),
    }
    pq.write_table(pa.table(table), path)
    return path
