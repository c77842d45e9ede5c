"""Small valid files that the fuzzer damages, and bombs: small files that would take gigabytes when read."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from core.datasets.columns import ColumnMap
from core.datasets.reading import Layout

_TEXT: Final = Layout(ColumnMap("id", subject_id="who", split="part", text="t", identities={"email": "mail"}))
_PICTURES: Final = Layout(ColumnMap("id", image="img", label="y"))
_PIXELS: Final = Layout(ColumnMap("id", image="img", label="y"), (2, 2, 1))

LAYOUTS: Final[Mapping[str, Layout]] = {
    "text.parquet": _TEXT,
    "pictures.parquet": _PICTURES,
    "pixels.parquet": _PIXELS,
    "text.jsonl": _TEXT,
    "pixels.jsonl": _PIXELS,
}
"""How each kind of data file is to be understood."""
IMAGES: Final = ("image.png", "image.jpeg")


def _picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (8, 8), bytes(range(192))).save(out, kind)
    return out.getvalue()


def _rows(layout: Layout, count: int = 40) -> list[dict[str, Any]]:
    if layout is _TEXT:
        named = {"who": "ada", "part": "train", "mail": "ada@example.org"}
        return [{"id": f"r-{i}", "t": f"text {i % 7}", **named} for i in range(count)]
    image: Any = {"bytes": _picture("PNG"), "path": "a.png"} if layout is _PICTURES else list(range(4))
    return [{"id": f"r-{i}", "img": image, "y": i % 10} for i in range(count)]


def _parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, **options)
    return out.getvalue()


def _data_file(kind: str) -> bytes:
    rows = _rows(LAYOUTS[kind])
    if kind.endswith(".parquet"):
        return _parquet(rows, row_group_size=16, compression="zstd" if kind == "text.parquet" else "snappy")
    return "\n".join(json.dumps(row) for row in rows).encode()


def safetensors(shapes: Mapping[str, list[int]]) -> bytes:
    """A file of float32 zeros."""
    header, place = dict[str, Any](), 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    return _with_header(json.dumps(header).encode()) + bytes(place)


def _with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


_WEIGHTS: Final = {"w": [2, 3], "b": [3]}
_CONFIG: Final = json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 8}).encode()


def _whole() -> dict[str, bytes]:
    return {"config.json": _CONFIG, "model.safetensors": safetensors(_WEIGHTS)}


def _in_parts() -> dict[str, bytes]:
    index = json.dumps({"weight_map": dict.fromkeys(_WEIGHTS, "part-1.safetensors")}).encode()
    parts = {"part-1.safetensors": safetensors(_WEIGHTS)}
    return {"config.json": _CONFIG, "model.safetensors.index.json": index, **parts}


def _adapter() -> dict[str, bytes]:
    settings = json.dumps({"peft_type": "LORA", "auto_mapping": {"parent_library": "transformers.models.llama"}})
    base = {f"base/{name}": content for name, content in _whole().items()}
    return {"adapter_config.json": settings.encode(), "adapter_model.safetensors": safetensors({"a": [2]}), **base}


FOLDERS: Final[Mapping[str, Callable[[], dict[str, bytes]]]] = {
    "whole": _whole,
    "parts": _in_parts,
    "adapter": _adapter,
}


def seeds() -> dict[str, bytes]:
    """A valid file of every kind."""
    data = {kind: _data_file(kind) for kind in LAYOUTS}
    images = {kind: _picture(kind.rpartition(".")[2].upper()) for kind in IMAGES}
    folders = {f"{name}:{path}": content for name, make in FOLDERS.items() for path, content in make().items()}
    return {**data, **images, **folders}


def bombs() -> list[tuple[str, bytes]]:
    """Small files, by kind, that would take gigabytes or hours if their claims were believed."""
    shape = {"w": {"dtype": "F32", "shape": [2**62] * 200_000, "data_offsets": [0, 4]}}
    weights = "whole:model.safetensors"
    return [
        ("text.parquet", _repeated_text()),
        ("text.parquet", _large_page()),
        ("text.parquet", _deep_column(400)),
        ("pixels.parquet", _long_list(20_000_000)),
        ("image.png", _claimed_png(60_000, 60_000)),
        ("image.png", _claimed_png(2**31 - 1, 2**31 - 1)),
        ("pixels.jsonl", b'{"id": "a", "y": 1, "img": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}"),
        ("text.jsonl", b'{"id": "a", "t": "x", "z": [' + b"[]," * 5_000_000 + b"1]}"),
        ("text.jsonl", b'{"id": ' + b"9" * 100_000 + b', "t": "x"}'),
        (weights, _with_header(json.dumps(shape).encode())),
        (weights, _with_header(b"[" * 100_000)),
        (weights, _with_header(b'{"a":[' + b"[]," * 5_000_000 + b"1]}")),
        (weights, struct.pack("<Q", 99_999_999) + b"{}"),
        ("whole:config.json", b"[" * 100_000),
        ("whole:config.json", b'{"a":[' + b"[]," * 5_000_000 + b"1]}"),
    ]


def _repeated_text() -> bytes:
    """Fifty kilobytes for 20,000 rows that all repeat one text of 20 MB."""
    rows = 20_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 20_000_000]))
    ids = pa.array([str(i) for i in range(rows)])
    other = pa.array(["train"] * rows)
    table = pa.table({"id": ids, "t": text, "who": other, "part": other, "mail": other})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", dictionary_pagesize_limit=2**30)
    return out.getvalue()


def _large_page() -> bytes:
    row = {"id": "a", "t": "x" * 200_000_000, "who": "a", "part": "train", "mail": "m"}
    return _parquet([row], compression="zstd", use_dictionary=False)


def _long_list(length: int) -> bytes:
    image = pa.ListArray.from_arrays(pa.array([0, length], pa.int32()), pa.repeat(pa.scalar(0, pa.int32()), length))
    out = io.BytesIO()
    pq.write_table(pa.table({"id": ["a"], "img": image, "y": [1]}), out, data_page_size=2**30)
    return out.getvalue()


def _deep_column(depth: int) -> bytes:
    kind: Any = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    row = _rows(_TEXT, 1)[0]
    columns = {name: pa.array([value]) for name, value in row.items()}
    out = io.BytesIO()
    pq.write_table(pa.table({**columns, "deep": pa.nulls(1, kind)}), out)
    return out.getvalue()


def _claimed_png(width: int, height: int) -> bytes:
    """A PNG that says it is of this size, with a few bytes of data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
