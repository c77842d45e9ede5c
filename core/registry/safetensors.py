"""The header of a safetensors file, checked without loading a tensor.

Layout: eight bytes little-endian header length, that many bytes of JSON (tensor name to dtype, shape and byte range
within the rest), then the tensors without gaps.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, Final, cast

from core.platform.bounded_json import loads

LENGTH_BYTES: Final = 8
LONGEST_HEADER: Final = 100_000_000
_MOST_DIMENSIONS: Final = 64
"""As many as torch has. The product of a million large numbers would take hours."""
_METADATA: Final = "__metadata__"
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64,
}  # fmt: skip


class BadHeader(Exception):
    """The bytes are not a safetensors file."""


class Truncated(BadHeader):
    """The file ends before its header says."""


def header_length(first: bytes, *, file_bytes: int) -> int:
    """The length of the JSON header from the file's first eight bytes. Raises ``BadHeader`` or ``Truncated``."""
    if len(first) < LENGTH_BYTES:
        raise Truncated("the file is shorter than a header's length field")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > LONGEST_HEADER:
        raise BadHeader(f"its header claims more than {LONGEST_HEADER} bytes")
    if LENGTH_BYTES + length > file_bytes:
        raise Truncated("the file ends within its header")
    return length


def tensor_names(header: bytes, *, data_bytes: int) -> frozenset[str]:
    """The tensors a header declares, once every one has its bytes and there are none besides.

    Raises ``Truncated`` when the file holds fewer bytes than declared, ``BadHeader`` for anything else.
    """
    declared = _parsed(header)
    ranges = sorted(_range(entry) for name, entry in declared.items() if name != _METADATA)
    position = 0
    for begin, end in ranges:
        if begin != position:
            raise BadHeader("its tensors overlap or leave gaps")
        position = end
    if position > data_bytes:
        raise Truncated(f"{position - data_bytes} bytes of its tensors are missing")
    if position < data_bytes:
        raise BadHeader("it holds bytes that belong to no tensor")
    return frozenset(name for name in declared if name != _METADATA)


def _parsed(header: bytes) -> Mapping[str, Any]:
    try:
        declared = loads(header, object_pairs_hook=_unique)
    except ValueError:
        raise BadHeader("its header is not JSON with unique names") from None
    if not isinstance(declared, dict):
        raise BadHeader("its header is not a JSON object")
    return cast("dict[str, Any]", declared)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is used twice")
    return found


def _range(entry: Any) -> tuple[int, int]:
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    shape, offsets = _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    bits = _BITS.get(str(fields.get("dtype")))
    if bits is None or shape is None or len(shape) > _MOST_DIMENSIONS or offsets is None or len(offsets) != 2:
        raise BadHeader("its header describes a tensor wrongly")
    begin, end = offsets
    if begin > end or (end - begin) * 8 != prod(shape) * bits:
        raise BadHeader("a tensor's shape does not fit its bytes")
    return begin, end


def _counts(value: Any) -> list[int] | None:
    """A list of whole numbers from 0, None for anything else."""
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    good = all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63 for item in items)
    return items if good else None
