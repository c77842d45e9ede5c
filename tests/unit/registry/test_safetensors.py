"""Headers of safetensors files: true ones pass, and nothing else does."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from core.registry.safetensors import BadHeader, Truncated, header_length, tensor_names

EMPTY = b'{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'


def check(content: bytes) -> frozenset[str]:
    length = header_length(content[:8], file_bytes=len(content))
    return tensor_names(content[8 : 8 + length], data_bytes=len(content) - 8 - length)


def file_of(header: Any, data: bytes = b"", *, raw: bytes | None = None) -> bytes:
    text = raw if raw is not None else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("st") / "m.safetensors"
    tensors = {"a": np.ones((3, 2), np.float32), "b": np.zeros((0,), np.float16), "c": np.arange(5, dtype=np.int64)}
    save_file(tensors, path, metadata={"format": "pt"})
    return path.read_bytes()


def test_a_file_of_the_library_passes(genuine: bytes) -> None:
    assert check(genuine) == {"a", "b", "c"}


def test_every_shorter_file_is_truncated(genuine: bytes) -> None:
    for end in range(len(genuine)):
        with pytest.raises(Truncated):
            check(genuine[:end])


def test_bytes_too_many_are_noticed(genuine: bytes) -> None:
    with pytest.raises(BadHeader, match="no tensor"):
        check(genuine + b"x")


@pytest.mark.parametrize(
    "content",
    [
        file_of(None, raw=b"not json"),
        file_of(None, raw=b'{"a": \xff}'),
        file_of([]),
        file_of({"a": 1}),
        file_of({"a": tensor("F31")}, b"\0" * 8),
        file_of({"a": tensor(shape=(3,))}, b"\0" * 8),
        file_of({"a": tensor(shape=(-2,))}, b"\0" * 8),
        file_of({"a": tensor(shape=(2.0,))}, b"\0" * 8),
        file_of({"a": tensor(shape=(True, 2))}, b"\0" * 8),
        file_of({"a": tensor(offsets=(8, 0))}, b"\0" * 8),
        file_of({"a": tensor(offsets=(4, 12))}, b"\0" * 12),
        file_of({"a": tensor(offsets=(0, 8, 8))}, b"\0" * 8),
        file_of({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8),
        file_of({"a": tensor(), "b": tensor()}, b"\0" * 8),
        file_of({"a": tensor(), "b": tensor(offsets=(16, 24))}, b"\0" * 24),
        file_of(None, raw=b'{"a": %s, "a": %s}' % (EMPTY, EMPTY)),
        file_of(None, raw=b"[" * 100_000),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{}",
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(content: bytes) -> None:
    with pytest.raises(BadHeader):
        check(content)


@given(st.binary(max_size=200))
def test_any_bytes_pass_or_are_refused_in_our_words(content: bytes) -> None:
    try:
        check(content)
    except BadHeader:
        return


@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_any_altered_byte_passes_or_is_refused_in_our_words(genuine: bytes, position: int, value: int) -> None:
    altered = bytearray(genuine)
    altered[position % len(altered)] = value
    try:
        assert all(isinstance(name, str) for name in check(bytes(altered)))
    except BadHeader:
        return
