"""A model folder and its records for ``quick_child``, which computes nothing: made without torch, in milliseconds."""

import json
import random
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.builders.built import Built

WEIGHTS = "model.safetensors"
_FLOATS = 16_384


def quick_model(folder: Path, seed: int = 0, *, writers: int = 60) -> Built:
    """An image classifier by its files' looks, and two records of each of ``writers`` people."""
    target = folder / "model"
    target.mkdir(parents=True)
    (target / "config.json").write_text('{"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}')
    (target / WEIGHTS).write_bytes(_safetensors(random.Random(seed)))
    rows = [(f"r-{i:03d}", f"writer-{i // 2:02d}", "train") for i in range(2 * writers)]
    rows += [(f"t-{i:03d}", None, "test") for i in range(20)]
    columns = ("record_id", "subject_id", "split")
    table = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
    pixels = pa.array([bytes(64)] * len(rows), pa.binary())
    pq.write_table(pa.table({**table, "image": pixels, "label": [0] * len(rows)}), folder / "records.parquet")
    named = {name: name for name in (*columns, "image", "label")}
    return Built(target, folder / "records.parquet", "image-classification", named, (8, 8, 1))


def _safetensors(rng: random.Random) -> bytes:
    data = rng.randbytes(4 * _FLOATS)
    head = json.dumps({"weight": {"dtype": "F32", "shape": [_FLOATS], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(head)) + head + data
